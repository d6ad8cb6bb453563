"""Collectors in memory: rows of queues that the core's reducer advances."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from flock.core.gates import Arrival, counters_of, flush, merge, reduce, slots_of
from flock.model.collect import Batch, Gather, Hold
from flock.model.events import Waiting, WaitReason
from flock.model.ledger import Offer, Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from flock.core.gates import Group, Step
    from flock.model.artifact import Record
    from flock.model.collect import Stage


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


class _Row:
    """One row of queues, as `flock.core.gates.Row` reads it."""

    __slots__ = ("counters", "slots")

    def __init__(self, slots: int, counters: int) -> None:
        self.slots: list[list[Arrival]] = [[] for _ in range(slots)]
        self.counters = [0] * counters


class Collector:
    """All that one subscription holds in one scope (a run or the board)."""

    __slots__ = ("_arrivals", "_position", "_rows", "due", "scope", "target")

    def __init__(self, target: Target, scope: str) -> None:
        """Start empty."""
        self.target = target
        self.scope = scope
        self.due: float | None = None  # when the store looks in again
        self._position = 0
        self._rows: list[dict[str, _Row]] = [{} for _ in target.stages]
        self._arrivals: deque[tuple[Arrival, str]] = deque()  # of a windowed first stage, oldest first

    def offer(self, offer: Offer, now: float, changes: Changes) -> float | None:
        """Take one match in; gives when this collector is next due."""
        if offer.slot < 0:
            last = len(self._rows) - 1
            row = self._row(last, "")
            row.counters[-offer.slot - 1] += 1
            spec = self.target.stages[last]
            return self._apply(last, "", row, reduce(spec, row, None, self._position, now), None, now, changes)
        self._position += 1
        arrival = Arrival(now, self._position, ((offer.record,),))
        due = self._feed(0, offer.key, offer.slot, arrival, now, changes)
        first = self.target.stages[0]
        if isinstance(first, Gather) and (first.within is not None or first.last is not None):
            self._arrivals.append((arrival, offer.key))
            return self.expire(now, changes)
        return due

    def expire(self, now: float, changes: Changes) -> float | None:
        """Do what time has made due; gives when it is next due."""
        dues = [self._touch(stage, "", now, changes) for stage in range(len(self._rows)) if self._rows[stage].get("")]
        spec = self.target.stages[0]
        while self._arrivals and isinstance(spec, Gather):
            arrival, key = self._arrivals[0]
            if self._holds(arrival, key):
                gone = (spec.within is not None and arrival.at + spec.within <= now) or (
                    spec.last is not None and self._position - arrival.position > spec.last
                )
                if not gone:
                    if spec.within is not None:
                        dues.append(arrival.at + spec.within)
                    break
                self._touch(0, key, now, changes)
            self._arrivals.popleft()
        return min([due for due in dues if due is not None], default=None)

    def flush(self, now: float, changes: Changes) -> None:
        """Fire partial batches."""
        for stage, rows in enumerate(self._rows):
            for key, row in list(rows.items()):
                self._apply(stage, key, row, flush(self.target.stages[stage], row), None, now, changes)

    def withdraw(self, run: str, changes: Changes) -> list[Record]:
        """Take out what a run put in; gives the records."""
        gone: list[Record] = []
        for stage, rows in enumerate(self._rows):
            for key, row in list(rows.items()):
                for queue in row.slots:
                    mine = [item for item in queue if _runs(item) == {run}]
                    gone += [record for item in mine for group in item.groups for record in group]
                    self._count(stage, mine, -1, changes)
                    queue[:] = [item for item in queue if _runs(item) != {run}]
                self._tidy(stage, key, row)
        return gone

    @property
    def empty(self) -> bool:
        """True when nothing is held and no counter has moved."""
        return not any(self._rows)

    def records(self) -> Iterator[Record]:
        """Give every record that is held."""
        for _, row in self.items():
            yield from _records(row)

    def items(self) -> Iterator[tuple[Stage, _Row]]:
        """Give each row that holds something, with its stage."""
        for stage, rows in enumerate(self._rows):
            for row in rows.values():
                if any(row.slots):
                    yield self.target.stages[stage], row

    def count(self, run: str | None) -> int:
        """Count the rows that hold something (of a run)."""
        return sum(
            run is None or self.scope == run or any(record.run == run for record in _records(row))
            for _, row in self.items()
        )

    def waiting(self, run: str | None) -> Iterator[Waiting]:
        """Describe what waits here (of one run)."""
        for spec, row in self.items():
            records = list(_records(row))
            if run is not None and not any(record.run == run for record in records):
                continue
            reason, detail, due = _describe(spec, row)
            yield Waiting(
                reason=reason, agent=self.target.agent, run=self.scope or records[-1].run, detail=detail, due=due,
                artifacts=tuple(record.id for record in records),
            )  # fmt: skip

    def _row(self, stage: int, key: str) -> _Row:
        rows = self._rows[stage]
        row = rows.get(key)
        if row is None:
            spec = self.target.stages[stage]
            row = rows[key] = _Row(slots_of(spec), counters_of(spec))
        return row

    def _feed(
        self, stage: int, key: str, slot: int, arrival: Arrival, now: float, changes: Changes
    ) -> float | None:
        rows = self._rows[stage]
        row = rows.get(key) or self._row(stage, key)
        spec = self.target.stages[stage]
        step = reduce(spec, row, slot, self._position, now)
        self._count(stage, (arrival,), 1, changes)
        if not step.fire and not step.drop:
            row.slots[slot].append(arrival)
            return step.due
        return self._apply(stage, key, row, step, (slot, arrival), now, changes)

    def _touch(self, stage: int, key: str, now: float, changes: Changes) -> float | None:
        row = self._rows[stage].get(key)
        if row is None:
            return None
        step = reduce(self.target.stages[stage], row, None, self._position, now)
        return self._apply(stage, key, row, step, None, now, changes)

    def _apply(
        self, stage: int, key: str, row: _Row, step: Step, arrival: tuple[int, Arrival] | None, now: float, changes: Changes
    ) -> float | None:
        for slot, count in enumerate(step.drop):
            for item in _take(row, slot, count):
                changes.expired += [(self.target, record, "join expired") for g in item.groups for record in g]
        if arrival is not None:
            row.slots[arrival[0]].append(arrival[1])
        due = step.due
        for counts in step.fire:
            taken = [_take(row, slot, count) for slot, count in enumerate(counts)]
            groups = merge(self.target.stages[stage], taken)
            self._count(stage, taken[0], -1, changes)
            if stage + 1 == len(self._rows):
                changes.fired.append(Fired(self.target, groups))
            else:
                later = self._feed(stage + 1, "", 0, Arrival(now, self._position, groups), now, changes)
                due = later if due is None else due if later is None else min(due, later)
        self._tidy(stage, key, row)
        return due

    def _tidy(self, stage: int, key: str, row: _Row) -> None:
        if not any(row.slots) and not row.counters:
            self._rows[stage].pop(key, None)

    def _count(self, stage: int, items: Iterable[Arrival], sign: int, changes: Changes) -> None:
        spec = self.target.stages[stage]
        if isinstance(spec, Batch) and spec.timeout is not None:
            changes.timed += [(run, sign) for item in items for run in _runs(item)]

    def _holds(self, arrival: Arrival, key: str) -> bool:
        row = self._rows[0].get(key)
        return row is not None and any(queue and queue[0].position == arrival.position for queue in row.slots)


def _records(row: _Row) -> Iterator[Record]:
    return (record for queue in row.slots for item in queue for group in item.groups for record in group)


def _runs(item: Arrival) -> set[str]:
    return {record.run for group in item.groups for record in group}


def _take(row: _Row, slot: int, count: int) -> list[Arrival]:
    queue = row.slots[slot]
    taken = list(queue[:count])
    del queue[:count]
    return taken


def _describe(spec: Stage, row: _Row) -> tuple[WaitReason, str, float | None]:
    held = "/".join(str(len(queue)) for queue in row.slots)
    match spec:
        case Gather(need=need, within=within, keyed=keyed):
            wanted = "/".join(map(str, need))
            oldest = min(queue[0].at for queue in row.slots if queue)
            due = None if within is None else oldest + within
            return ("join" if keyed else "gate"), f"holds {held} of {wanted}", due
        case Batch(size=size, timeout=timeout):
            due = None if timeout is None else row.slots[0][0].at + timeout
            return "batch", f"holds {held} of {size or 'any number'}", due
        case Hold():
            return "when", f"holds {held} until its condition is true", None
