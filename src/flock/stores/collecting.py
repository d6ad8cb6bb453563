"""Collecting, as every store does it: what a subscription holds, advanced by the core's reducer.

A store says where rows are and how queues are kept; what happens to them is decided here.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from flock.core.gates import Arrival, Group, Step, expired, flush, merge, reduce
from flock.model.artifact import Record
from flock.model.collect import Batch, Gather, Hold, Stage
from flock.model.events import WaitReason
from flock.model.ledger import Offer, Target

Q = TypeVar("Q", bound=Sequence[Arrival])


class Fired(NamedTuple):
    """The groups of one activation that a collector completed, at which position of the board."""

    target: Target
    groups: tuple[Group, ...]
    at: int


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


class Row(Generic[Q]):
    """One row of queues, as `flock.core.gates.Row` reads it, and where it is: in which stage, under which key."""

    __slots__ = ("counters", "key", "slots", "spec", "stage", "timed")

    def __init__(self, spec: Stage, stage: int, key: str, slots: list[Q], counters: list[int]) -> None:
        """Stand at a place; `slots` are FIFO queues."""
        self.slots = slots
        self.spec = spec
        self.stage = stage
        self.key = key
        self.timed = isinstance(spec, Batch) and spec.timeout is not None
        self.counters = counters

    @abstractmethod
    def put(self, slot: int, arrival: Arrival) -> None:
        """Append to a queue."""

    @abstractmethod
    def take(self, slot: int, count: int, why: str) -> list[Arrival]:
        """Remove the first items of a queue and give them."""


AnyRow = Row[Any]  # a store knows what its queues are


class Collecting:
    """All that one subscription holds in one scope (a run or the board).

    `at` is the board's position for what happens next, in stores that keep it.
    """

    __slots__ = ("at", "due", "position", "scope", "target", "window")

    def __init__(self, target: Target, scope: str, position: int = 0, due: float | None = None) -> None:
        """Go on from a position; `due` is when the store looks in again."""
        self.target = target
        self.scope = scope
        self.at = 0
        self.due = due
        self.position = position
        first = target.stages[0]
        windowed = isinstance(first, Gather) and (first.within is not None or first.last is not None)
        self.window = first if windowed and isinstance(first, Gather) else None

    # ---- what a store says

    @abstractmethod
    def row(self, stage: int, key: str) -> AnyRow:
        """Give a row, a new one if need be."""

    @abstractmethod
    def rows(self, key: str | None = None) -> Sequence[AnyRow]:
        """Give the rows that there are (under one key), stage by stage."""

    @abstractmethod
    def tidy(self, row: AnyRow) -> None:
        """Drop a row that holds nothing and has no counters."""

    @abstractmethod
    def note(self, arrival: Arrival, key: str, slot: int) -> None:
        """Remember what came into a first stage that has a window, for `oldest`."""

    @abstractmethod
    def oldest(self) -> tuple[AnyRow, Arrival] | None:
        """Give the oldest item that still waits in a first stage with a window, and its row."""

    # ---- what happens

    def offer(self, offer: Offer, now: float, changes: Changes) -> float | None:
        """Take one match in; gives when this collector is next due."""
        if offer.slot < 0:
            row = self.row(len(self.target.stages) - 1, "")
            self.raise_counter(row, offer)
            return self._touch(row, now, changes)
        self.position += 1
        arrival = Arrival(now, self.position, ((offer.record,),))
        due = self._feed(self.row(0, offer.key), offer.slot, arrival, now, changes)
        window = self.window
        if window is None:
            return due
        self.note(arrival, offer.key, offer.slot)
        oldest = self._sweep(window, now, changes)
        return due if oldest is None else oldest if due is None else min(due, oldest)

    def raise_counter(self, row: AnyRow, offer: Offer) -> None:
        """Count an artifact for a `when` condition."""
        row.counters[-offer.slot - 1] += 1

    def expire(self, now: float, changes: Changes) -> float | None:
        """Do what time has made due; gives when it is next due."""
        dues = [self._touch(row, now, changes) for row in self.rows("")]
        if self.window is not None:
            dues.append(self._sweep(self.window, now, changes))
        return min([due for due in dues if due is not None], default=None)

    def next_due(self) -> float | None:
        """Find out when it is due: what it says when no time has passed at all."""
        return self.expire(0.0, Changes())

    def flush(self, now: float, changes: Changes) -> None:
        """Fire partial batches."""
        for row in self.rows():
            self._apply(row, flush(row.spec, row), None, now, changes)

    def _sweep(self, spec: Gather, now: float, changes: Changes) -> float | None:
        """Give up what has waited longer than the window; gives when the oldest that is left will have."""
        while (found := self.oldest()) is not None:
            row, arrival = found
            if not expired(spec, arrival, self.position, now):
                return None if spec.within is None else arrival.at + spec.within
            self._touch(row, now, changes)
        return None

    def _feed(self, row: AnyRow, slot: int, arrival: Arrival, now: float, changes: Changes) -> float | None:
        step = reduce(row.spec, row, slot, self.position, now)
        if row.timed:
            count(row, (arrival,), 1, changes)
        if not step.fire and not step.drop:
            row.put(slot, arrival)
            return step.due
        return self._apply(row, step, (slot, arrival), now, changes)

    def _touch(self, row: AnyRow, now: float, changes: Changes) -> float | None:
        return self._apply(row, reduce(row.spec, row, None, self.position, now), None, now, changes)

    def _apply(
        self, row: AnyRow, step: Step, arrival: tuple[int, Arrival] | None, now: float, changes: Changes
    ) -> float | None:
        for slot, number in enumerate(step.drop):
            for item in row.take(slot, number, "expired"):
                changes.expired += [(self.target, record, "join expired") for g in item.groups for record in g]
        if arrival is not None:
            row.put(arrival[0], arrival[1])
        due = step.due
        for counts in step.fire:
            taken = [row.take(slot, number, "collected") for slot, number in enumerate(counts)]
            groups = merge(row.spec, taken)
            if row.timed:
                count(row, taken[0], -1, changes)
            if row.stage + 1 == len(self.target.stages):
                changes.fired.append(Fired(self.target, groups, self.at))
            else:
                following = self.row(row.stage + 1, "")
                later = self._feed(following, 0, Arrival(now, self.position, groups), now, changes)
                due = later if due is None else due if later is None else min(due, later)
        self.tidy(row)
        return due


def count(row: AnyRow, items: Iterable[Arrival], sign: int, changes: Changes) -> None:
    """Count the items of timed batches for their runs."""
    if row.timed:
        changes.timed += [(run, sign) for item in items for run in runs_of(item)]


def records_of(row: AnyRow) -> Iterator[Record]:
    """Give every record that a row holds."""
    return (record for queue in row.slots for item in queue for group in item.groups for record in group)


def runs_of(item: Arrival) -> set[str]:
    """Give the runs that an item comes from."""
    return {record.run for group in item.groups for record in group}


def unknown(count: int) -> str:
    """Describe a row of a subscription that is not known here."""
    return f"holds {count}; no process here has this subscription"


def describe(
    spec: Stage, queues: Sequence[Sequence[Arrival]], names: Sequence[str]
) -> tuple[WaitReason, str, float | None]:
    """Say why a row waits, what it holds, and when it is due."""
    held = str(len(queues[0]))
    match spec:
        case Gather(need=need, within=within, keyed=keyed):
            counts = zip(names or map(str, range(len(need))), queues, need, strict=True)
            parts = ", ".join(f"{len(queue)} of {wanted} {name}" for name, queue, wanted in counts)
            oldest = min(queue[0].at for queue in queues if queue)
            due = None if within is None else oldest + within
            return ("join" if keyed else "gate"), f"holds {parts}", due
        case Batch(size=size, timeout=timeout):
            due = None if timeout is None else queues[0][0].at + timeout
            return "batch", f"holds {held} of {size or 'any number'}", due
        case Hold():
            return "when", f"holds {held} until its condition is true", None
