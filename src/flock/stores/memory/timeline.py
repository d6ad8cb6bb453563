"""The memory store's timeline: what becomes due, and when."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Mapping

from flock.model.artifact import Record
from flock.model.events import Waiting
from flock.model.ledger import Activation, Offer, Target
from flock.stores.memory.collectors import Collector

Entry = Activation | Offer | Collector


class Timeline:
    """A heap by time (UTC seconds), then by when it was pushed. `due` is the time of the first entry."""

    __slots__ = ("_heap", "_order", "_parked", "due")

    def __init__(self) -> None:
        """Start empty."""
        self.due: float | None = None
        self._heap: list[tuple[float, int, Entry]] = []
        self._order = itertools.count(1)
        self._parked: list[tuple[float, Offer]] = []  # for subscriptions that nobody has declared

    def push(self, due: float, entry: Entry) -> None:
        """Note when something becomes due; what was noted of it before stays."""
        heapq.heappush(self._heap, (due, next(self._order), entry))
        self.due = self._heap[0][0]

    def park(self, due: float, offer: Offer) -> None:
        """Hold an offer back until its subscription is declared."""
        self._parked.append((due, offer))

    def claim(self, targets: Mapping[str, Target]) -> bool:
        """Note what was parked for these subscriptions; says whether there was any."""
        parked, self._parked = self._parked, []
        for due, offer in parked:
            target = targets.get(offer.target.subscription)
            if target is None:
                self._parked.append((due, offer))
            else:
                offer.target = target
                self.push(due, offer)
        return len(self._parked) < len(parked)

    def pop(self, now: float) -> tuple[float, Entry] | None:
        """Take out the first entry that is due, with its time."""
        if self.due is None or self.due > now:
            return None
        when, _, entry = heapq.heappop(self._heap)
        self.due = self._heap[0][0] if self._heap else None
        return when, entry

    def offers(self, run: str | None) -> list[tuple[float, Offer]]:
        """Give the offers (of a run) that are held back, the next one first."""
        held = [item for item in self._heap if isinstance(item[2], Offer)]
        held.sort(key=_rank)
        pushed = [(due, entry) for due, _, entry in held if isinstance(entry, Offer)]
        return [each for each in [*pushed, *self._parked] if run in {None, each[1].record.run}]

    def waiting(self, run: str | None) -> Iterator[Waiting]:
        """Describe the offers (of a run) that are held back."""
        for due, offer in self.offers(run):
            record = offer.record
            yield Waiting(
                reason="after",
                agent=offer.target.agent,
                run=record.run,
                artifacts=(record.id,),
                due=due,
                detail="not visible yet",
                subscription=offer.target.subscription,
            )

    def withdraw(self, run: str) -> list[Record]:
        """Take out a run's offers; gives their records."""
        gone = [offer for _, offer in self.offers(run)]
        if gone:
            self._heap = [item for item in self._heap if item[2] not in gone]
            self._parked = [item for item in self._parked if item[1] not in gone]
            heapq.heapify(self._heap)
            self.due = self._heap[0][0] if self._heap else None
        return [offer.record for offer in gone]


def _rank(item: tuple[float, int, Entry]) -> tuple[float, int]:
    return item[0], item[1]
