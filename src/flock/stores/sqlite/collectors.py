"""Collectors in the file: rows of queues that are read as far as the reducer looks."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import overload

from pydantic_core import from_json
from typing_extensions import override

from flock.core.gates import Arrival, counters_of, slots_of
from flock.model.artifact import Record
from flock.model.collect import Stage
from flock.model.ledger import BOARD, Offer, Target
from flock.stores.collecting import AnyRow, Changes, Collecting, Row
from flock.stores.sqlite.counting import Counting
from flock.stores.sqlite.records import Records, to_text
from flock.stores.sqlite.statements import SQL

_PAGE = 16  # items that are read at once


class KeptArrival(Arrival):
    """An item of a queue and its row in the file; its groups are read when it is taken."""

    __slots__ = ("number", "parts")

    def __init__(self, number: int, position: int, arrived: float, parts: str) -> None:
        """Know when it came."""
        super().__init__(arrived, position, ())
        self.number = number
        self.parts = parts


class Queue(Sequence[Arrival]):
    """The items of one slot, first in first out."""

    def __init__(self, shelf: KeptRow, slot: int, length: int) -> None:
        """Know how many there are."""
        self._shelf = shelf
        self._slot = slot
        self.length = length
        self._head: list[KeptArrival] = []

    @override
    def __len__(self) -> int:
        """Count."""
        return self.length

    @overload
    def __getitem__(self, index: int) -> Arrival: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Arrival]: ...
    @override
    def __getitem__(self, index: int | slice) -> Arrival | Sequence[Arrival]:
        """Read as far as is asked for."""
        if isinstance(index, slice):
            return self.head(self.length)[index]
        position = index if index >= 0 else self.length + index
        return self.head(position + 1)[position]

    @override
    def __iter__(self) -> Iterator[Arrival]:
        """Read on page by page."""
        for index in itertools.count():
            if index >= self.length:
                return
            if index >= len(self._head):
                self.head(min(self.length, index + _PAGE))
            yield self._head[index]

    def head(self, count: int) -> list[KeptArrival]:
        """Give at least the first items."""
        if len(self._head) < count:
            self._head = self._shelf.read(self._slot, count)
        return self._head

    def put(self) -> None:
        """Count one more."""
        self.length += 1

    def take(self, count: int) -> list[KeptArrival]:
        """Cut the first items off."""
        taken, self._head = self.head(count)[:count], self._head[count:]
        self.length -= len(taken)
        return taken


class KeptRow(Row[Queue]):
    """One row of queues in the file."""

    __slots__ = ("_collector",)

    def __init__(
        self, collector: KeptCollector, spec: Stage, stage: int, key: str, state: tuple[list[int], list[int]] | None
    ) -> None:
        """Stand where the file says."""
        lengths, counters = state or ([], [])
        counters += [0] * (counters_of(spec) - len(counters))
        lengths += [0] * (slots_of(spec) - len(lengths))
        queues = [Queue(self, slot, length) for slot, length in enumerate(lengths)]
        super().__init__(spec, stage, key, queues, counters)
        self._collector = collector

    def read(self, slot: int, count: int) -> list[KeptArrival]:
        """Read the first items of a queue."""
        return self._collector.read(self, slot, count)

    @override
    def put(self, slot: int, arrival: Arrival) -> None:
        """Insert."""
        self._collector.insert(self, slot, arrival)
        self.slots[slot].put()

    @override
    def take(self, slot: int, count: int, why: str) -> list[Arrival]:
        """Mark as gone."""
        return self._collector.release(self.slots[slot].take(count), why) if count else []


class KeptCollector(Collecting):
    """All that one subscription holds in one scope, as of one step."""

    __slots__ = ("_now", "_rows", "_shelves", "number")

    def __init__(self, shelves: Shelves, number: int, target: Target, place: tuple[str, int, float | None]) -> None:
        """Stand at a place: scope, position and when it is due."""
        super().__init__(target, *place)
        self.number = number
        self._shelves = shelves
        self._rows: dict[tuple[int, str], KeptRow] = {}

    @override
    def row(self, stage: int, key: str) -> KeptRow:
        """Read it."""
        row = self._rows.get((stage, key))
        if row is None:
            found = self._shelves.db.execute(SQL["shelf"], (self.number, stage, key)).fetchone()
            state = None if found is None else (from_json(found[0]), from_json(found[1]))
            row = self._rows[stage, key] = KeptRow(self, self.target.stages[stage], stage, key, state)
        return row

    @override
    def rows(self, key: str | None = None) -> Sequence[KeptRow]:
        """Read them."""
        self.save_rows()
        if key is None:
            found = self._shelves.db.execute(SQL["shelves"], (self.number,))
        else:
            found = self._shelves.db.execute(SQL["shelves_of_key"], (self.number, key))
        stages = len(self.target.stages)
        return [self.row(stage, each) for stage, each in found.fetchall() if stage < stages]

    @override
    def tidy(self, row: AnyRow) -> None:
        """Rows are written, or dropped, at the end of the step."""

    @override
    def note(self, arrival: Arrival, key: str, slot: int) -> None:
        """The file knows in which order they came."""

    @override
    def oldest(self) -> tuple[AnyRow, Arrival] | None:
        """Look it up."""
        found = self._shelves.db.execute(SQL["oldest"], (self.number,)).fetchone()
        if found is None:
            return None
        *item, key = found
        return self.row(0, key), KeptArrival(*item)

    @override
    def raise_counter(self, row: AnyRow, offer: Offer) -> None:
        """Count, and keep what was counted."""
        super().raise_counter(row, offer)
        shelves = self._shelves
        come = {
            "collector": self.number, "stage": row.stage, "slot": offer.slot, "now": shelves.now,
            "artifact": offer.record.sequence, "run": offer.record.run, "at": shelves.counting.at,
        }  # fmt: skip
        shelves.db.execute(SQL["count_up"], come)

    def read(self, row: KeptRow, slot: int, count: int) -> list[KeptArrival]:
        """Read the first items of a queue."""
        found = self._shelves.db.execute(SQL["head"], (self.number, row.stage, row.key, slot, count))
        return [KeptArrival(*each) for each in found]

    def insert(self, row: KeptRow, slot: int, arrival: Arrival) -> None:
        """Write an item."""
        shelves = self._shelves
        records = [record for group in arrival.groups for record in group]
        runs = sorted({record.run for record in records})
        several = len(runs) > 1
        come = (
            self.number, row.stage, row.key, slot, arrival.position, arrival.at,
            None if row.stage else records[0].sequence,
            to_text([[record.sequence for record in group] for group in arrival.groups]),
            None if several else runs[0], to_text(runs) if several else None, row.timed, shelves.counting.at,
        )  # fmt: skip
        shelves.db.execute(SQL["hold"], come)

    def release(self, items: Sequence[KeptArrival], why: str) -> list[Arrival]:
        """Mark items as gone, and read what they carry."""
        shelves = self._shelves
        gone = [(shelves.counting.at, why, shelves.now, item.number) for item in items]
        shelves.db.executemany(SQL["let_go"], gone)
        parts: list[list[list[int]]] = [from_json(item.parts) for item in items]
        shelves.records.by_sequence([sequence for groups in parts for group in groups for sequence in group])
        for item, groups in zip(items, parts, strict=True):
            item.groups = tuple([tuple(shelves.records.by_sequence(group)) for group in groups])
        return list(items)

    def save(self) -> None:
        """Write where it stands."""
        self.save_rows()
        self._shelves.db.execute(SQL["save_collector"], (self.position, self.due, self.number))

    def save_rows(self) -> None:
        """Write the rows, drop those that hold nothing."""
        for (stage, key), row in self._rows.items():
            lengths = [queue.length for queue in row.slots]
            if any(lengths) or row.counters:
                state = (self.number, stage, key, to_text(lengths), to_text(row.counters))
                self._shelves.db.execute(SQL["save_shelf"], state)
            else:
                self._shelves.db.execute(SQL["drop_shelf"], (self.number, stage, key))


class Shelves:
    """The collectors that a step touches."""

    def __init__(self, db: sqlite3.Connection, records: Records, counting: Counting) -> None:
        """Work on one connection."""
        self.db = db
        self.records = records
        self.counting = counting
        self.now = 0.0
        self._touched: dict[tuple[str, str], KeptCollector] = {}

    def of(self, offer: Offer) -> KeptCollector:
        """Give the collector that an offer goes to."""
        target = offer.target
        scope = BOARD if target.board_wide else offer.record.run
        found = self._touched.get((target.subscription, scope))
        if found is not None:
            found.at = self.counting.at
            return found
        row = self.db.execute(SQL["collector"], (target.subscription, scope)).fetchone()
        if row is None:
            number = self.db.execute(SQL["add_collector"], (target.subscription, target.agent, scope)).lastrowid or 0
            row = (number, 0, None)
        number, position, due = row
        return self.at(number, target, (scope, position, due))

    def at(self, number: int, target: Target, place: tuple[str, int, float | None]) -> KeptCollector:
        """Give a collector of the file."""
        found = self._touched.get((target.subscription, place[0]))
        if found is None:
            found = self._touched[target.subscription, place[0]] = KeptCollector(self, number, target, place)
        found.at = self.counting.at
        return found

    def withdraw(self, run: str, changes: Changes) -> list[Record]:
        """Take out of all queues what a run put in; gives the records."""
        gone: list[Record] = []
        rows = self.db.execute(SQL["held_of_run"], (run,)).fetchall()
        for number, collector, stage, key, slot, parts, timed in rows:
            self.db.execute(SQL["let_go"], (self.counting.at, "withdrawn", self.now, number))
            lengths, counters = self.db.execute(SQL["shelf"], (collector, stage, key)).fetchone()
            left = from_json(lengths)
            left[slot] -= 1
            self.db.execute(SQL["save_shelf"], (collector, stage, key, to_text(left), counters))
            if timed:
                changes.timed.append((run, -1))
            gone += self.records.by_sequence([sequence for group in from_json(parts) for sequence in group])
        return gone

    def find_dues(self, targets: Mapping[str, Target]) -> None:
        """Find out when the collectors of an image are due, now that their subscriptions are known."""
        while found := self.db.execute(SQL["collectors_due"], (0.0, _PAGE)).fetchall():
            for number, subscription, scope, position, due in found:
                collector = self.at(number, targets[subscription], (scope, position, due))
                collector.due = collector.next_due()
            self.save()

    def save(self) -> None:
        """Write what the step has changed."""
        for collector in self._touched.values():
            collector.save()
        self._touched.clear()

    def forget(self) -> None:
        """Drop what a step that failed has changed."""
        self._touched.clear()
