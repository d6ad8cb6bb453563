"""How an attempt at a run waits, and calls what may block."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from typing_extensions import override

from flock.sync import ThreadPool, run_sync

T = TypeVar("T")


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


class OwnLoop:
    """An event loop for one thread that waits, made when it is needed first."""

    def __init__(self) -> None:
        """Have none yet."""
        self._runner: asyncio.Runner | None = None
        self._task: asyncio.Task[Any] | None = None

    def wait(self, work: Awaitable[T]) -> T:
        """Await to the end: here, or on the loop in the background where one runs in this thread already."""
        if _runs_here():
            return run_sync(lambda: awaited(work))
        if self._runner is None:
            self._runner = asyncio.Runner()
        try:
            return self._runner.run(self._awaited(work), context=contextvars.copy_context())
        except asyncio.CancelledError as error:
            raise concurrent.futures.CancelledError(*error.args) from error

    async def _awaited(self, work: Awaitable[T]) -> T:
        self._task = asyncio.current_task()
        try:
            return await work
        finally:
            self._task = None

    def cancel(self) -> None:
        """Cancel what is awaited, from another thread."""
        task, runner = self._task, self._runner
        if task is not None and runner is not None:
            runner.get_loop().call_soon_threadsafe(task.cancel)

    def close(self) -> None:
        """End the loop; a thread that one of its tasks waits for is left alone."""
        if self._runner is not None:
            leave_threads(self._runner.get_loop())
            self._runner.close()
            self._runner = None


async def awaited(work: Awaitable[T]) -> T:
    """Await, as a coroutine."""
    return await work


def leave_threads(loop: asyncio.AbstractEventLoop) -> None:
    """Let a loop end at once, though a thread that it began (`asyncio.to_thread`) blocks: nobody can stop that."""
    loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(1))


def _runs_here() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
