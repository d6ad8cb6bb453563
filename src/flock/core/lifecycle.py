"""Background loops: each sleeps until its next deadline or a wake-up, and is gone when it has none."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from flock.core.agent import Agent
from flock.core.clock import finish
from flock.core.publish import Spine
from flock.core.schedule import Scheduler
from flock.core.timers import Fire, next_fire
from flock.model.events import Waiting
from flock.model.ledger import Commit, Committed, Tick, TimerState
from flock.model.schedule import Every, Schedule
from flock.ports import Clock

logger = logging.getLogger("flock")
_GATHER = 0.002  # seconds in which hints of other processes are taken together
_LATER = 0.05  # seconds until leases are taken up that nobody has heard of
_PATIENCE = 2.0  # seconds in which a loop that seems to end may do so
_AGAIN = 1.0  # seconds until a callback that failed is tried again


class DeadlineLoop:
    """Calls back at its deadline; the callback gives the next one, or None to end the loop until it is armed again."""

    def __init__(self, name: str, clock: Clock, callback: Callable[[], Awaitable[float | None]]) -> None:
        """Start without a deadline and without a task."""
        self._name = name
        self._clock = clock
        self._callback = callback
        self._due: float | None = None
        self._wake: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    def arm(self, due: float | None) -> None:
        """Call back at this time if nothing is due earlier."""
        if due is None or (self._due is not None and self._due <= due):
            return
        self._due = due
        if self._task is None or self._task.done():
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._run(), name=f"flock {self._name}", context=contextvars.Context())
        elif self._wake is not None:
            finish(self._wake)

    def disarm(self) -> None:
        """Forget a loop that is gone."""
        self._due = self._wake = self._task = None

    async def stop(self) -> None:
        """Cancel the task and wait for its end."""
        task, self._task, self._due = self._task, None, None
        if task is not None and task is not asyncio.current_task() and not task.done():
            task.cancel()
            await asyncio.wait({task})

    async def _run(self) -> None:
        while self._due is not None:
            self._wake = wake = asyncio.get_running_loop().create_future()
            handle = self._clock.call_at(self._due, partial(finish, wake))
            try:
                await wake
            finally:
                handle.cancel()
            if self._due is None or self._clock.now() < self._due:
                continue  # armed for another time meanwhile
            self._due = None
            try:
                self.arm(await self._callback())
            except Exception:
                logger.exception("the %s loop stumbled and goes on", self._name)
                self.arm(self._clock.now() + _AGAIN)


class LifecycleManager:
    """Owns the loops of one Flock: for what the store has due (batches, joins, retries, delays) and for schedules."""

    def __init__(self, spine: Spine, scheduler: Scheduler) -> None:
        """Arm loops when the spine learns of deadlines."""
        self._spine = spine
        self._scheduler = scheduler
        self._deadlines = DeadlineLoop("deadlines", spine.clock, self._tick)
        self._schedules = DeadlineLoop("schedules", spine.clock, self._fire)
        self._timers: dict[str, _Timer] = {}
        self._next_look: float | None = None
        self._doubt = False  # a task was cancelled: the loop may be ending
        self._hold = 0.0  # until when nothing is looked for, as it seems so
        self.skipped = 0
        spine.on_due = self._arm
        spine.on_unclaimed = self._look_later

    async def start_batch_timeout_checker(self) -> None:
        """Watch batch timeouts; they are watched anyway as soon as one is armed. Calling it twice is fine."""
        self._deadlines.arm((await self._spine.store.commit(Commit())).due)

    async def start_correlation_cleanup(self) -> None:
        """Watch the windows of joins; they are watched anyway as soon as one is armed. Calling it twice is fine."""
        await self.start_batch_timeout_checker()

    def watch(self, agent: Agent, state: TimerState | None) -> None:
        """Fire an agent by its schedule from now on, or go on where the store says that it stands."""
        if agent.schedule is not None:
            timer = self._timers[agent.name] = _Timer(agent, agent.schedule, self._spine.clock.now(), state)
            self._schedules.arm(timer.due)

    def unwatch(self, name: str) -> None:
        """Fire an agent no more."""
        self._timers.pop(name, None)
        self._spine.signals.changed.wake()

    def waiting(self) -> list[Waiting]:
        """Say which schedules wait for their next time."""
        return [
            Waiting(reason="schedule", agent=name, due=timer.due, detail=f"{timer.iteration} fired so far")
            for name, timer in self._timers.items()
            if timer.due is not None
        ]

    def adopt(self, due: float | None) -> None:
        """Work on the running loop: forget the tasks of one that is gone, arm what is due, and follow others' hints."""
        self._deadlines.disarm()
        self._schedules.disarm()
        self._next_look, self._doubt, self._hold = None, False, 0.0
        self._deadlines.arm(due)
        self._schedules.arm(self._next())
        self._spine.store.attend(partial(self._look_after, _GATHER), self._take_up)

    async def shutdown(self) -> None:
        """Stop every loop and wait until they are gone."""
        await self._deadlines.stop()
        await self._schedules.stop()

    def _take_up(self, committed: Committed) -> None:
        """Hand on what a step set free whose caller was cancelled; leases later, lest tasks start as a loop ends."""
        self._scheduler.give_up(committed.leases)
        committed.leases, committed.due = (), None
        self._spine.dispatch(committed)

    def _arm(self, due: float | None) -> None:
        """Watch what is due; what a task leaves that is being cancelled is seen a little later."""
        task = asyncio.current_task()
        if due is not None and task is not None and task.cancelling():
            self._look_later()
        else:
            self._deadlines.arm(due)

    def _look_later(self) -> None:
        """Look at what a task leaves that is being cancelled, if the loop goes on."""
        self._doubt = True
        self._look_after(_LATER)

    def _look_after(self, seconds: float) -> None:
        """Look soon at what is ready and due; what comes until then is seen with it."""
        due = self._spine.clock.now() + seconds
        if self._next_look is None or due < self._next_look:
            self._next_look, _ = due, self._spine.clock.call_at(due, self._look)

    def _look(self) -> None:
        """Claim what is ready, and see what is due; later if all that runs is cancelled, as when a loop ends."""
        self._next_look, self._spine.unclaimed = None, True
        now, hold = self._spine.clock.now(), self._hold
        self._hold = (hold or now + _PATIENCE) if self._doubt and all(map(_is_ending, asyncio.all_tasks())) else 0.0
        if now < max(hold, self._hold):
            self._look_after(_LATER)
        elif not self._spine.closed:
            self._doubt = False
            self._deadlines.arm(now)

    async def _tick(self) -> float | None:
        if self._spine.unclaimed:
            await self._scheduler.claim()
            for channel in (self._spine.signals.quiet, self._spine.signals.room):
                channel.wake()
        committed = await self._spine.store.tick(self._spine.roster.limits)
        self._spine.dispatch(committed)
        self._spine.signals.changed.wake()  # what was due may wait for something else now
        return committed.due

    async def _fire(self) -> float | None:
        now = self._spine.clock.now()
        for timer in [timer for timer in self._timers.values() if timer.due is not None and timer.due <= now]:
            timer.plan(now)  # of several missed slots the latest fires
            if timer.next is not None:
                await self._fire_one(timer, timer.next, now)
        return self._next()

    async def _fire_one(self, timer: _Timer, fire: Fire, now: float) -> None:
        spine, agent = self._spine, timer.agent
        tick = Tick(agent.timer, spine.default_run, timer.iteration + 1, fire.fire_time)
        committed = await spine.store.commit(Commit(ticks=(tick,), limits=spine.roster.limits))
        timer.fired(fire)
        timer.plan(now)  # before anybody is told, who may look whether it will fire again
        self._missed(agent.name, fire.skipped, "missed")
        self._missed(agent.name, len(committed.skipped), "its predecessor still runs")
        if not committed.skipped:
            spine.signals.emit("tick", agent=agent.name, reason=str(tick.iteration))
        spine.dispatch(committed)

    def _next(self) -> float | None:
        """Say when the next schedule fires."""
        return min((timer.due for timer in self._timers.values() if timer.due is not None), default=None)

    def _missed(self, agent: str, count: int, why: str) -> None:
        if count:
            self.skipped += count
            self._spine.metrics.count("skipped ticks", count, agent=agent)
            self._spine.signals.emit("skipped", agent=agent, count=count, reason=f"tick: {why}")


def _is_ending(task: asyncio.Task[object]) -> bool:
    """Say whether a task is being cancelled, or ends the loop: `shutdown_asyncgens`, `shutdown_default_executor`."""
    return task.cancelling() > 0 or getattr(task.get_coro(), "__name__", "").startswith("shutdown_")


class _Timer:
    """Where one agent's schedule stands."""

    def __init__(self, agent: Agent, spec: Schedule, now: float, state: TimerState | None) -> None:
        self.agent = agent
        self.iteration = 0 if state is None else state.iteration
        self._spec = spec
        self._previous = None if state is None else state.fire_time
        self._started = now
        if self._previous is not None and isinstance(spec.plan, Every):
            self._started = self._previous - spec.plan.delay  # keep the rhythm of before the restart
        self.plan(now)

    @property
    def due(self) -> float | None:
        return None if self.next is None else self.next.fire_time

    def plan(self, now: float) -> None:
        self.next = next_fire(
            self._spec, started=self._started, previous=self._previous, iteration=self.iteration, now=now
        )

    def fired(self, fire: Fire) -> None:
        self._previous = fire.fire_time
        self.iteration += 1
