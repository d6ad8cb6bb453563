"""The system's clock: the one module that asks for time, ids and chance."""

from __future__ import annotations

import asyncio
import functools
import os
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from flock.ports import Clock

T = TypeVar("T")
_DRAWN = 64  # ids drawn from the system at once


@functools.cache
def _ids() -> list[str]:
    """Give the ids that are drawn and not given yet: one list for the process, which no forked child goes on with."""
    drawn: list[str] = []
    os.register_at_fork(after_in_child=drawn.clear)
    return drawn


class SystemClock:
    """Wall time read once, then monotonic time: it never goes back, whatever happens to the machine's clock."""

    __slots__ = ("_ids", "_offset")

    def __init__(self) -> None:
        """Read the wall."""
        self._offset = time.time() - time.monotonic()
        self._ids = _ids()

    def now(self) -> float:
        """Give UTC seconds."""
        return self._offset + time.monotonic()

    def advance_to(self, at_least: float) -> None:
        """Never be behind this time again."""
        self._offset += max(0.0, at_least - self.now())

    def call_at(self, when: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call back on the running loop."""
        return asyncio.get_running_loop().call_later(max(0.0, when - self.now()), callback)

    def new_id(self) -> str:
        """Give 32 hexadecimal digits: 48 bits of time (ms), so that ids made together lie together, and 80 of chance.

        They are drawn a few at a time, and anew in a forked process.
        """
        try:
            return self._ids.pop()
        except IndexError:
            time, drawn = f"{int(self.now() * 1000):012x}", os.urandom(10 * _DRAWN).hex()
            self._ids += [time + drawn[start : start + 20] for start in range(20, len(drawn), 20)]
            return time + drawn[:20]

    def random(self) -> float:
        """Give a number from 0 up to 1."""
        return random.random()


async def pause(clock: Clock, seconds: float) -> None:
    """Wait on a clock."""
    woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    handle = clock.call_at(clock.now() + seconds, lambda: finish(woken))
    try:
        await woken
    finally:
        handle.cancel()


def finish(future: asyncio.Future[None]) -> None:
    """Set a future's result unless it has one."""
    if not future.done():
        future.set_result(None)


@asynccontextmanager
async def deadline(clock: Clock, seconds: float | None) -> AsyncGenerator[asyncio.Timeout, None]:
    """Cancel the body after so many seconds of a clock and turn that into TimeoutError; None never does."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as scope:
        if seconds is None:
            yield scope
            return
        when = clock.now() + seconds
        handle = clock.call_at(when, lambda: None if scope.expired() else scope.reschedule(loop.time()))
        try:
            yield scope
        finally:
            handle.cancel()


async def within(clock: Clock, seconds: float | None, work: Awaitable[T], late: TimeoutError) -> T:
    """Await some work; raises `late` when its time was over, also when the work went on regardless."""
    scope: asyncio.Timeout | None = None
    try:
        async with deadline(clock, seconds) as scope:
            result = await work
    except TimeoutError as error:
        if scope is not None and scope.expired():
            raise late from error
        raise
    if scope.expired():
        raise late
    return result
