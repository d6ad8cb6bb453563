"""A clock for tests: time stands still while anything can run and jumps to the next deadline when nothing can."""

from __future__ import annotations

import asyncio
import contextvars
import datetime as dt
import heapq
import itertools
import random
import threading
from collections.abc import Callable
from functools import partial

from flock.core.clock import pause
from flock.sync.owed import owes
from flock.testing.quiet import when_quiet

_START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
_FOR_THREADS = 0.05  # real seconds of quiet while other threads could still bring news
_FOR_ANSWERS = 20.0  # while a store works on an answer, which ends the quiet


class Deadline:
    """A callback that waits for its time; `cancel` calls it off."""

    __slots__ = ("_callback", "_context")

    def __init__(self, callback: Callable[[], None]) -> None:
        """Wait, and call back with the context variables of now."""
        self._callback: Callable[[], None] | None = callback
        self._context = contextvars.copy_context()

    @property
    def armed(self) -> bool:
        """Whether it has neither been called nor called off."""
        return self._callback is not None

    def cancel(self) -> None:
        """Call it off; also when it has been called or called off before."""
        self._callback = None

    def call(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the loop call back next, unless it is called off until then."""
        loop.call_soon(self._run, context=self._context)

    def _run(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class _Timers:
    """The deadlines of one event loop, earliest first, then as they were armed."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.asked = False
        self._heap: list[tuple[float, int, Deadline]] = []
        self._order = itertools.count()

    def add(self, when: float, callback: Callable[[], None]) -> Deadline:
        deadline = Deadline(callback)
        heapq.heappush(self._heap, (when, next(self._order), deadline))
        return deadline

    def next(self) -> float | None:
        while self._heap and not self._heap[0][2].armed:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def fire(self, now: float) -> None:
        while (due := self.next()) is not None and due <= now:
            heapq.heappop(self._heap)[2].call(self.loop)


class FakeClock:
    """A `Clock` whose time moves only when no task of the event loop can run: straight to the next deadline.

    A test of an hour takes a millisecond, and always takes the same way. Deadlines come in order of their time, then
    as they were armed. Ids and chance repeat from test to test; two clocks on one board take two seeds.

    What waits for something real (a thread, a socket, `asyncio.sleep`) can't be seen by the clock: give it a
    `threshold`, the real seconds of quiet before time may jump. Without one it is 0.05 s while other threads are
    alive, else 0. It waits for a store's answers in any case. Agents under test sleep on `clock.sleep`.

    With `autojump=False` time moves by `advance` alone.
    """

    def __init__(
        self,
        start: float | dt.datetime = _START,
        *,
        autojump: bool = True,
        threshold: float | None = None,
        seed: int = 0,
    ) -> None:
        """Start at a time, in UTC seconds or as an aware datetime."""
        self._now = start.timestamp() if isinstance(start, dt.datetime) else float(start)
        self._autojump = autojump
        self._advancing = 0
        self._threshold = threshold
        self._seed = seed
        self._ids = itertools.count(1)
        self._random = random.Random(seed)  # noqa: S311 - chance that repeats
        self._timers: dict[asyncio.AbstractEventLoop, _Timers] = {}
        self._lock = threading.RLock()

    # ---- the port

    def now(self) -> float:
        """Give the time."""
        return self._now

    def advance_to(self, at_least: float) -> None:
        """Move time on at once, from anywhere; what becomes due is called as soon as its loop runs."""
        with self._lock:
            self._now = max(self._now, at_least)
            self._alarm()

    def call_at(self, when: float, callback: Callable[[], None]) -> Deadline:
        """Call back on the running loop when the time has come."""
        loop = asyncio.get_running_loop()
        with self._lock:
            timers = self._timers.get(loop)
            if timers is None:
                self._timers = {each: kept for each, kept in self._timers.items() if not each.is_closed()}
                timers = self._timers[loop] = _Timers(loop)
            deadline = timers.add(when, callback)
            if when <= self._now:
                loop.call_soon(self._fire, timers)
            self._watch(timers)
        return deadline

    def new_id(self) -> str:
        """Give the next id of this clock."""
        return f"id-{self._seed}-{next(self._ids)}"

    def random(self) -> float:
        """Give the next number of this clock from 0 up to 1."""
        return self._random.random()

    # ---- for tests

    async def sleep(self, seconds: float) -> None:
        """Wait until so much time has passed on this clock."""
        await pause(self, seconds)

    async def advance(self, seconds: float) -> None:
        """Move time on, deadline by deadline, and return when all that became due has done what it could."""
        self._advancing += 1
        try:
            await self.sleep(seconds)
        finally:
            self._advancing -= 1
        await self.settle()

    async def settle(self) -> None:
        """Wait until nothing else can run at this time."""
        loop = asyncio.get_running_loop()
        settled: asyncio.Future[None] = loop.create_future()

        def tell() -> None:
            if not settled.done():
                settled.set_result(None)

        when_quiet(loop, tell, patience=partial(self._patience, loop), first=True)
        await settled

    # ---- inside

    def _patience(self, loop: asyncio.AbstractEventLoop) -> float:
        if owes(loop):
            return _FOR_ANSWERS
        if self._threshold is not None:
            return self._threshold
        return _FOR_THREADS if threading.active_count() > 1 else 0.0

    def _watch(self, timers: _Timers) -> None:
        """Ask to be told when the loop is quiet, as long as a deadline is armed there."""
        if not timers.asked and (self._autojump or self._advancing) and timers.next() is not None:
            timers.asked = True
            when_quiet(timers.loop, lambda: self._jump(timers), patience=partial(self._patience, timers.loop))

    def _jump(self, timers: _Timers) -> None:
        """Move on to the next deadline of any loop that runs, unless this loop has none any more."""
        with self._lock:
            timers.asked = False
            if timers.next() is None or not (self._autojump or self._advancing):
                return
            running = [each.next() for each in self._timers.values() if each.loop.is_running()]
            coming = [due for due in running if due is not None and due > self._now]
            self._now = min(coming, default=self._now)
            self._fire(timers)
            self._alarm()

    def _fire(self, timers: _Timers) -> None:
        with self._lock:
            timers.fire(self._now)
            self._watch(timers)

    def _alarm(self) -> None:
        """Let each loop with something due look at its deadlines."""
        for timers in self._timers.values():
            due = timers.next()
            if due is not None and due <= self._now and not timers.loop.is_closed():
                timers.loop.call_soon_threadsafe(self._fire, timers)
