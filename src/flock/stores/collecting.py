"""Collectors in memory: rows of queues that the core's reducer advances."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from flock.core.gates import Arrival, Group, Step, counters_of, expired, flush, merge, reduce, slots_of
from flock.model.artifact import Record
from flock.model.collect import Batch, Gather, Hold, Stage
from flock.model.events import Waiting, WaitReason
from flock.model.ledger import BOARD, Offer, Target


class Fired(NamedTuple):
    """The groups of one activation that a collector completed."""

    target: Target
    groups: tuple[Group, ...]


class Changes:
    """What the collectors did during one step of the store."""

    __slots__ = ("expired", "fired", "timed")

    def __init__(self) -> None:
        """Start with nothing."""
        self.fired: list[Fired] = []
        self.expired: list[tuple[Target, Record, str]] = []
        self.timed: list[tuple[str, int]] = []  # run, change in the number of items in timed batches

    def __bool__(self) -> bool:
        """Say whether anything but collecting has happened."""
        return bool(self.fired or self.expired or self.timed)


class _Row:
    """One row of queues, as `flock.core.gates.Row` reads it, and where it is: in which stage, under which key."""

    __slots__ = ("counters", "key", "slots", "spec", "stage", "timed")

    def __init__(self, spec: Stage, stage: int, key: str) -> None:
        self.spec = spec
        self.stage = stage
        self.key = key
        self.timed = isinstance(spec, Batch) and spec.timeout is not None
        self.slots: list[list[Arrival]] = [[] for _ in range(slots_of(spec))]
        self.counters = [0] * counters_of(spec)


class Collector:
    """All that one subscription holds in one scope (a run or the board)."""

    __slots__ = ("_arrivals", "_position", "_rows", "_window", "due", "scope", "target")

    def __init__(self, target: Target, scope: str) -> None:
        """Start empty."""
        self.target = target
        self.scope = scope
        self.due: float | None = None  # when the store looks in again
        self._position = 0
        first = target.stages[0]
        windowed = isinstance(first, Gather) and (first.within is not None or first.last is not None)
        self._window = first if windowed and isinstance(first, Gather) else None
        self._rows: list[dict[str, _Row]] = [{} for _ in target.stages]
        self._arrivals: deque[tuple[Arrival, str, int]] = deque()  # of a windowed first stage, oldest first

    def offer(self, offer: Offer, now: float, changes: Changes) -> float | None:
        """Take one match in; gives when this collector is next due."""
        if offer.slot < 0:
            row = self._row(len(self._rows) - 1, "")
            row.counters[-offer.slot - 1] += 1
            return self._touch(row, now, changes)
        self._position += 1
        arrival = Arrival(now, self._position, ((offer.record,),))
        due = self._feed(self._row(0, offer.key), offer.slot, arrival, now, changes)
        window = self._window
        if window is None:
            return due
        self._arrivals.append((arrival, offer.key, offer.slot))
        oldest = self._sweep(window, now, changes)
        return due if oldest is None else oldest if due is None else min(due, oldest)

    def expire(self, now: float, changes: Changes) -> float | None:
        """Do what time has made due; gives when it is next due."""
        dues = [self._touch(rows[""], now, changes) for rows in self._rows if "" in rows]
        if self._window is not None:
            dues.append(self._sweep(self._window, now, changes))
        return min([due for due in dues if due is not None], default=None)

    def _sweep(self, spec: Gather, now: float, changes: Changes) -> float | None:
        """Give up what has waited longer than the window; gives when the oldest that is left will have."""
        arrivals, rows = self._arrivals, self._rows[0]
        while arrivals:
            arrival, key, slot = arrivals[0]
            row = rows.get(key)
            if row is not None and row.slots[slot] and row.slots[slot][0] is arrival:
                if not expired(spec, arrival, self._position, now):
                    return None if spec.within is None else arrival.at + spec.within
                self._touch(row, now, changes)
            arrivals.popleft()
        return None

    def flush(self, now: float, changes: Changes) -> None:
        """Fire partial batches."""
        for rows in self._rows:
            for row in list(rows.values()):
                self._apply(row, flush(row.spec, row), None, now, changes)

    def withdraw(self, run: str, changes: Changes) -> list[Record]:
        """Take out what a run put in; gives the records."""
        gone: list[Record] = []
        for rows in self._rows:
            for row in list(rows.values()):
                for queue in row.slots:
                    mine = [item for item in queue if _runs(item) == {run}]
                    gone += [record for item in mine for group in item.groups for record in group]
                    _count(row, mine, -1, changes)
                    queue[:] = [item for item in queue if _runs(item) != {run}]
                self._tidy(row)
        return gone

    @property
    def empty(self) -> bool:
        """True when nothing is held and no counter has moved."""
        return not any(self._rows)

    def records(self) -> Iterator[Record]:
        """Give every record that is held."""
        for row in self._held():
            yield from _records(row)

    def items(self) -> Iterator[tuple[Stage, _Row]]:
        """Give each row that holds something, with its stage."""
        return ((row.spec, row) for row in self._held())

    def count(self, run: str | None) -> int:
        """Count the rows that hold something (of a run)."""
        return sum(
            run is None or self.scope == run or any(record.run == run for record in _records(row))
            for row in self._held()
        )

    def waiting(self, run: str | None) -> Iterator[Waiting]:
        """Describe what waits here (of one run)."""
        for row in self._held():
            records = list(_records(row))
            if run is not None and not any(record.run == run for record in records):
                continue
            reason, detail, due = _describe(row, self.target.slots)
            yield Waiting(
                reason=reason, agent=self.target.agent, run=self.scope or records[-1].run, detail=detail, due=due,
                artifacts=tuple(record.id for record in records), subscription=self.target.subscription,
            )  # fmt: skip

    def _held(self) -> Iterator[_Row]:
        return (row for rows in self._rows for row in rows.values() if any(row.slots))

    def _row(self, stage: int, key: str) -> _Row:
        row = self._rows[stage].get(key)
        if row is None:
            row = self._rows[stage][key] = _Row(self.target.stages[stage], stage, key)
        return row

    def _feed(self, row: _Row, slot: int, arrival: Arrival, now: float, changes: Changes) -> float | None:
        step = reduce(row.spec, row, slot, self._position, now)
        if row.timed:
            _count(row, (arrival,), 1, changes)
        if not step.fire and not step.drop:
            row.slots[slot].append(arrival)
            return step.due
        return self._apply(row, step, (slot, arrival), now, changes)

    def _touch(self, row: _Row, now: float, changes: Changes) -> float | None:
        return self._apply(row, reduce(row.spec, row, None, self._position, now), None, now, changes)

    def _apply(
        self, row: _Row, step: Step, arrival: tuple[int, Arrival] | None, now: float, changes: Changes
    ) -> float | None:
        for slot, count in enumerate(step.drop):
            for item in _take(row, slot, count):
                changes.expired += [(self.target, record, "join expired") for g in item.groups for record in g]
        if arrival is not None:
            row.slots[arrival[0]].append(arrival[1])
        due = step.due
        for counts in step.fire:
            taken = [_take(row, slot, count) for slot, count in enumerate(counts)]
            groups = merge(row.spec, taken)
            if row.timed:
                _count(row, taken[0], -1, changes)
            if row.stage + 1 == len(self._rows):
                changes.fired.append(Fired(self.target, groups))
            else:
                following = self._row(row.stage + 1, "")
                later = self._feed(following, 0, Arrival(now, self._position, groups), now, changes)
                due = later if due is None else due if later is None else min(due, later)
        self._tidy(row)
        return due

    def _tidy(self, row: _Row) -> None:
        if not any(row.slots) and not row.counters:
            self._rows[row.stage].pop(row.key, None)


class Collectors:
    """A collector per subscription and scope."""

    def __init__(self) -> None:
        """Start with none."""
        self._by_place: dict[tuple[str, str], Collector] = {}

    def __iter__(self) -> Iterator[Collector]:
        """Give them as they are now, oldest first."""
        return iter(list(self._by_place.values()))

    def of(self, offer: Offer) -> Collector:
        """Give the collector that an offer goes to."""
        target = offer.target
        scope = BOARD if target.board_wide else offer.record.run
        found = self._by_place.get((target.subscription, scope))
        if found is None:
            found = self._by_place[target.subscription, scope] = Collector(target, scope)
        return found

    def forget(self, run: str) -> None:
        """Drop a run's collectors."""
        for place in [place for place in self._by_place if place[1] == run]:
            del self._by_place[place]


def _count(row: _Row, items: Iterable[Arrival], sign: int, changes: Changes) -> None:
    if row.timed:
        changes.timed += [(run, sign) for item in items for run in _runs(item)]


def _records(row: _Row) -> Iterator[Record]:
    return (record for queue in row.slots for item in queue for group in item.groups for record in group)


def _runs(item: Arrival) -> set[str]:
    return {record.run for group in item.groups for record in group}


def _take(row: _Row, slot: int, count: int) -> list[Arrival]:
    queue = row.slots[slot]
    if count == len(queue):
        row.slots[slot] = []
        return queue
    taken = queue[:count]
    del queue[:count]
    return taken


def _describe(row: _Row, names: Sequence[str]) -> tuple[WaitReason, str, float | None]:
    held = str(len(row.slots[0]))
    match row.spec:
        case Gather(need=need, within=within, keyed=keyed):
            counts = zip(names or map(str, range(len(need))), row.slots, need, strict=True)
            parts = ", ".join(f"{len(queue)} of {wanted} {name}" for name, queue, wanted in counts)
            oldest = min(queue[0].at for queue in row.slots if queue)
            due = None if within is None else oldest + within
            return ("join" if keyed else "gate"), f"holds {parts}", due
        case Batch(size=size, timeout=timeout):
            due = None if timeout is None else row.slots[0][0].at + timeout
            return "batch", f"holds {held} of {size or 'any number'}", due
        case Hold():
            return "when", f"holds {held} until its condition is true", None
