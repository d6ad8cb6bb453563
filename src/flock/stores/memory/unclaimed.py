"""What the memory store holds for subscriptions that nobody has declared: kept as it came until somebody does."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from flock.board.image import CollectorImage
from flock.core.gates import Arrival, counters_of, slots_of
from flock.model.artifact import Record
from flock.model.events import Waiting
from flock.model.ledger import Target
from flock.stores.collecting import Changes, runs_of, unknown


class Item(NamedTuple):
    """One item of a row: where it is, and what it carries."""

    stage: int
    key: str
    slot: int
    arrival: Arrival
    timed: bool


class Unclaimed:
    """What one subscription holds in one scope, without knowing how it collects. `target` has its names."""

    __slots__ = ("image", "items", "scope", "target")

    def __init__(self, image: CollectorImage) -> None:
        """Start empty."""
        self.image = image
        self.scope = image.scope
        self.target = Target(image.subscription, image.agent)
        self.items: list[Item] = []

    def fits(self, target: Target) -> bool:
        """Say whether a subscription collects as the one that this is of."""
        stages = target.stages
        counts = self.image.counters
        if counts and (self.image.stage >= len(stages) or len(counts) > counters_of(stages[self.image.stage])):
            return False
        return all(item.stage < len(stages) and item.slot < slots_of(stages[item.stage]) for item in self.items)

    def withdraw(self, run: str, changes: Changes) -> list[Record]:
        """Take out what a run put in; gives the records."""
        mine = [item for item in self.items if runs_of(item.arrival) == {run}]
        self.items = [item for item in self.items if item not in mine]
        changes.timed += [(run, -1) for item in mine if item.timed]
        return [record for item in mine for record in _records(item)]

    def flush(self, now: float, changes: Changes) -> None:
        """Fire nothing: that is for who has the subscription."""

    def records(self) -> Iterator[Record]:
        """Give every record that is held."""
        return (record for item in self.items for record in _records(item))

    def count(self, run: str | None) -> int:
        """Count the rows that hold something (of a run)."""
        return sum(1 for _ in self._rows(run))

    def waiting(self, run: str | None) -> Iterator[Waiting]:
        """Describe what waits here (of one run)."""
        for row in self._rows(run):
            records = [record for item in row for record in _records(item)]
            yield Waiting(
                reason="gate", agent=self.target.agent, run=self.scope or records[-1].run, detail=unknown(len(row)),
                artifacts=tuple([record.id for record in records]), subscription=self.target.subscription,
            )  # fmt: skip

    def _rows(self, run: str | None) -> Iterator[Sequence[Item]]:
        for _, group in itertools.groupby(sorted(self.items, key=_place), key=_place):
            row = sorted(group, key=_slot)
            if run in {None, self.scope} or any(run in runs_of(item.arrival) for item in row):
                yield row


def _records(item: Item) -> Iterator[Record]:
    return (record for group in item.arrival.groups for record in group)


def _place(item: Item) -> tuple[int, str]:
    return item.stage, item.key


def _slot(item: Item) -> int:
    return item.slot
