"""A study on an event loop: its course runs in a thread, its results and its agents' awaits come here."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import closing, suppress

from flock.studies.running import Running
from flock.studies.runs import RunResult


async def streamed(running: Running) -> AsyncGenerator[RunResult, None]:
    """Give each result as it is kept; leaving the iteration stops the study and waits until its files are written."""
    follower = _Follower(running)
    try:
        while (result := await follower.inbox.get()) is not None:
            yield result
        if follower.error is not None:
            raise follower.error
    finally:
        if not follower.over.is_set():
            running.stop()
        while not follower.over.is_set():
            with suppress(asyncio.CancelledError):  # the files come first
                await follower.over.wait()


class _Follower:
    """Follows a study in a thread and hands what comes of it to the loop that it was made on."""

    def __init__(self, running: Running) -> None:
        self._loop = asyncio.get_running_loop()
        self._running = running
        self.inbox: asyncio.Queue[RunResult | None] = asyncio.Queue()
        self.error: BaseException | None = None
        self.over = asyncio.Event()
        threading.Thread(target=self._follow, name="flock study", daemon=True).start()

    def _follow(self) -> None:
        try:
            with closing(self._running.results()) as results:
                for result in results:
                    self._loop.call_soon_threadsafe(self.inbox.put_nowait, result)
        except BaseException as raised:  # noqa: BLE001 - handed to the one who awaits it
            self.error = raised
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        self.over.set()
        self.inbox.put_nowait(None)
