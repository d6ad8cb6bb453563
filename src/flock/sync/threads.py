"""Worker threads that are reused, for functions that block; what they are called for is their owner's business."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Any

_Job = tuple[contextvars.Context, "Callable[[], Any]", asyncio.AbstractEventLoop, "asyncio.Future[Any]"]


class ThreadPool:
    """Threads that are reused when idle and made when none is: their owner bounds how many run.

    They are daemons: a body which never returns can't keep the process alive.
    """

    def __init__(self, name: str) -> None:
        """Start without any."""
        self._name = name
        self._closed = False
        self.forget()

    def forget(self) -> None:
        """Begin anew in the child of a fork, where no thread is."""
        self._idle: list[queue.SimpleQueue[_Job | None]] = []
        self._lock = threading.Lock()
        self._count = 0

    def submit(self, fn: Callable[[], Any]) -> asyncio.Future[Any]:
        """Begin a function in a thread with the caller's context variables; cancelling the future does not stop it."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._inbox().put((contextvars.copy_context(), fn, loop, future))
        return future

    def close(self) -> None:
        """Let idle threads end, and busy ones after their job."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for inbox in idle:
            inbox.put(None)

    def lose(self, future: asyncio.Future[Any]) -> None:
        """Take note that what a thread has to tell comes too late: the loop of this future was closed."""

    def _inbox(self) -> queue.SimpleQueue[_Job | None]:
        with self._lock:
            if self._idle:
                return self._idle.pop()
            self._count += 1
            number = self._count
        inbox: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, args=(inbox,), name=f"{self._name}-{number}", daemon=True).start()
        return inbox

    def _work(self, inbox: queue.SimpleQueue[_Job | None]) -> None:
        while (job := inbox.get()) is not None:
            context, fn, loop, future = job
            try:
                outcome: tuple[Any, BaseException | None] = (context.run(fn), None)
            except BaseException as error:  # noqa: BLE001 - handed to the one who awaits it
                outcome = (None, error)
            del job, context, fn
            with self._lock:
                over = self._closed
                if not over:  # from now on another job may come, or the end
                    self._idle.append(inbox)
            try:
                loop.call_soon_threadsafe(_deliver, future, *outcome)
            except RuntimeError:  # the loop was closed: nobody waits any more
                self.lose(future)
            del loop, future, outcome  # an idle thread keeps nothing alive
            if over:
                return


def _deliver(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:  # noqa: ANN401
    if future.done():
        return
    if isinstance(error, StopIteration):
        error = RuntimeError("a function in a thread raised StopIteration")
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
