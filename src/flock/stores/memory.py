"""The memory store: a board that lasts as long as its process, and costs almost nothing."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

from flock.model.artifact import Record
from flock.model.errors import Backpressure, PublishError, RunCancelledError, Stale
from flock.model.events import Waiting, WaitReason
from flock.model.ledger import (
    BOARD,
    Activation,
    Commit,
    Committed,
    Consumption,
    Direct,
    Expired,
    Lease,
    Offer,
    Outcome,
    Progress,
    Query,
    Settle,
    State,
    Target,
    Tick,
    TimerState,
    Withdrawn,
)
from flock.ports import Clock, never_waits
from flock.stores.collecting import Changes, Collector
from flock.stores.log import Log

# What is kept of an ended activation: plain strings, which the garbage collector does not visit.
_Ended = tuple[str | int | None, ...]
_INPUTS = 6  # where the ids of the inputs start
_REASONS: dict[State, WaitReason] = {State.READY: "ready", State.RUNNING: "running", State.DELAYED: "retry"}
_OPEN = (State.READY, State.RUNNING, State.DELAYED)
_LEFT_BY: Mapping[Outcome, Sequence[State]] = {
    "done": (State.DONE,),
    "failed": (State.FAILED,),
    "cancelled": (State.CANCELLED,),
    "skipped": (State.CANCELLED,),
    "retry": (State.DELAYED, State.READY),
    "defer": (State.DELAYED, State.READY),
}


class _Run:
    """What the store counts per run."""

    __slots__ = ("cancelled", "failed", "open", "ordinals", "succeeded", "timed", "was_cancelled")

    def __init__(self) -> None:
        self.open = 0
        self.timed = 0
        self.succeeded = 0
        self.failed = 0
        self.cancelled = 0
        self.was_cancelled = False
        self.ordinals: dict[str, int] = {}

    def count(self, state: State) -> None:
        """Count an activation that has ended."""
        if state is State.DONE:
            self.succeeded += 1
        elif state is State.FAILED:
            self.failed += 1
        else:
            self.cancelled += 1


class _Queue:
    """The ready activations of one agent, best first, and how many of its activations run."""

    __slots__ = ("ready", "running")

    def __init__(self) -> None:
        self.ready: list[tuple[int, int, Activation]] = []
        self.running = 0


class MemoryStore:
    """A store in memory. `keep_runs=n` forgets the artifacts of finished runs but the newest n."""

    forgets = True

    def __init__(self, *, keep_runs: int | None = None) -> None:
        """Start with an empty board."""
        self._clock: Clock | None = None
        self._keep_runs = keep_runs
        self._log = Log()
        self._runs: dict[str, _Run] = {}
        self._board = _Run()  # what ended and what timed batches hold, each counted once
        self._open: dict[str, Activation] = {}
        self._ended: dict[str, _Ended] = {}
        self._queues: dict[str, _Queue] = {}
        self._collectors: dict[tuple[str, str], Collector] = {}
        self._yields: dict[str, dict[int, Record]] = {}
        self._replayed: set[tuple[str, str]] = set()
        self._timers: dict[str, TimerState] = {}
        self._timeline: list[tuple[float, int, Activation | Offer | Collector]] = []
        self._finished: dict[str, None] = {}
        self._order = itertools.count(1)

    # ------------------------------------------------------------------ the store's life

    async def open(self, clock: Clock) -> Committed:
        """Take the clock; activations that another loop left running are ready again."""
        self._clock = clock
        for activation in self._open.values():
            if activation.state is State.RUNNING:
                self._give_back(activation)
        return Committed(due=self._due())

    async def close(self) -> None:
        """Keep everything: the board is there as long as the store object is."""

    def wakeups(self) -> AsyncIterator[object] | None:
        """Nobody else changes this board."""
        return None

    # ------------------------------------------------------------------ the one step

    @never_waits
    async def commit(self, commit: Commit) -> Committed:
        """Check everything first; what follows can't fail."""
        lease = commit.lease
        if lease is not None and not self._mine(lease):
            return self._repeated(lease, commit)
        stored = self._admit(commit)
        now = self._now()
        result = Committed(stored)
        log = self._log
        before = log.sequence
        for record in stored:
            if not record.sequence:
                log.append(record)
        if lease is not None and commit.settle is None:
            self._keep_yields(lease, stored)
        touched: list[str] = []
        changes: Changes | None = None
        if commit.offers and commit.offers[0].replayed:
            self._remember()
        for offer in commit.offers:
            if self._seen(offer) if offer.replayed else offer.record.sequence <= before:
                continue  # a repeat: the first record with this id made the offers
            if offer.not_before > now:
                self._push(offer.not_before, offer)
            elif offer.target.stages:
                changes = changes or Changes()
                self._collect(offer, now, changes)
            else:
                self._start(offer.target, (offer.record,), ())
                touched.append(offer.target.agent)
        if commit.ticks or commit.direct is not None:
            self._start_others(commit, result, touched)
        if changes is not None:
            self._apply(changes, result, touched)
        if lease is not None and commit.settle is not None:
            self._settle(lease.activation, commit.settle, now, result, touched)
        if self._keep_runs is not None:
            self._count_idle_runs(stored, result)
        if commit.limits is not None:
            self._lease(touched, commit.limits, result)
        result.due = self._due()
        return result

    def _mine(self, lease: Lease) -> bool:
        activation = lease.activation
        return activation.epoch == lease.epoch and activation.state is State.RUNNING and activation.id in self._open

    def _repeated(self, lease: Lease, commit: Commit) -> Committed:
        activation, settle = lease.activation, commit.settle
        if settle is not None and activation.epoch == lease.epoch and activation.state in _LEFT_BY[settle.outcome]:
            found = [self._log.get(record.id) for record in commit.records]
            stored = [record for record in found if record is not None]
            if len(stored) == len(found):
                return Committed(stored, due=self._due(), repeated=True)
        message = f"activation {activation.id} is no longer this worker's: nothing was written"
        raise Stale(message)

    def _admit(self, commit: Commit) -> Sequence[Record]:
        """Give the records to be, older ones in place of repeats; raises when the commit can't be done."""
        full = commit.max_pending is not None and len(self._open) >= commit.max_pending
        if full and (not commit.records or any(self._log.get(record.id) is None for record in commit.records)):
            message = f"{len(self._open)} activations are open"
            raise Backpressure(message)
        runs = self._runs
        repeats = False
        for record in commit.records:
            run = runs.get(record.run)
            if run is None:
                continue
            if run.was_cancelled:
                message = f"run {record.run!r} was cancelled"
                raise RunCancelledError(message)
        first: dict[str, Record] = {}
        for record in commit.records:
            older = self._log.get(record.id) or first.setdefault(record.id, record)
            if older is not record:
                repeats = True
                if not older.same_content(record):
                    message = f"an artifact with id {record.id!r} is on the board with other content"
                    raise PublishError(message)
        if commit.lease is not None and commit.lease.activation.id in self._yields:
            repeats = True
        if commit.direct is not None and commit.direct.run in runs and runs[commit.direct.run].was_cancelled:
            message = f"run {commit.direct.run!r} was cancelled"
            raise RunCancelledError(message)
        return [self._stored(record, commit.lease, first) for record in commit.records] if repeats else commit.records

    def _stored(self, record: Record, lease: Lease | None, first: Mapping[str, Record]) -> Record:
        older = self._log.get(record.id) or (None if first[record.id] is record else first[record.id])
        if older is None and lease is not None and record.slot is not None:
            older = self._yields.get(lease.activation.id, {}).get(record.slot)
        return record if older is None else older

    def _keep_yields(self, lease: Lease, stored: Iterable[Record]) -> None:
        kept = self._yields.setdefault(lease.activation.id, {})
        for record in stored:
            if record.slot is not None:
                kept[record.slot] = record

    def _remember(self) -> None:
        """Note what every subscription has had, before something is replayed."""
        marks = self._replayed
        for row in self._ended.values():
            marks.update((str(row[1]), str(each)) for each in row[_INPUTS:])
        for activation in self._open.values():
            marks.update((activation.subscription, record.id) for record in activation.inputs)
        for collector in self._collectors.values():
            marks.update((collector.target.subscription, record.id) for record in collector.records())
        late = (entry for _, _, entry in self._timeline if isinstance(entry, Offer))
        marks.update((offer.target.subscription, offer.record.id) for offer in late)

    def _seen(self, offer: Offer) -> bool:
        run = self._runs.get(offer.record.run)
        if run is not None and run.was_cancelled:
            return True
        mark = (offer.target.subscription, offer.record.id)
        if mark in self._replayed:
            return True
        self._replayed.add(mark)
        return False

    def _start_others(self, commit: Commit, result: Committed, touched: list[str]) -> None:
        skipped: list[Tick] = []
        for tick in commit.ticks:
            state = self._timers.get(tick.target.agent, TimerState(0, 0.0, 0))
            if tick.iteration <= state.iteration:
                continue
            running = any(a.trigger == "timer" and a.agent == tick.target.agent for a in self._open.values())
            self._timers[tick.target.agent] = TimerState(tick.iteration, tick.fire_time, state.skipped + running)
            if running:
                skipped.append(tick)
            else:
                self._start(tick.target, (), (), tick=tick)
                touched.append(tick.target.agent)
        result.skipped = skipped
        direct = commit.direct
        if direct is not None and direct.id not in self._open and direct.id not in self._ended:
            inputs = tuple([self._log.get(record.id) or record for record in direct.records])
            self._start(direct.target, inputs, (), direct=direct)
            touched.append(direct.target.agent)

    def _start(
        self,
        target: Target,
        inputs: tuple[Record, ...],
        groups: tuple[tuple[Record, ...], ...],
        *,
        tick: Tick | None = None,
        direct: Direct | None = None,
    ) -> None:
        """Make an activation ready."""
        if len(inputs) == 1 and direct is None:
            name = inputs[0].run
            names: tuple[str, ...] = (name,)
        else:
            name = direct.run if direct else tick.run if tick else max(inputs, key=_sequence).run
            names = tuple(dict.fromkeys((name, *(record.run for record in inputs))))
        for each in names:
            run = self._runs.get(each)
            if run is None:
                run = self._runs[each] = _Run()
            run.open += 1
            if each in self._finished:
                del self._finished[each]
        run = self._runs[name]
        run.ordinals[target.agent] = ordinal = run.ordinals.get(target.agent, 0) + 1
        activation = Activation(
            direct.id if direct else self._now_id(),
            target.agent,
            target.subscription,
            inputs,
            name,
            names,
            target.priority,
            next(self._order),
            "direct" if direct else "timer" if tick else "artifact",
            groups,
            bool(groups),
            ordinal,
        )
        if tick is not None:
            activation.fire_time, activation.iteration = tick.fire_time, tick.iteration
        if direct is not None:
            activation.trace_context = direct.trace_context
        self._open[activation.id] = activation
        self._enqueue(activation)

    def _settle(self, activation: Activation, settle: Settle, now: float, result: Committed, touched: list[str]) -> None:
        self._queues[activation.agent].running -= 1
        touched.append(activation.agent)
        activation.error = settle.error
        if settle.outcome in {"retry", "defer"}:
            activation.state = State.DELAYED
            activation.due = now + settle.delay
            if settle.outcome == "defer":
                activation.attempt -= 1
                activation.deferrals += 1
            self._push(activation.due, activation)
            return
        done, failed = settle.outcome == "done", settle.outcome == "failed"
        self._end(activation, State.DONE if done else State.FAILED if failed else State.CANCELLED)
        quiet = [name for name in activation.runs if self._is_quiet(name)]
        if quiet:
            result.quiet = [*result.quiet, *quiet]

    def _end(self, activation: Activation, state: State) -> None:
        activation.state = state
        del self._open[activation.id]
        self._ended[activation.id] = (
            activation.agent, activation.subscription, activation.run, state.value, activation.attempt,
            activation.error, *[record.id for record in activation.inputs],
        )  # fmt: skip
        if activation.id in self._yields:
            del self._yields[activation.id]
        for name in activation.runs:
            run = self._runs[name]
            run.open -= 1
            run.count(state)
        self._board.count(state)

    def _is_quiet(self, name: str) -> bool:
        run = self._runs[name]
        if run.open or run.timed:
            return False
        run.ordinals.clear()
        if self._keep_runs is not None:
            self._finish(name)
        return True

    # ------------------------------------------------------------------ collecting

    def _collect(self, offer: Offer, now: float, changes: Changes) -> None:
        target = offer.target
        scope = BOARD if target.board_wide else offer.record.run
        collector = self._collectors.get((target.subscription, scope))
        if collector is None:
            collector = self._collectors[target.subscription, scope] = Collector(target, scope)
        due = collector.offer(offer, now, changes)
        if due is not None and (collector.due is None or due < collector.due):
            collector.due = due
            self._push(due, collector)

    def _apply(self, changes: Changes, result: Committed, touched: list[str]) -> None:
        for fired in changes.fired:
            inputs = tuple([record for group in fired.groups for record in group])
            batched = fired.target.batches
            if batched and all(len(group) == 1 for group in fired.groups):
                inputs = tuple(sorted(inputs, key=_sequence))
            self._start(fired.target, inputs, fired.groups if batched else ())
            touched.append(fired.target.agent)
        for name, change in changes.timed:
            run = self._runs.get(name)
            if run is None:
                run = self._runs[name] = _Run()
            run.timed += change
            self._board.timed += change
        freed = {name for name, change in changes.timed if change < 0 and self._is_quiet(name)}
        result.quiet = [*result.quiet, *sorted(freed)]
        gone = [Expired(target.agent, record.run, (record,), reason) for target, record, reason in changes.expired]
        result.expired = [*result.expired, *gone]

    # ------------------------------------------------------------------ what becomes due

    async def tick(self, limits: Mapping[str, int]) -> Committed:
        """Make due what is due."""
        now = self._now()
        result, changes, touched = Committed(), Changes(), list[str]()
        timeline = self._timeline
        while timeline and timeline[0][0] <= now:
            when, _, entry = heapq.heappop(timeline)
            match entry:
                case Activation():
                    if entry.state is State.DELAYED and entry.due == when:
                        self._enqueue(entry)
                        touched.append(entry.agent)
                case Offer():
                    self._offer_late(entry, now, changes, touched)
                case Collector():
                    if entry.due == when:
                        entry.due = entry.expire(now, changes)
                        if entry.due is not None:
                            self._push(entry.due, entry)
        self._apply(changes, result, touched)
        self._lease(touched, limits, result)
        result.due = self._due()
        return result

    def _offer_late(self, offer: Offer, now: float, changes: Changes, touched: list[str]) -> None:
        run = self._runs.get(offer.record.run)
        if run is not None and run.was_cancelled:
            return
        if offer.target.stages:
            self._collect(offer, now, changes)
        else:
            self._start(offer.target, (offer.record,), ())
            touched.append(offer.target.agent)

    async def flush(self, run: str | None, limits: Mapping[str, int]) -> Committed:
        """Fire partial batches."""
        result, changes, touched = Committed(), Changes(), list[str]()
        now = self._now()
        for collector in list(self._collectors.values()):
            if collector.count(run):
                collector.flush(now, changes)
        self._apply(changes, result, touched)
        self._lease(touched, limits, result)
        result.due = self._due()
        return result

    def _push(self, due: float, entry: Activation | Offer | Collector) -> None:
        heapq.heappush(self._timeline, (due, next(self._order), entry))

    def _due(self) -> float | None:
        return self._timeline[0][0] if self._timeline else None

    # ------------------------------------------------------------------ leases

    def _enqueue(self, activation: Activation) -> None:
        activation.state = State.READY
        queue = self._queues.get(activation.agent)
        if queue is None:
            queue = self._queues[activation.agent] = _Queue()
        heapq.heappush(queue.ready, (-activation.priority, activation.order, activation))

    def _lease(self, agents: Iterable[str], limits: Mapping[str, int], result: Committed) -> None:
        leases: list[Lease] | None = None
        for name in agents:
            limit = limits.get(name)
            if limit is None:
                continue
            queue = self._queues[name]
            while queue.ready and queue.running < limit:
                activation = heapq.heappop(queue.ready)[2]
                if activation.state is not State.READY:
                    continue
                queue.running += 1
                activation.state = State.RUNNING
                activation.epoch += 1
                activation.attempt += 1
                lease = Lease(activation, activation.epoch, activation.attempt)
                if leases is None:
                    result.leases = leases = [lease]
                else:
                    leases.append(lease)

    async def claim(self, limits: Mapping[str, int], most: int) -> Sequence[Lease]:
        """Lease what is ready."""
        result = Committed()
        self._lease([name for name in limits if name in self._queues], limits, result)
        leases = sorted(result.leases, key=_urgency)
        for lease in leases[most:]:
            self._give_back(lease.activation)
        return leases[:most]

    async def release(self, lease: Lease) -> Committed:
        """Make an activation ready again."""
        if self._mine(lease):
            self._give_back(lease.activation)
        return Committed(due=self._due())

    def _give_back(self, activation: Activation) -> None:
        self._queues[activation.agent].running -= 1
        activation.epoch += 1
        activation.attempt -= 1
        self._enqueue(activation)

    async def cancel(self, *, run: str | None = None, activation: str | None = None) -> Withdrawn:
        """End a run, or one activation."""
        mine = [a for a in self._open.values() if a.run == run or a.id == activation]
        running = tuple(a.id for a in mine if a.state is State.RUNNING)
        result, changes = Committed(), Changes()
        gone: list[Record] = []
        if run is not None:
            self._runs.setdefault(run, _Run()).was_cancelled = True
            for collector in list(self._collectors.values()):
                gone += collector.withdraw(run, changes)
            late = [entry for _, _, entry in self._timeline if isinstance(entry, Offer) and entry.record.run == run]
            gone += [offer.record for offer in late]
            self._timeline = [item for item in self._timeline if item[2] not in late]
            heapq.heapify(self._timeline)
            self._apply(changes, result, [])
        for each in mine:
            if each.state is State.RUNNING:
                self._queues[each.agent].running -= 1
            each.epoch += 1
            self._end(each, State.CANCELLED)
        names = dict.fromkeys(name for each in mine for name in each.runs)
        result.quiet = [*result.quiet, *(name for name in names if self._is_quiet(name))]
        if run is not None and run not in result.quiet and self._is_quiet(run):
            result.quiet = [*result.quiet, run]
        result.due = self._due()
        return Withdrawn(running, tuple(each.id for each in mine), tuple(gone), result)

    # ------------------------------------------------------------------ reading

    async def work(self, run: str | None = None) -> int:
        """Count open activations and what timed batches hold."""
        if run is None:
            return len(self._open) + self._board.timed
        found = self._runs.get(run)
        return 0 if found is None else found.open + found.timed

    async def progress(self, run: str | None = None) -> Progress:
        """Count."""
        counts = self._board if run is None else self._runs.get(run) or _Run()
        states: dict[State, int] = dict.fromkeys(_OPEN, 0)
        for activation in self._open.values():
            if run is None or run in activation.runs:
                states[activation.state] += 1
        rows = sum(collector.count(run) for collector in self._collectors.values())
        artifacts = len(self._log) if run is None else self._log.count(run)
        return Progress(
            known=run in self._runs or artifacts > 0,
            was_cancelled=counts.was_cancelled,
            ready=states[State.READY],
            running=states[State.RUNNING],
            delayed=states[State.DELAYED],
            timed=counts.timed,
            succeeded=counts.succeeded,
            failed=counts.failed,
            cancelled=counts.cancelled,
            collecting=rows + self._late(run),
            artifacts=artifacts,
            sequence=self._log.sequence,
        )

    async def waiting(self, run: str | None = None) -> Sequence[Waiting]:
        """Describe what waits."""
        found = [each for collector in self._collectors.values() for each in collector.waiting(run)]
        for due, _, entry in sorted(self._timeline, key=_when):
            if isinstance(entry, Offer) and run in {None, entry.record.run}:
                found.append(
                    Waiting(
                        reason="after", agent=entry.target.agent, run=entry.record.run,
                        artifacts=(entry.record.id,), due=due, detail="not visible yet",
                    )  # fmt: skip
                )
        for activation in self._open.values():
            if run is None or run in activation.runs:
                reason = _REASONS[activation.state]
                found.append(
                    Waiting(
                        reason=reason, agent=activation.agent, run=activation.run, due=activation.due,
                        artifacts=tuple(record.id for record in activation.inputs), detail=activation.id,
                    )  # fmt: skip
                )
        return found

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
        rows = [(key, row) for key, row in self._ended.items() if id in row[_INPUTS:]]
        return [Consumption(id, str(row[0]), key, str(row[3])) for key, row in rows] + [
            Consumption(id, each.agent, each.id, each.state.value)
            for each in self._open.values()
            if any(record.id == id for record in each.inputs)
        ]

    async def activation(self, id: str) -> Activation | None:
        """Look an activation up."""
        row = self._ended.get(id)
        if row is None:
            return self._open.get(id)
        agent, subscription, run, state, attempt, error, *ids = row
        inputs = tuple(await self.get([str(each) for each in ids]))
        return Activation(
            id, str(agent), str(subscription), inputs, str(run), (str(run),), 0, 0, "artifact", state=State(state),
            attempt=int(attempt or 0), error=None if error is None else str(error),
        )  # fmt: skip

    async def timers(self) -> Mapping[str, TimerState]:
        """Give the schedules' state."""
        return dict(self._timers)

    async def runs(self) -> Sequence[str]:
        """Name the runs."""
        return self._log.runs()

    # ------------------------------------------------------------------ forgetting

    def _finish(self, name: str) -> None:
        self._finished[name] = None
        keep = self._keep_runs or 0
        busy = {record.run for collector in self._collectors.values() for record in collector.records()}
        for candidate in list(self._finished)[: max(0, len(self._finished) - keep)]:
            if candidate not in busy:
                del self._finished[candidate]
                self._forget(candidate)

    def _count_idle_runs(self, stored: Sequence[Record], result: Committed) -> None:
        names = dict.fromkeys(record.run for record in stored)
        for name in names:
            self._runs.setdefault(name, _Run())
        result.quiet = [*result.quiet, *(name for name in names if name not in result.quiet and self._is_quiet(name))]

    def _forget(self, name: str) -> None:
        del self._runs[name]
        self._log.forget(name)
        for key in [key for key, row in self._ended.items() if row[2] == name]:
            del self._ended[key]
        for mark in [key for key in self._collectors if key[1] == name]:
            del self._collectors[mark]

    def _late(self, run: str | None) -> int:
        return sum(isinstance(entry, Offer) and run in {None, entry.record.run} for _, _, entry in self._timeline)

    def _now(self) -> float:
        if self._clock is None:
            message = "the store is not open"
            raise Stale(message)
        return self._clock.now()

    def _now_id(self) -> str:
        if self._clock is None:
            message = "the store is not open"
            raise Stale(message)
        return self._clock.new_id()


def _sequence(record: Record) -> int:
    return record.sequence


def _urgency(lease: Lease) -> tuple[int, int]:
    return -lease.activation.priority, lease.activation.order


def _when(item: tuple[float, int, object]) -> tuple[float, int]:
    return item[0], item[1]
