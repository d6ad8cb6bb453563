"""Artifacts and activations as rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from pydantic_core import from_json, to_json

from flock.model.artifact import UNTAGGED, Record
from flock.model.ledger import Activation, State
from flock.model.visibility import PUBLIC
from flock.ports import Types
from flock.stores.activating import obstacle
from flock.stores.codec import Encoded, decode, pruned, visibility_from, visibility_text
from flock.stores.sqlite.later import Row, Statement
from flock.stores.sqlite.statements import SQL

_HEX = frozenset("0123456789abcdef")
_LARGEST = (1 << 63) - 1  # integer of SQLite
_MOST = 2_000  # records that a writer remembers


class Records:
    """Reads artifacts on one connection; `known` holds some that were made or met of late, by sequence."""

    def __init__(self, db: sqlite3.Connection, types: Types) -> None:
        """Find payload classes among these."""
        self._db = db
        self._types = types
        self.known: dict[int, Record] = {}

    def tidy(self) -> None:
        """End a step: remember no more than so many."""
        if len(self.known) > _MOST:
            self.known.clear()

    def forget(self) -> None:
        """Remember nothing: something may have changed."""
        self.known.clear()

    def of(self, rows: Iterable[Row]) -> list[Record]:
        """Make records of rows."""
        return [self.one(row) for row in rows]

    def by_sequence(self, sequences: Sequence[int]) -> list[Record]:
        """Give the records at these positions, in the order given."""
        known = self.known
        missing = [sequence for sequence in sequences if sequence not in known]
        if missing:
            several = len(missing) > 1
            rows = self._db.execute(
                SQL["artifacts_by_sequence" if several else "artifact_at"],
                (to_text(missing) if several else missing[0],),
            )
            known.update((record.sequence, record) for record in self.of(rows))
        return [known[sequence] for sequence in sequences if sequence in known]

    def by_id(self, ids: Sequence[str]) -> list[Record]:
        """Give the records of these ids that exist, in the order given."""
        found = {record.id: record for record in self.of(self._db.execute(SQL["artifacts_by_id"], (to_text(ids),)))}
        return [found[each] for each in ids if each in found]

    def activation(self, row: Row, *, poison: int = 0) -> Activation:
        """Make an activation of its row; `poison` crashes, and inputs that can't be read, are an obstacle."""
        (
            number, id, agent, subscription, run, runs, priority, cause, inputs, ordinal, depth, state, epoch, attempt,
            deferrals, crashes, due, fire_time, iteration, trace_context, error, *_,
        ) = row  # fmt: skip
        parts = from_json(inputs)
        is_batch = bool(parts) and isinstance(parts[0], list)
        sequences = [sequence for part in parts for sequence in part] if is_batch else parts
        records = self.by_sequence(sequences)
        groups: tuple[tuple[Record, ...], ...] = ()
        if is_batch:
            groups = tuple([tuple(self.by_sequence(part)) for part in parts])
            if all(len(part) == 1 for part in parts):
                records.sort(key=_sequence)
        return Activation(
            id=id,
            agent=agent,
            subscription=subscription,
            inputs=tuple(records),
            run=run,
            runs=(run,) if runs is None else tuple(from_json(runs)),
            priority=priority,
            order=number,
            trigger=cause,
            groups=groups,
            is_batch=is_batch,
            ordinal=ordinal,
            depth=depth,
            state=State(state),
            epoch=epoch,
            attempt=attempt,
            deferrals=deferrals,
            due=due,
            fire_time=fire_time,
            iteration=iteration,
            trace_context=trace_context,
            error=error,
            obstacle=_obstacle(records, crashes, poison),
        )

    def one(self, row: Row) -> Record:
        """Make a record of its row."""
        (
            sequence, id, run, type, version, payload, created, produced_by, partition_key, tags, visibility, parents,
            activation, slot, trace_context, depth, *_,
        ) = row  # fmt: skip
        snapshot = pruned(type, version) if payload is None else decode(type, version, payload, self._types)
        return Record(
            id=id,
            type=type,
            snapshot=snapshot,
            run=run,
            created=created,
            produced_by=produced_by,
            partition_key=partition_key,
            tags=UNTAGGED if tags is None else frozenset(from_json(tags)),
            visibility=visibility_from(visibility),
            parents=() if parents is None else tuple(from_json(parents)),
            activation_id=activation,
            trace_context=trace_context,
            depth=depth,
            slot=slot,
            sequence=sequence,
        )


def find_row(db: sqlite3.Connection, id: str) -> Row | None:
    """Look an activation up by its id."""
    _, _, number = id.rpartition("-")
    row: Row | None = None
    if number and set(number) <= _HEX:
        row = db.execute(SQL["activation"], (int(number, 16) & _LARGEST, id)).fetchone()
    return row or db.execute(SQL["alias"], (id,)).fetchone()


def to_text(value: object) -> str:
    """Give a list as JSON."""
    return to_json(value).decode()


def _obstacle(inputs: Iterable[Record], crashes: int, poison: int) -> str | None:
    if poison and crashes >= poison:
        times = "once" if crashes == 1 else f"{crashes} times in a row"
        return f"its process has died {times} while it ran"
    return obstacle(inputs)


def artifact_row(record: Record, encoded: Encoded) -> Row:
    """Give the row of a record that has its sequence."""
    return (
        record.sequence, record.id, record.run, record.type, encoded.version, encoded.payload, record.created,
        record.produced_by, record.partition_key, to_text(sorted(record.tags)) if record.tags else None,
        visibility_text(record.visibility), to_text(record.parents) if record.parents else None,
        record.activation_id, record.slot, record.trace_context, record.depth,
    )  # fmt: skip


def new_artifact(record: Record, encoded: Encoded) -> tuple[Statement, Row]:
    """Give the row of a record that has its sequence, and the statement that adds it."""
    tagged = record.tags or record.partition_key is not None or record.trace_context is not None
    if tagged or record.visibility is not PUBLIC:
        return "add_artifact", artifact_row(record, encoded)
    row = (
        record.sequence, record.id, record.run, record.type, encoded.version, encoded.payload, record.created,
        record.produced_by, record.depth,
    )  # fmt: skip
    parents = record.parents
    if not parents and record.activation_id is None:
        return "add_plain_artifact", row
    return "add_plain_output", (*row, to_text(parents) if parents else None, record.activation_id, record.slot)


def new_activation(activation: Activation, worker: int, made: int) -> tuple[Statement, Row]:
    """Give the row of a new activation, and the statement that adds it."""
    inputs = activation.inputs
    leased = activation.state is State.RUNNING
    if leased and len(inputs) == 1 and activation.trigger == "artifact" and not activation.groups:
        return "add_plain_activation", (
            activation.order, activation.id, activation.agent, activation.subscription, activation.run,
            activation.priority, f"[{inputs[0].sequence}]", activation.ordinal, activation.depth, worker, made,
        )  # fmt: skip
    grouped = [[record.sequence for record in group] for group in activation.groups]
    several: Sequence[object] = grouped or [record.sequence for record in inputs]
    return "add_activation", (
        activation.order, activation.id, activation.agent, activation.subscription, activation.run,
        to_text(activation.runs) if len(activation.runs) > 1 else None, activation.priority, activation.trigger,
        to_text(several), activation.ordinal, activation.depth, activation.state.value, activation.epoch,
        activation.attempt, activation.fire_time, activation.iteration, activation.trace_context,
        worker if leased else None, made,
    )  # fmt: skip


def _sequence(record: Record) -> int:
    return record.sequence
