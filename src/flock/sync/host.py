"""An event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

from flock.model.errors import ClosedError
from flock.sync.crossing import Call, Loop

logger = logging.getLogger("flock")
PATIENCE: Final = 5.0  # seconds that work which is cancelled has for its clean-up


class Host:
    """An event loop in a thread of its own. It goes on whatever is raised on it, until it is stopped."""

    def __init__(self, name: str, loop_factory: Callable[[], Loop] | None) -> None:
        """Start the thread, a daemon: nothing on it keeps the process from its end, where it is stopped."""
        self.loop = (loop_factory or asyncio.new_event_loop)()
        self.calls: set[Call[Any]] = set()  # for which somebody waits
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name=f"flock home loop of {name}", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            self.loop.close()
            raise ClosedError(f"no event loop can be started for {name!r}: {error}") from error

    def ask_to_stop(self) -> None:
        """End soon; once."""
        if not self._stopping:
            self._stopping = True
            with suppress(RuntimeError):  # it has ended
                self.loop.call_soon_threadsafe(self.loop.stop)

    def stop(self) -> None:
        """End, and wait for that."""
        self.ask_to_stop()
        if self._thread is not threading.current_thread():
            self._thread.join(2 * PATIENCE)

    def _work(self) -> None:
        loop = self.loop
        asyncio.set_event_loop(loop)
        try:
            while not self._stopping:
                self._guard(loop.run_forever)
            self._wind_up()
        finally:
            asyncio.set_event_loop(None)
            loop.close()
            for call in list(self.calls):
                call.end(ClosedError("the event loop was closed before this was done"))

    def _guard(self, work: Callable[[], object]) -> None:
        """Run the loop; what breaks it goes to those who wait for it."""
        try:
            work()
        except BaseException as error:
            waiting = [call for call in list(self.calls) if not call.over]
            for call in waiting:
                call.fail(error)
            if not waiting:
                logger.critical("%r was raised on the home loop while nobody waited; it goes on", error, exc_info=error)

    def _wind_up(self) -> None:
        """Cancel what is left, and let it clean up."""
        loop = self.loop
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        for last in (
            functools.partial(_finish, tasks),
            loop.shutdown_asyncgens,
            functools.partial(_end_executor, loop),
        ):
            waiting = loop.create_task(_for_a_while(last))
            while not waiting.done():  # the loop may be broken out of meanwhile, and told to stop
                self._guard(functools.partial(_complete, waiting))


def _complete(task: asyncio.Task[None]) -> None:
    try:
        task.get_loop().run_until_complete(task)
    except RuntimeError:
        if task.done():
            raise


async def _for_a_while(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    await asyncio.wait({asyncio.get_running_loop().create_task(work())}, timeout=PATIENCE)


async def _finish(tasks: set[asyncio.Task[Any]]) -> None:
    if tasks:
        await asyncio.wait(tasks)


async def _end_executor(loop: Loop) -> None:
    with suppress(RuntimeError):  # at the end of the process some versions start no thread, which this needs
        await loop.shutdown_default_executor()
