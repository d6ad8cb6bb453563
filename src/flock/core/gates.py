"""Collecting as one pure function: what a gate, join, batch or hold does when something arrives or time passes."""

from __future__ import annotations

import datetime as dt
import enum
import operator
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, cast

from flock.model.artifact import Record
from flock.model.collect import Batch, Gather, Hold, Stage
from flock.model.conditions import holds, leaves

Group = tuple[Record, ...]
Counts = tuple[int, ...]


@dataclass(slots=True, eq=False)
class Arrival:
    """One item in a row: when it came (UTC seconds), as which of its subscription, and the groups that it carries."""

    at: float
    position: int
    groups: tuple[Group, ...]


class Row(Protocol):
    """What one stage holds under one key, as the reducer reads it: lengths and heads of queues, and counters."""

    @property
    def slots(self) -> Sequence[Sequence[Arrival]]:
        """A FIFO queue per slot."""
        ...

    @property
    def counters(self) -> Sequence[int]:
        """One count per tally of the stage's condition."""
        ...


@dataclass(slots=True)
class Step:
    """What to do with a row: drop so many heads of each slot, hold the arrival, then fire heads, group by group.

    `due` is when the row next changes by itself.
    """

    drop: Counts = ()
    fire: tuple[Counts, ...] = ()
    due: float | None = None


_NOTHING: Final = Step()


def reduce(spec: Stage, row: Row, slot: int | None, position: int, now: float) -> Step:
    """Decide what a row does when an item arrives in a slot, or (slot None) when time has passed or a counter moved.

    Pure: it reads the row and changes nothing, costs the same for any length of a queue, and gives the same answer in
    every process. `position` is that of the newest item of the subscription.
    """
    match spec:
        case Gather():
            return _gather(spec, row, slot, position, now)
        case Batch():
            return _batch(spec, row, slot, now)
        case Hold():
            return _hold(spec, row, slot)


def _gather(spec: Gather, row: Row, slot: int | None, position: int, now: float) -> Step:
    queues = row.slots
    left = [len(queue) for queue in queues]
    drop: Counts = ()
    windowed = spec.within is not None or spec.last is not None
    if windowed and any(expired(spec, queue[0], position, now) for queue in queues if queue):
        drop = tuple([_count_expired(spec, queue, position, now) for queue in queues])
        left = [have - gone for have, gone in zip(left, drop, strict=True)]
    fire: tuple[Counts, ...] = ()
    if slot is not None:
        left[slot] += 1
        if all(map(operator.ge, left, spec.need)):
            fire = (spec.need,)
            left = list(map(operator.sub, left, spec.need))
    if spec.within is None or not any(left):
        return Step(drop, fire)
    # What is left of a queue is its end; the item that comes now is the last one of its own.
    starts = [
        now if k == slot and count == 1 else queue[-count if k != slot else 1 - count].at
        for k, (count, queue) in enumerate(zip(left, queues, strict=True))
        if count
    ]
    return Step(drop, fire, min(starts) + spec.within)


def expired(spec: Gather, item: Arrival, position: int, now: float) -> bool:
    """Say whether an arrival has waited for longer than the window, in time or in arrivals after it."""
    if spec.within is not None and item.at + spec.within <= now:
        return True
    return spec.last is not None and position - item.position > spec.last


def _count_expired(spec: Gather, queue: Sequence[Arrival], position: int, now: float) -> int:
    count = 0
    for item in queue:
        if not expired(spec, item, position, now):
            break
        count += 1
    return count


def _batch(spec: Batch, row: Row, slot: int | None, now: float) -> Step:
    queue = row.slots[0]
    waiting = len(queue)
    due = None if spec.timeout is None or not waiting else queue[0].at + spec.timeout
    if due is not None and due <= now:
        again = None if slot is None or spec.timeout is None else now + spec.timeout
        return Step((), ((waiting,),), again)
    if slot is None:
        return Step((), (), due)
    if spec.size is not None and waiting + 1 >= spec.size:
        return Step((), ((waiting + 1,),))
    if spec.timeout is None:
        return _NOTHING
    return Step((), (), now + spec.timeout if due is None else due)


def _hold(spec: Hold, row: Row, slot: int | None) -> Step:
    counts = dict(zip(leaves(spec.condition), row.counters, strict=True))
    if not holds(spec.condition, counts):
        return _NOTHING
    return Step((), ((1,),) * (len(row.slots[0]) + (slot is not None)))


def flush(spec: Stage, row: Row) -> Step:
    """Fire a partial batch; other stages keep what they hold."""
    waiting = len(row.slots[0])
    return Step((), ((waiting,),)) if isinstance(spec, Batch) and waiting else _NOTHING


def merge(spec: Stage, taken: Sequence[Sequence[Arrival]]) -> tuple[Group, ...]:
    """Give the groups that a firing hands on: a gate makes one group, in slot order, then by sequence."""
    if isinstance(spec, Gather):
        parts = [sorted((item.groups[0][0] for item in queue), key=_sequence) for queue in taken]
        return (tuple([record for part in parts for record in part]),)
    return tuple([group for item in taken[0] for group in item.groups])


_sequence = operator.attrgetter("sequence")


def slots_of(spec: Stage) -> int:
    """Give the number of slots of a row of this stage."""
    return len(spec.need) if isinstance(spec, Gather) else 1


def counters_of(spec: Stage) -> int:
    """Give the number of counters of a row of this stage."""
    return len(leaves(spec.condition)) if isinstance(spec, Hold) else 0


def encode_key(value: object) -> str:
    """Give the canonical text of a join key, the same on every store; 1, True and "1" differ.

    Raises TypeError for what is no str, int, bool, UUID, date, Enum or tuple of these.
    """
    match value:
        case enum.Enum():
            owner = type(value)
            return f"e:{owner.__module__}:{owner.__qualname__}.{value.name}"
        case str():
            return f"s:{value}"
        case int():
            return f"{'b' if isinstance(value, bool) else 'i'}:{int(value)}"
        case uuid.UUID():
            return f"u:{value.hex}"
        case dt.datetime():
            return f"m:{(value.astimezone(dt.UTC) if value.tzinfo else value).isoformat()}"
        case dt.date():
            return f"d:{value.isoformat()}"
        case tuple():
            parts = [encode_key(part) for part in cast("tuple[object, ...]", value)]
            return "t:" + "".join(f"{len(part)}:{part}" for part in parts)
        case _:
            kind = type(value).__name__
            message = f"a join key is a str, int, bool, UUID, date, Enum or a tuple of these, not {kind}"
            raise TypeError(message)
