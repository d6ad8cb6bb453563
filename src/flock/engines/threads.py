"""Worker threads of one Flock for functions that block."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from typing_extensions import override

from flock.core.ambient import Acting, current
from flock.model.errors import FlockError
from flock.sync import ThreadPool


class Threads(ThreadPool):
    """A pool in which the slots of activations bound how many threads run."""

    @override
    def forget(self) -> None:
        super().forget()
        self._late: dict[asyncio.Future[Any], str] = {}

    @property
    def late(self) -> frozenset[str]:
        """The agents whose threads still run although nobody waits for them any more."""
        return frozenset(self._late.values())

    async def run(self, fn: Callable[[], Any]) -> Any:  # noqa: ANN401 - what fn gives
        """Run a function in a thread with the caller's context variables, for the activation around the caller.

        Cancelling the wait does not stop the thread: the activation's slots stay taken until it returns.
        """
        holder = current.get()
        if not isinstance(holder, Acting):
            raise FlockError("a function agent runs inside an activation")
        future = self.submit(fn)
        holder.occupy()
        try:
            return await asyncio.shield(future)
        finally:
            if future.done():
                holder.vacate(late=False)
            else:
                self._late[future] = holder.name
                future.add_done_callback(lambda done: self._return_late(done, holder))

    @override
    def lose(self, future: asyncio.Future[Any]) -> None:
        self._late.pop(future, None)

    def _return_late(self, done: asyncio.Future[Any], holder: Acting) -> None:
        del self._late[done]
        if not done.cancelled() and done.exception() is None and inspect.iscoroutine(done.result()):
            done.result().close()  # the attempt has been settled: nobody asks for the outcome
        holder.vacate(late=True)
