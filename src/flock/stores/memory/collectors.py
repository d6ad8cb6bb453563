"""The memory store's collectors: rows of lists."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from typing_extensions import override

from flock.board.image import CollectorImage
from flock.core.gates import Arrival, counters_of, slots_of
from flock.model.artifact import Record
from flock.model.collect import Stage
from flock.model.events import Waiting
from flock.model.ledger import BOARD, Offer, Target
from flock.stores.collecting import AnyRow, Changes, Collecting, Row, count, describe, records_of, runs_of
from flock.stores.memory.unclaimed import Unclaimed

_EMPTY: Final[list[Arrival]] = []  # stands for every queue that holds nothing; nobody puts anything into it


class ListRow(Row[list[Arrival]]):
    """One row of queues in memory."""

    __slots__ = ()

    def __init__(self, spec: Stage, stage: int, key: str) -> None:
        """Start empty."""
        super().__init__(spec, stage, key, [_EMPTY] * slots_of(spec), [0] * counters_of(spec))

    @override
    def put(self, slot: int, arrival: Arrival) -> None:
        """Append."""
        queue = self.slots[slot]
        if queue:
            queue.append(arrival)
        else:
            self.slots[slot] = [arrival]

    @override
    def take(self, slot: int, count: int, why: str) -> list[Arrival]:
        """Cut off."""
        queue = self.slots[slot]
        if count == len(queue):
            self.slots[slot] = _EMPTY
            return queue
        taken = queue[:count]
        del queue[:count]
        return taken


class Collector(Collecting):
    """All that one subscription holds in one scope."""

    __slots__ = ("_arrivals", "_rows")

    def __init__(self, target: Target, scope: str) -> None:
        """Start empty."""
        super().__init__(target, scope)
        self._rows: list[dict[str, ListRow]] = [{} for _ in target.stages]
        self._arrivals: deque[tuple[Arrival, str, int]] = deque()  # of a windowed first stage, oldest first

    @override
    def row(self, stage: int, key: str) -> ListRow:
        """Look it up."""
        row = self._rows[stage].get(key)
        if row is None:
            row = self._rows[stage][key] = ListRow(self.target.stages[stage], stage, key)
        return row

    @override
    def rows(self, key: str | None = None) -> Sequence[ListRow]:
        """Look them up."""
        if key is not None:
            return [rows[key] for rows in self._rows if key in rows]
        return [row for rows in self._rows for row in rows.values()]

    @override
    def tidy(self, row: AnyRow) -> None:
        """Drop it."""
        if not any(row.slots) and not row.counters:
            self._rows[row.stage].pop(row.key, None)

    @override
    def note(self, arrival: Arrival, key: str, slot: int) -> None:
        """Append."""
        self._arrivals.append((arrival, key, slot))

    @override
    def oldest(self) -> tuple[AnyRow, Arrival] | None:
        """Skip what has gone meanwhile."""
        arrivals, rows = self._arrivals, self._rows[0]
        while arrivals:
            arrival, key, slot = arrivals[0]
            row = rows.get(key)
            if row is not None and row.slots[slot] and row.slots[slot][0] is arrival:
                return row, arrival
            arrivals.popleft()
        return None

    def withdraw(self, run: str, changes: Changes) -> list[Record]:
        """Take out what a run put in; gives the records."""
        gone: list[Record] = []
        for row in self.rows():
            for slot, queue in enumerate(row.slots):
                mine = [item for item in queue if runs_of(item) == {run}]
                gone += [record for item in mine for group in item.groups for record in group]
                count(row, mine, -1, changes)
                row.slots[slot] = [item for item in queue if runs_of(item) != {run}]
            self.tidy(row)
        return gone

    def fill(self, held: Unclaimed) -> None:
        """Go on from what was held before."""
        self.position = held.image.position
        for stage, key, slot, arrival, _ in held.items:
            self.row(stage, key).put(slot, arrival)
            if self.window is not None and stage == 0:
                self.note(arrival, key, slot)
        for slot, number in enumerate(held.image.counters):
            self.row(held.image.stage, "").counters[slot] = number
        self.due = self.next_due()

    def records(self) -> Iterator[Record]:
        """Give every record that is held."""
        for row in self._held():
            yield from records_of(row)

    def count(self, run: str | None) -> int:
        """Count the rows that hold something (of a run)."""
        return sum(
            run is None or self.scope == run or any(record.run == run for record in records_of(row))
            for row in self._held()
        )

    def waiting(self, run: str | None) -> Iterator[Waiting]:
        """Describe what waits here (of one run)."""
        for row in self._held():
            records = list(records_of(row))
            if run is not None and not any(record.run == run for record in records):
                continue
            reason, detail, due = describe(row.spec, row.slots, self.target.slots)
            yield Waiting(
                reason=reason, agent=self.target.agent, run=self.scope or records[-1].run, detail=detail, due=due,
                artifacts=tuple(record.id for record in records), subscription=self.target.subscription,
            )  # fmt: skip

    def _held(self) -> Iterator[ListRow]:
        return (row for row in self.rows() if any(row.slots))


class Collectors:
    """A collector per subscription and scope."""

    def __init__(self) -> None:
        """Start with none."""
        self._by_place: dict[tuple[str, str], Collector] = {}
        self._unclaimed: dict[tuple[str, str], Unclaimed] = {}

    def __iter__(self) -> Iterator[Collector | Unclaimed]:
        """Give them as they are now, oldest first."""
        return iter([*self._by_place.values(), *self._unclaimed.values()])

    def of(self, offer: Offer) -> Collector:
        """Give the collector that an offer goes to."""
        target = offer.target
        scope = BOARD if target.board_wide else offer.record.run
        found = self._by_place.get((target.subscription, scope))
        if found is None:
            found = self._by_place[target.subscription, scope] = Collector(target, scope)
        return found

    def park(self, image: CollectorImage) -> Unclaimed:
        """Make room for what a subscription holds, until it is declared."""
        found = self._unclaimed[image.subscription, image.scope] = Unclaimed(image)
        return found

    def claim(self, targets: Mapping[str, Target]) -> list[Collector]:
        """Make collectors of what waits for these subscriptions, if they still collect as they did; gives them."""
        claimed: list[Collector] = []
        for place, held in list(self._unclaimed.items()):
            target = targets.get(place[0])
            if target is not None and held.fits(target):
                collector = self._by_place[place] = Collector(target, held.scope)
                collector.fill(held)
                claimed.append(collector)
                del self._unclaimed[place]
        return claimed

    def forget(self, run: str) -> None:
        """Drop a run's collectors."""
        for places in (self._by_place, self._unclaimed):
            for place in [place for place in places if place[1] == run]:
                del places[place]
