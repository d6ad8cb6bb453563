"""The memory store's activations: each one's life, from the match that started it to its end."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NoReturn

from flock.model.artifact import Record
from flock.model.errors import StoreError
from flock.model.events import Waiting, WaitReason
from flock.model.ledger import (
    Activation,
    Direct,
    Lease,
    Outcome,
    Settle,
    State,
    Target,
    Tick,
    TimerState,
    Trigger,
)
from flock.stores.activating import STATES, begin
from flock.stores.memory.archive import Archive
from flock.stores.memory.queues import Queues
from flock.stores.memory.runs import Runs
from flock.stores.memory.timeline import Timeline

_REASONS: Mapping[State, WaitReason] = {State.READY: "ready", State.RUNNING: "running", State.DELAYED: "retry"}


def unopened() -> NoReturn:
    """Stand for the clock until there is one."""
    raise StoreError("the store is not open")


class Activations:
    """The open activations by id; runs count them, queues order them, the archive takes those that end."""

    def __init__(self, runs: Runs, archive: Archive, timeline: Timeline) -> None:
        """Start with none."""
        self.open: dict[str, Activation] = {}
        self.queues = Queues()
        self.archive = archive
        self.timers: dict[str, TimerState] = {}
        self.new_id: Callable[[], str] = unopened
        self.now: Callable[[], float] = unopened
        self.yields: dict[str, dict[int, Record]] = {}  # what streams have committed so far, by activation and slot
        self._runs = runs
        self._timeline = timeline
        self._order = itertools.count(1)

    def start(
        self,
        target: Target,
        inputs: tuple[Record, ...],
        groups: tuple[tuple[Record, ...], ...] = (),
        *,
        id: str | None = None,
        run: str | None = None,
        trigger: Trigger = "artifact",
    ) -> Activation:
        """Make an activation ready, in the run of its newest input unless another is given."""
        id = id or self.new_id()
        activation = self.open[id] = begin(
            id, next(self._order), target, inputs, groups,
            run=run, trigger=trigger, count=self._runs.start,
        )  # fmt: skip
        self.queues.fresh.append(activation)
        return activation

    def start_tick(self, tick: Tick) -> bool:
        """Start a new firing of a schedule; False when it is skipped, because the one before is open."""
        agent = tick.target.agent
        state = self.timers.get(agent, TimerState(0, 0.0, 0))
        if tick.iteration <= state.iteration:
            return True
        running = any(each.trigger == "timer" and each.agent == agent for each in self.open.values())
        self.timers[agent] = TimerState(tick.iteration, tick.fire_time, state.skipped + running)
        if not running:
            started = self.start(tick.target, (), run=tick.run, trigger="timer")
            started.fire_time, started.iteration = tick.fire_time, tick.iteration
        return not running

    def start_direct(self, direct: Direct, inputs: tuple[Record, ...]) -> None:
        """Start an activation that its caller waits for, once."""
        if direct.id not in self.open and direct.id not in self.archive:
            started = self.start(direct.target, inputs, id=direct.id, run=direct.run, trigger="direct")
            started.trace_context = direct.trace_context

    def restore(self, activation: Activation, outcome: Outcome | None) -> None:
        """Take an activation over as another store had it: open, or ended."""
        self._order = itertools.count(activation.order + 1)
        self._runs.start(activation.runs, activation.agent)
        if outcome is not None:
            self.archive.add(activation, outcome)
            self._runs.end(activation.runs, outcome)
            return
        self.open[activation.id] = activation
        if activation.state is State.DELAYED and activation.due is not None:
            self._timeline.push(activation.due, activation)
        else:
            self.queues.fresh.append(activation)

    def end_restoring(self, records: Iterable[Record]) -> None:
        """Queue what is ready, and know what earlier attempts of what is open have put down."""
        self.queues.settle_down(None)
        for record in records:
            if record.slot is not None and record.activation_id is not None and record.activation_id in self.open:
                self.yields.setdefault(record.activation_id, {})[record.slot] = record

    def holds(self, lease: Lease) -> bool:
        """Say whether a lease is still its worker's."""
        activation = lease.activation
        return activation.epoch == lease.epoch and activation.state is State.RUNNING and activation.id in self.open

    def settle(self, lease: Lease, settle: Settle | None, records: Iterable[Record]) -> bool:
        """End an attempt; says whether it was the last activation in a run of its.

        Without a settlement the records are what a stream has yielded so far: its next attempt gets them back.
        """
        activation = lease.activation
        if settle is None:
            kept = self.yields.setdefault(activation.id, {})
            kept.update((record.slot, record) for record in records if record.slot is not None)
            return False
        self.queues.leave(activation)
        activation.error = settle.error
        outcome = settle.outcome
        if outcome in STATES:
            return self.end(activation, outcome)
        activation.state = State.DELAYED
        activation.due = due = self.now() + settle.delay
        if outcome == "defer":
            activation.attempt -= 1
            activation.deferrals += 1
        self._timeline.push(due, activation)
        return False

    def end(self, activation: Activation, outcome: Outcome) -> bool:
        """End an activation; says whether it was the last one in a run of its."""
        id = activation.id
        activation.state = STATES[outcome]
        del self.open[id]
        self.archive.add(activation, outcome)
        if self.yields:
            self.yields.pop(id, None)
        return self._runs.end(activation.runs, outcome)

    def give_back(self, activation: Activation) -> None:
        """Make a running activation ready again; the attempt is not counted."""
        self.queues.put_back(activation)
        activation.epoch += 1
        activation.attempt -= 1

    def recover(self) -> None:
        """Make ready again what runs."""
        for activation in self.open.values():
            if activation.state is State.RUNNING:
                self.give_back(activation)

    def claim(self, limits: Mapping[str, int], most: int) -> Sequence[Lease]:
        """Lease what is ready, the most urgent first."""
        leases = self.queues.claim(limits)
        for lease in leases[most:]:
            self.give_back(lease.activation)
        return leases[:most]

    def wake(self, activation: Activation) -> None:
        """Make a delayed activation ready."""
        activation.state = State.READY
        self.queues.fresh.append(activation)

    def cancel(self, activations: Iterable[Activation]) -> None:
        """End activations as they stand; whoever runs one has lost it."""
        for each in activations:
            if each.state is State.RUNNING:
                self.queues.leave(each)
            each.epoch += 1
            self.end(each, "cancelled")

    def of(self, run: str | None) -> list[Activation]:
        """Give the open activations (that a run contributed to), oldest first."""
        return [each for each in self.open.values() if run is None or run in each.runs]

    def waiting(self, run: str | None) -> Iterator[Waiting]:
        """Describe the open activations (of a run)."""
        for each in self.of(run):
            yield Waiting(
                reason=_REASONS[each.state],
                agent=each.agent,
                run=each.run,
                artifacts=tuple([record.id for record in each.inputs]),
                due=each.due,
                detail=each.id,
                subscription=each.subscription,
            )
