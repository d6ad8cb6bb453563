"""Reads of the file: each sees one consistent state, and waits for no writer."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from flock.board.ports import Fate, StoreInfo
from flock.core.gates import Arrival, slots_of
from flock.model.artifact import Record
from flock.model.events import Waiting, WaitReason
from flock.model.ledger import Activation, Consumption, Progress, Query, State, Target, TimerState
from flock.ports import Types
from flock.stores.collecting import describe, unknown
from flock.stores.sqlite.counting import Counting, Counts, read_run
from flock.stores.sqlite.later import Row
from flock.stores.sqlite.records import Records, find_row
from flock.stores.sqlite.statements import SQL
from flock.stores.sqlite.upkeep import fates, measure

_FEW = 1_000  # artifacts that can be looked through
_REASONS: Mapping[State, WaitReason] = {State.READY: "ready", State.RUNNING: "running", State.DELAYED: "retry"}


class Reading:
    """What one read transaction sees."""

    def __init__(self, db: sqlite3.Connection, types: Types, targets: Mapping[str, Target]) -> None:
        """Read on one connection."""
        self._db = db
        self._records = Records(db, types)
        self._targets = targets

    # ---- counts

    def work(self, run: str | None) -> int:
        """Count what has to end before a run or the board is idle; what no process has the agent of is left out."""
        counts = self._counts(run)
        work = counts.open + counts.timed
        if not work:
            return 0
        unserved = self.unserved()
        if not unserved:
            return work
        (left,) = self._db.execute(SQL["unserved_work"], {"agents": json.dumps(unserved), "run": run}).fetchone()
        return work - int(left)

    def unserved(self) -> list[str]:
        """Name the agents that something waits for and that no process has."""
        return [name for (name,) in self._db.execute(SQL["agents_waited_for"])]

    def progress(self, run: str | None) -> Progress:
        """Count."""
        counting = Counting(self._db)
        counting.load()
        counts = counting.board if run is None else self._counts(run)
        states: dict[str, int] = {}
        if counts.open:
            rows = self._db.execute(SQL["count_states"]) if run is None else self._of_run("count_states_of_run", run)
            states = dict(rows)
        (held,) = self._db.execute(SQL["count_held"], {"run": run}).fetchone()
        (delayed,) = self._db.execute(SQL["count_delayed"], (run, run)).fetchone()
        return Progress(
            known=run is None or bool(counts.name),
            was_cancelled=counts.withdrawn is not None,
            ready=states.get("ready", 0),
            running=states.get("running", 0),
            delayed=states.get("delayed", 0),
            timed=counts.timed,
            succeeded=counts.done,
            failed=counts.failed,
            cancelled=counts.cancelled,
            collecting=held + delayed,
            artifacts=counts.artifacts,
            sequence=counting.sequence,
            newest_failure=counting.newest_failure,
        )

    def _counts(self, run: str | None) -> Counts:
        if run is not None:
            return read_run(self._db, run) or Counts()
        counting = Counting(self._db)
        counting.load()
        return counting.board

    def _of_run(self, name: str, run: str) -> sqlite3.Cursor:
        return self._db.execute(SQL[name], {"run": run})

    def time(self) -> float:
        """Give the time of the last step."""
        counting = Counting(self._db)
        counting.load()
        return counting.time

    # ---- what waits

    def waiting(self, run: str | None) -> list[Waiting]:
        """Describe what waits."""
        return [*self._collected(run), *self._delayed(run), *self._activations(run)]

    def _collected(self, run: str | None) -> Iterator[Waiting]:
        rows = map(_Held._make, self._db.execute(SQL["held_waiting"], {"run": run}).fetchall())
        for _, group in itertools.groupby(rows, key=_place):
            held = list(group)
            first = held[0]
            sequences = [sequence for item in held for part in json.loads(item.parts) for sequence in part]
            records = self._records.by_sequence(sequences)
            target = self._targets.get(first.subscription)
            reason, detail, due = _told(first, held, target)
            yield Waiting(
                reason=reason, agent=first.agent, run=first.scope or records[-1].run, detail=detail, due=due,
                artifacts=tuple([record.id for record in records]), subscription=first.subscription,
            )  # fmt: skip

    def _delayed(self, run: str | None) -> Iterator[Waiting]:
        for due, agent, of, id, subscription in self._db.execute(SQL["delayed_waiting"], (run, run)):
            yield Waiting("after", agent, of, (id,), due, "not visible yet", subscription)

    def _activations(self, run: str | None) -> Iterator[Waiting]:
        missing = set(self.unserved())
        for each in self.open(run):
            here = each.state is not State.READY or each.agent not in missing
            yield Waiting(
                reason=_REASONS[each.state],
                agent=each.agent,
                run=each.run,
                artifacts=tuple([record.id for record in each.inputs]),
                due=each.due,
                detail=each.id if here else f"{each.id}: no process has an agent of this name",
                subscription=each.subscription,
            )

    # ---- activations

    def open(self, run: str | None) -> list[Activation]:
        """Give the open activations (of a run), oldest first."""
        if run is None:
            return self._made(self._db.execute(SQL["open_activations"]))
        return self._made(self._of_run("open_activations_of_run", run))

    def activation(self, id: str) -> Activation | None:
        """Look an activation up."""
        row = find_row(self._db, id)
        return None if row is None else self._records.activation(row)

    def failures(self, run: str | None) -> list[Activation]:
        """Give the failed activations."""
        return self._made(self._db.execute(SQL["failures"], (run, run)))

    def fates(self, id: str) -> list[Fate]:
        """Look up what became of an artifact."""
        return fates(self._db, id)

    def info(self, path: Path) -> StoreInfo:
        """Count and measure."""
        return measure(self._db, path)

    def consumptions(self, id: str) -> list[Consumption]:
        """Look up which activations had an artifact as an input."""
        found = self._db.execute(SQL["artifact_sequence"], (id,)).fetchone()
        rows = () if found is None else self._db.execute(SQL["consumptions"], found)
        return [Consumption(id, agent, activation, state) for agent, activation, state in rows]

    def timers(self) -> dict[str, TimerState]:
        """Give the schedules' state."""
        rows = self._db.execute(SQL["timers"])
        return {agent: TimerState(iteration, fire_time, skipped) for agent, iteration, fire_time, skipped in rows}

    def _made(self, rows: Iterator[Row]) -> list[Activation]:
        return [self._records.activation(row) for row in list(rows)]

    # ---- artifacts

    def get(self, ids: Sequence[str]) -> list[Record]:
        """Look ids up."""
        return self._records.by_id(ids)

    def follow(self, since: int, most: int) -> list[Record]:
        """Read on."""
        return self._records.of(self._db.execute(SQL["follow"], (since, most)))

    def children(self, ids: Sequence[str]) -> list[Record]:
        """Look parents up."""
        return self._records.of(self._db.execute(SQL["children"], {"ids": json.dumps(ids)}))

    def runs(self) -> list[str]:
        """Name the runs."""
        return [name for (name,) in self._db.execute(SQL["run_names"])]

    def kinds(self) -> list[str]:
        """Name the types."""
        return [name for (name,) in self._db.execute(SQL["kinds"])]

    def query(self, query: Query) -> list[Record]:
        """Select."""
        text, parameters = _selection(query, self._narrowest(query))
        return self._records.of(self._db.execute(text, parameters))

    def _narrowest(self, query: Query) -> str:
        """Name the column whose index leads to the fewest rows: of two, SQLite would take either."""
        if query.activation is not None:
            return "activation"
        if query.run is None or not query.types:
            return ""
        if self._counts(query.run).artifacts <= _FEW:
            return "run"
        wanted = {"types": json.dumps(sorted(query.types)), "few": _FEW}
        return "type" if self._db.execute(SQL["is_rare"], wanted).fetchone()[0] else "run"


class _Held(NamedTuple):
    """A row of `held_waiting`."""

    collector: int
    subscription: str
    agent: str
    scope: str
    stage: int
    key: str
    slot: int
    position: int
    arrived: float
    parts: str
    runs: str | None


def _place(item: _Held) -> tuple[int, int, str]:
    return item.collector, item.stage, item.key


def _told(first: _Held, held: Sequence[_Held], target: Target | None) -> tuple[WaitReason, str, float | None]:
    if target is None or first.stage >= len(target.stages):
        return "gate", unknown(len(held)), None
    spec = target.stages[first.stage]
    queues: list[list[Arrival]] = [[] for _ in range(slots_of(spec))]
    for item in held:
        queues[item.slot].append(Arrival(item.arrived, item.position, ()))
    return describe(spec, queues, target.slots)


def _selection(query: Query, narrowest: str) -> tuple[str, list[object]]:
    """Give the statement of a query: fixed words, and the parameters beside them. A plus hides a column's index."""
    words = ["payload IS NOT NULL", "sequence > ?"]
    parameters: list[object] = [query.since]
    types = sorted(query.types)
    for column, condition, value in (
        ("run", "= ?", query.run),
        ("produced_by", "= ?", query.produced_by),
        ("activation", "= ?", query.activation),
        ("sequence", "<= ?", query.until),
        ("type", "= ?", types[0] if len(types) == 1 else None),
        ("type", "IN (SELECT value FROM json_each(?))", json.dumps(types) if len(types) > 1 else None),
    ):
        if value is not None:
            hidden = narrowest not in {"", column} and column != "sequence"
            words.append(f"{'+' if hidden else ''}{column} {condition}")
            parameters.append(value)
    for tag in sorted(query.tags):
        words.append("EXISTS (SELECT 1 FROM json_each(tags) WHERE value = ?)")
        parameters.append(tag)
    parameters += [-1 if query.limit is None else query.limit, query.offset]
    condition = " AND ".join(words)
    return f"SELECT * FROM artifact WHERE {condition} ORDER BY sequence LIMIT ? OFFSET ?", parameters  # noqa: S608
