"""Background loops: each sleeps until its next deadline or a wake-up, and is gone when it has none."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

from flock.core.clock import finish
from flock.core.names import Counter
from flock.core.timers import Fire, next_fire
from flock.model.events import Waiting
from flock.model.ledger import Commit, Tick
from flock.model.schedule import Every

if TYPE_CHECKING:
    from flock.core.agent import Agent
    from flock.core.publish import Spine
    from flock.core.schedule import Scheduler
    from flock.model.ledger import TimerState
    from flock.ports import Clock

logger = logging.getLogger("flock")
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

    @property
    def due(self) -> float | None:
        """The next deadline (UTC seconds)."""
        return self._due

    def arm(self, due: float | None) -> None:
        """Call back at this time if nothing is due earlier."""
        if due is None or (self._due is not None and self._due <= due):
            return
        self._due = due
        if self._task is None or self._task.done():
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._run(), name=f"flock {self._name}", context=contextvars.Context())
        elif self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def disarm(self) -> None:
        """Forget a loop that is gone."""
        self._task = self._wake = self._due = None

    async def stop(self) -> None:
        """Cancel the task and wait for its end."""
        task, self._due = self._task, None
        if task is not None and not task.done() and task is not asyncio.current_task():
            task.cancel()
            await asyncio.wait({task})
        self._task = None

    async def _run(self) -> None:
        while self._due is not None:
            await self._sleep(self._due)
            if self._due is None or self._clock.now() < self._due:
                continue  # armed for another time meanwhile
            self._due = None
            try:
                following = await self._callback()
            except Exception:
                logger.exception("the %s loop stumbled and goes on", self._name)
                following = self._clock.now() + _AGAIN
            if following is not None and (self._due is None or following < self._due):
                self._due = following

    async def _sleep(self, due: float) -> None:
        wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._wake = wake
        handle = self._clock.call_at(due, lambda: finish(wake))
        try:
            await wake
        finally:
            handle.cancel()
            self._wake = None


class LifecycleManager:
    """Owns the loops of one Flock: for what the store has due (batches, joins, retries, delays) and for schedules."""

    def __init__(self, spine: Spine, scheduler: Scheduler) -> None:
        """Arm loops when the spine learns of deadlines."""
        self._spine = spine
        self._scheduler = scheduler
        self._deadlines = DeadlineLoop("deadlines", spine.clock, self._tick)
        self._schedules = DeadlineLoop("schedules", spine.clock, self._fire)
        self._timers: dict[str, _Timer] = {}
        self._listener: asyncio.Task[None] | None = None
        self.skipped = 0
        spine.on_due = self._deadlines.arm

    async def start_batch_timeout_checker(self) -> None:
        """Watch batch timeouts; they are watched anyway as soon as one is armed. Calling it twice is fine."""
        self._deadlines.arm((await self._spine.store.commit(Commit())).due)

    async def start_correlation_cleanup(self) -> None:
        """Watch the windows of joins; they are watched anyway as soon as one is armed. Calling it twice is fine."""
        await self.start_batch_timeout_checker()

    def listen(self) -> None:
        """Follow the store's hints that other processes changed something, if others can."""
        hints = self._spine.store.wakeups()
        if hints is not None:
            self._listener = asyncio.get_running_loop().create_task(self._follow(hints), name="flock wake-ups")

    def watch(self, agent: Agent, state: TimerState | None) -> None:
        """Fire an agent by its schedule from now on, or go on where the store says that it stands."""
        if agent.schedule is None:
            return
        timer = _Timer(agent, self._spine.clock.now(), state)
        self._timers[agent.name] = timer
        timer.plan(self._spine.clock.now())
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

    def disarm(self) -> None:
        """Forget the loops of an event loop that is gone."""
        self._deadlines.disarm()
        self._schedules.disarm()
        self._listener = None

    def rearm(self, due: float | None) -> None:
        """Arm every loop on the running event loop."""
        self._deadlines.arm(due)
        for timer in self._timers.values():
            self._schedules.arm(timer.due)

    async def shutdown(self) -> None:
        """Stop every loop and wait until they are gone."""
        await self._deadlines.stop()
        await self._schedules.stop()
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.wait({self._listener})
            self._listener = None

    async def _tick(self) -> float | None:
        committed = await self._spine.store.tick(self._spine.roster.limits)
        self._spine.dispatch(committed)
        self._spine.signals.changed.wake()  # what was due may wait for something else now
        return committed.due

    async def _fire(self) -> float | None:
        now = self._spine.clock.now()
        ready = [timer for timer in self._timers.values() if timer.due is not None and timer.due <= now]
        for timer in ready:
            timer.plan(now)  # of several missed slots the latest fires
            fire = timer.next
            if fire is None:
                continue
            self._missed(timer.agent.name, fire.skipped, "missed")
            tick = Tick(timer.agent.timer, self._spine.default_run, timer.iteration + 1, fire.fire_time)
            committed = await self._spine.store.commit(Commit(ticks=(tick,), limits=self._spine.roster.limits))
            self._missed(timer.agent.name, len(committed.skipped), "its predecessor still runs")
            if not committed.skipped:
                self._spine.signals.emit("tick", agent=timer.agent.name, reason=str(tick.iteration))
            timer.fired(fire)
            timer.plan(now)
            self._spine.dispatch(committed)
        return min((timer.due for timer in self._timers.values() if timer.due is not None), default=None)

    def _missed(self, agent: str, count: int, why: str) -> None:
        if count:
            self.skipped += count
            self._spine.metrics.count(Counter.TICKS_SKIPPED, count, agent=agent)
            self._spine.signals.emit("skipped", agent=agent, count=count, reason=f"tick: {why}")

    async def _follow(self, hints: AsyncIterator[object]) -> None:
        async for _ in hints:
            await self._scheduler.claim()
            self._deadlines.arm(self._spine.clock.now())
            for channel in (self._spine.signals.changed, self._spine.signals.quiet, self._spine.signals.room):
                channel.wake()


class _Timer:
    """Where one agent's schedule stands."""

    def __init__(self, agent: Agent, started: float, state: TimerState | None) -> None:
        self.agent = agent
        self.iteration = 0 if state is None else state.iteration
        self._previous = None if state is None else state.fire_time
        self._started = started
        plan = None if agent.schedule is None else agent.schedule.plan
        if self._previous is not None and isinstance(plan, Every):
            self._started = self._previous - plan.delay  # keep the rhythm of before the restart
        self.next: Fire | None = None

    @property
    def due(self) -> float | None:
        return None if self.next is None else self.next.fire_time

    def plan(self, now: float) -> None:
        if self.agent.schedule is not None:
            self.next = next_fire(
                self.agent.schedule, started=self._started, previous=self._previous, iteration=self.iteration, now=now
            )

    def fired(self, fire: Fire) -> None:
        self._previous = fire.fire_time
        self.iteration += 1
