"""The memory store: a board that lasts as long as its process, and costs almost nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from flock.board.image import Image
from flock.model.artifact import Record
from flock.model.errors import StoreError
from flock.model.events import Waiting
from flock.model.ledger import (
    Activation,
    Commit,
    Committed,
    Consumption,
    Expired,
    Lease,
    Offer,
    Progress,
    Query,
    State,
    Target,
    TimerState,
    Withdrawn,
)
from flock.ports import Clock, Types
from flock.stores.collecting import Changes
from flock.stores.memory.activations import Activations, unopened
from flock.stores.memory.admission import Admission
from flock.stores.memory.archive import Archive
from flock.stores.memory.collectors import Collector, Collectors
from flock.stores.memory.log import Log
from flock.stores.memory.replays import Replays
from flock.stores.memory.restoring import Restoring, readable
from flock.stores.memory.runs import Runs
from flock.stores.memory.timeline import Timeline

OPTIONS = ("keep_runs",)


def from_url(path: str, options: Mapping[str, str]) -> MemoryStore:
    """Make the store of `memory://?keep_runs=n`; raises ValueError."""
    keep = options.get("keep_runs")
    if path:
        raise ValueError("a memory store has no path")
    if keep is not None and not keep.isdigit():
        raise ValueError("keep_runs takes a count of zero or more")
    return MemoryStore(keep_runs=None if keep is None else int(keep))


class MemoryStore:
    """A store in memory. `keep_runs=n` forgets the artifacts of finished runs but the newest n."""

    forgets = True

    def __init__(self, *, keep_runs: int | None = None) -> None:
        """Start with an empty board."""
        self._keep_runs = keep_runs
        self._declared: dict[str, Target] = {}
        self.forget()

    def forget(self) -> None:
        """Have an empty board: in the child of a fork it is another one."""
        self._now: Callable[[], float] = unopened
        self._types: Types | None = None  # for restoring: else it holds the payloads themselves
        self._hint: Callable[[], None] = _ignore
        self._restored = 0.0  # the time of the image that this board has come from
        self._log = Log()
        self._runs = Runs(self._keep_runs)
        self._archive = Archive(self._log)
        self._timeline = Timeline()
        self._collectors = Collectors()
        self._activations = Activations(self._runs, self._archive, self._timeline)
        self._admission = Admission(self._log, self._runs, self._activations)
        self._replays = Replays(self._runs, self._activations, self._collectors, self._timeline)

    async def open(self, clock: Clock, types: Types) -> Committed:
        """Take the clock; activations that another loop left running are ready again."""
        clock.advance_to(self._restored)
        self._types = types
        self._now = self._activations.now = clock.now
        self._activations.new_id = clock.new_id
        self._activations.recover()
        return Committed(due=self._timeline.due)

    def declare(self, targets: Iterable[Target]) -> None:
        """Give them what waits for them since it was restored; else every collector comes with its subscription."""
        self._declared.update((target.subscription, target) for target in targets)
        self._hand_over()

    def _hand_over(self) -> None:
        late = self._timeline.claim(self._declared)
        for collector in self._collectors.claim(self._declared):
            if collector.due is not None:
                self._timeline.push(collector.due, collector)
                late = True
        if late:
            self._hint()

    async def close(self) -> None:
        """Keep everything: the board is there as long as the store object is."""

    def attend(self, hint: Callable[[], None], unheard: Callable[[Committed], None]) -> None:  # noqa: ARG002 - no commit suspends
        """Tell of what is due when a subscription is declared; nobody else changes this board."""
        self._hint = hint

    # ------------------------------------------------------------------ the one step

    async def commit(self, commit: Commit) -> Committed:
        """Check everything first; what follows can't fail."""
        lease, activations = commit.lease, self._activations
        if lease is not None and not activations.holds(lease):
            result = self._admission.repeated(lease, commit)
            result.due = self._timeline.due
            return result
        log, stored = self._log, commit.records
        if not self._admission.is_plain(commit) or not log.lacks(stored):
            stored = self._admission.admit(commit)
        result = Committed(stored)
        before = log.sequence
        log.extend(stored)
        changes = self._place(commit.offers, before) if commit.offers else None
        if commit.ticks or commit.direct:
            self._start_others(commit, result)
        if changes:
            self._apply(changes, result)
        if lease is not None and activations.settle(lease, commit.settle, stored):
            self._note_quiet(lease.activation.runs, result)
        if self._runs.keep is not None:
            self._note_idle(stored, result)
        result.leases = activations.queues.settle_down(commit.limits)
        result.due = self._timeline.due
        return result

    def _place(self, offers: Sequence[Offer], before: int) -> Changes | None:
        """Start, collect or hold back what the records since a sequence match."""
        changes: Changes | None = None
        if offers[0].replayed:
            self._replays.remember()
        for offer in offers:
            target, record, not_before = offer.target, offer.record, offer.not_before
            if self._replays.had(offer) if offer.replayed else record.sequence <= before:
                continue  # a repeat: the first record with this id made the offers
            if not_before and not_before > self._now():
                self._timeline.push(not_before, offer)
            elif target.stages:
                changes = Changes() if changes is None else changes
                self._collect(offer, self._now(), changes)
            else:
                self._activations.start(target, (record,))
        return changes

    def _start_others(self, commit: Commit, result: Committed) -> None:
        result.skipped = [tick for tick in commit.ticks if not self._activations.start_tick(tick)]
        direct = commit.direct
        if direct is not None:
            inputs = tuple([self._log.get(record.id) or record for record in direct.records])
            self._activations.start_direct(direct, inputs)

    # ------------------------------------------------------------------ collecting

    def _collect(self, offer: Offer, now: float, changes: Changes) -> None:
        collector = self._collectors.of(offer)
        due = collector.offer(offer, now, changes)
        if due is not None and (collector.due is None or due < collector.due):
            collector.due = due
            self._timeline.push(due, collector)

    def _apply(self, changes: Changes, result: Committed) -> None:
        """Start what collectors completed; count and tell what they let go."""
        for target, groups, _ in changes.fired:
            inputs = [record for group in groups for record in group]
            if target.batches and all(len(group) == 1 for group in groups):
                inputs.sort(key=_sequence)
            self._activations.start(target, tuple(inputs), groups if target.batches else ())
        for name, change in changes.timed:
            self._runs.hold(name, change)
        freed = {name for name, change in changes.timed if change < 0}
        if freed:
            self._note_quiet(sorted(freed), result)
        gone = [Expired(target.agent, record.run, (record,), reason) for target, record, reason in changes.expired]
        if gone:
            result.expired = [*result.expired, *gone]

    # ------------------------------------------------------------------ what becomes due

    async def tick(self, limits: Mapping[str, int]) -> Committed:
        """Make due what is due."""
        now = self._now()
        changes = Changes()
        while (ripe := self._timeline.pop(now)) is not None:
            match ripe:
                case when, Activation() as activation:
                    if activation.state is State.DELAYED and activation.due == when:
                        self._activations.wake(activation)
                case _, Offer() as offer:
                    self._offer_late(offer, now, changes)
                case when, Collector() as collector:
                    if collector.due == when:
                        collector.due = collector.expire(now, changes)
                        if collector.due is not None:
                            self._timeline.push(collector.due, collector)
        return self._finish(changes, limits)

    def _offer_late(self, offer: Offer, now: float, changes: Changes) -> None:
        if offer.record.run in self._runs.cancelled:
            return
        if offer.target.stages:
            self._collect(offer, now, changes)
        else:
            self._activations.start(offer.target, (offer.record,))

    async def flush(self, run: str | None, limits: Mapping[str, int]) -> Committed:
        """Fire partial batches."""
        now, changes = self._now(), Changes()
        for collector in self._collectors:
            if collector.count(run):
                collector.flush(now, changes)
        return self._finish(changes, limits)

    def _finish(self, changes: Changes, limits: Mapping[str, int]) -> Committed:
        result = Committed()
        self._apply(changes, result)
        result.leases = self._activations.queues.settle_down(limits)
        result.due = self._timeline.due
        return result

    # ------------------------------------------------------------------ leases

    async def claim(self, limits: Mapping[str, int], most: int) -> Sequence[Lease]:
        """Lease what is ready."""
        return self._activations.claim(limits, most)

    async def release(self, lease: Lease) -> Committed:
        """Make an activation ready again."""
        if self._activations.holds(lease):
            self._activations.give_back(lease.activation)
        return Committed(due=self._timeline.due)

    async def cancel(self, *, run: str | None = None, activation: str | None = None) -> Withdrawn:
        """End a run, or one activation."""
        mine = [each for each in self._activations.open.values() if each.run == run or each.id == activation]
        running = tuple([each.id for each in mine if each.state is State.RUNNING])
        result = Committed()
        gone: list[Record] = []
        if run is not None:
            gone = self._withdraw(run, result)
        self._activations.cancel(mine)
        names = dict.fromkeys([name for each in mine for name in each.runs] + ([] if run is None else [run]))
        self._note_quiet(names, result)
        result.due = self._timeline.due
        return Withdrawn(running, tuple([each.id for each in mine]), tuple(gone), result)

    def _withdraw(self, run: str, result: Committed) -> list[Record]:
        """Refuse a run from now on; gives what it had in collectors, and what was held back."""
        self._runs.add(run)
        self._runs.cancelled.add(run)
        changes = Changes()
        gone = [record for collector in self._collectors for record in collector.withdraw(run, changes)]
        gone += self._timeline.withdraw(run)
        self._apply(changes, result)
        return gone

    # ------------------------------------------------------------------ reading

    async def work(self, run: str | None = None) -> int:
        """Count open activations and what timed batches hold."""
        counts = self._runs.of(run)
        return counts.open + counts.timed

    async def progress(self, run: str | None = None) -> Progress:
        """Count."""
        counts = self._runs.of(run)
        states = [activation.state for activation in self._activations.of(run)] if counts.open else ()
        artifacts = self._log.count(run)
        return Progress(
            known=run in self._runs or artifacts > 0,
            was_cancelled=run in self._runs.cancelled,
            ready=states.count(State.READY),
            running=states.count(State.RUNNING),
            delayed=states.count(State.DELAYED),
            timed=counts.timed,
            succeeded=counts.ended["done"],
            failed=counts.ended["failed"],
            cancelled=counts.ended["cancelled"] + counts.ended["skipped"],
            collecting=sum([each.count(run) for each in self._collectors]) + len(self._timeline.offers(run)),
            artifacts=artifacts,
            sequence=self._log.sequence,
            newest_failure=self._log.newest_failure,
        )

    async def waiting(self, run: str | None = None) -> Sequence[Waiting]:
        """Describe what waits."""
        collected = [each for collector in self._collectors for each in collector.waiting(run)]
        return [*collected, *self._timeline.waiting(run), *self._activations.waiting(run)]

    async def get(self, ids: Sequence[str]) -> Sequence[Record]:
        """Look ids up."""
        found = (self._log.get(each) for each in ids)
        return [record for record in found if record is not None]

    async def query(self, query: Query) -> Sequence[Record]:
        """Select records."""
        return self._log.select(query)

    async def follow(self, since: int, most: int) -> Sequence[Record]:
        """Read on."""
        return self._log.follow(since, most)

    async def children(self, ids: Sequence[str]) -> Sequence[Record]:
        """Look parents up."""
        return self._log.children(ids)

    async def consumptions(self, id: str) -> Sequence[Consumption]:
        """Look through the activations."""
        return self._archive.consumptions(id) + [
            Consumption(id, each.agent, each.id, each.state.value)
            for each in self._activations.open.values()
            if any(record.id == id for record in each.inputs)
        ]

    async def activation(self, id: str) -> Activation | None:
        """Look an activation up."""
        return self._activations.open.get(id) or self._archive.find(id)

    async def timers(self) -> Mapping[str, TimerState]:
        """Give the schedules' state."""
        return dict(self._activations.timers)

    async def runs(self) -> Sequence[str]:
        """Name the runs."""
        return self._log.runs()

    async def unserved(self) -> Sequence[str]:
        """What waits here has come with its agent."""
        return ()

    async def kinds(self) -> Sequence[str]:
        """Name the types."""
        return self._log.kinds()

    # ------------------------------------------------------------------ restoring

    async def restore(self, image: Image) -> None:
        """Become the board that an image shows; of its past the artifacts and who made and had them are kept."""
        types = self._types
        if types is None:
            unopened()
        pages = await asyncio.to_thread(lambda: [readable(page, types) for page in image])
        if self._log.sequence or self._activations.timers or self._runs:
            raise StoreError("an image goes into an empty store, and there is something on this board")
        restoring = Restoring(self._log, self._runs, self._activations, self._collectors, self._timeline)
        self._restored = restoring.take(pages)
        self._hand_over()

    # ------------------------------------------------------------------ forgetting

    def _note_quiet(self, names: Iterable[str], result: Committed) -> None:
        """Tell which of these runs have no work left."""
        quiet = [name for name in names if name not in result.quiet and self._runs.is_quiet(name)]
        if quiet:
            result.quiet = [*result.quiet, *quiet]
            if self._runs.keep is not None:
                self._forget()

    def _note_idle(self, stored: Iterable[Record], result: Committed) -> None:
        """Count runs as finished whose records nobody consumes."""
        names = [name for name in dict.fromkeys(record.run for record in stored) if name not in result.quiet]
        for name in names:
            self._runs.add(name)
        self._note_quiet(names, result)

    def _forget(self) -> None:
        busy = {record.run for collector in self._collectors for record in collector.records()}
        busy |= {offer.record.run for _, offer in self._timeline.offers(None)}
        for name in self._runs.forget(busy):
            self._log.forget(name)
            self._archive.forget(name)
            self._collectors.forget(name)


def _ignore() -> None:
    return


def _sequence(record: Record) -> int:
    return record.sequence
