"""How an attempt at a run waits, and calls what may block."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, TypeVar, cast

from typing_extensions import override

from flock.sync import ThreadPool
from flock.sync.host import Host

T = TypeVar("T")
_LOOK: Final = 0.5  # seconds


class Way(Protocol):
    """Where the parts of an attempt run."""

    async def wait(self, work: Awaitable[T]) -> T:
        """Await to the end."""
        ...

    async def call(self, fn: Callable[[], T]) -> T:
        """Call what may block."""
        ...


class Blocking(Way):
    """The way of a thread that blocks: it suspends nowhere, so that `at_once` can run the attempt."""

    def __init__(self, block: Callable[[Awaitable[Any]], Any]) -> None:
        """Wait by a function that blocks."""
        self._block = block

    @override
    async def wait(self, work: Awaitable[T]) -> T:
        """Block until the end."""
        result: T = self._block(work)
        return result

    @override
    async def call(self, fn: Callable[[], T]) -> T:
        """Call it here."""
        return fn()


class OnLoop(Way):
    """The way of a task on an event loop: what may block does so in threads."""

    def __init__(self, threads: ThreadPool) -> None:
        """Call in these threads."""
        self._threads = threads

    @override
    async def wait(self, work: Awaitable[T]) -> T:
        """Await it."""
        return await work

    @override
    async def call(self, fn: Callable[[], T]) -> T:
        """Call it in a thread and await that."""
        result: T = await self._threads.submit(fn)
        return result


class Waiter:
    """Blocks a thread until what it awaits has ended on a loop that another thread runs."""

    def __init__(self, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        """Await on the loop that this gives when it is needed."""
        self._loop = loop
        self._future: concurrent.futures.Future[Any] | None = None
        self._cancelled = False

    def wait(self, work: Awaitable[T]) -> T:
        """Await to the end; what interrupts the wait cancels the work."""
        self._future = future = asyncio.run_coroutine_threadsafe(_contained(work), self._loop())
        if self._cancelled:  # just before there was a future
            future.cancel()
        try:
            while not future.done():  # a signal that another thread got waits for the end of a wait
                concurrent.futures.wait([future], timeout=_LOOK)
            result, error = future.result()
        except BaseException:
            future.cancel()
            raise
        finally:
            self._future = None
        if error is not None:
            raise error
        return cast("T", result)

    def cancel(self) -> None:
        """Cancel what is awaited now and later, from another thread."""
        self._cancelled = True
        if (future := self._future) is not None:
            future.cancel()


class OwnLoop(Waiter):
    """A waiter with a loop of its own, which is started when it is needed first, and survives what is done to it."""

    def __init__(self) -> None:
        """Have none yet."""
        self._host: Host | None = None
        super().__init__(self.loop)

    def loop(self) -> asyncio.AbstractEventLoop:
        """Give the loop."""
        if self._host is None:
            self._host = Host("a study", None)
        return self._host.loop

    def close(self) -> None:
        """End the loop, within seconds; a thread that one of its tasks waits for is left alone."""
        if self._host is not None:
            self._host.loop.call_soon_threadsafe(_leave_threads, self._host.loop)
            self._host.stop()


async def _contained(work: Awaitable[T]) -> tuple[T | None, BaseException | None]:
    """Await, and give what would end a loop that others use, too."""
    try:
        return await work, None
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 - raised where it is waited for
        return None, error


async def awaited(work: Awaitable[T]) -> T:
    """Await, as a coroutine."""
    return await work


def _leave_threads(loop: asyncio.AbstractEventLoop) -> None:
    """Let a loop end at once, though a thread that it began (`asyncio.to_thread`) blocks: nobody can stop that."""
    loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(1))
