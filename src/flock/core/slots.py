"""Slots: counting semaphores that serve the highest priority first, and the turn of one engine chain."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Slots:
    """A semaphore whose next free slot goes to the highest priority, then to who waits longest."""

    __slots__ = ("_free", "_order", "_waiters")

    def __init__(self, count: int) -> None:
        """Start with `count` free slots."""
        self._free = count
        self._order = itertools.count()
        self._waiters: list[tuple[int, int, asyncio.Future[None]]] = []

    async def take(self, priority: int) -> None:
        """Take a slot, waiting for one if need be."""
        if self._free > 0:
            self._free -= 1
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiters, (-priority, next(self._order), future))
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.give()  # it was handed to us in the same moment
            raise

    def give(self) -> None:
        """Hand a slot to the next in line, or keep it free."""
        while self._waiters:
            future = heapq.heappop(self._waiters)[2]
            if not future.done():
                future.set_result(None)
                return
        self._free += 1


class Turn:
    """The slots that one engine chain holds while it runs: its agent's and, where there is a limit, the Flock's."""

    __slots__ = ("_agent", "_busy", "_everyone", "_name", "_on_lend", "_priority", "held")

    def __init__(
        self, agent: Slots, everyone: Slots | None, priority: int, on_lend: Callable[[str, int], None], name: str
    ) -> None:
        """Hold nothing yet. `on_lend(name, n)` lets n more of the agent's tasks run."""
        self._agent = agent
        self._everyone = everyone
        self._priority = priority
        self._on_lend = on_lend
        self._name = name
        self._busy = 0
        self.held = False

    async def take(self) -> None:
        """Take the agent's slot, then the Flock's."""
        await self._agent.take(self._priority)
        if self._everyone is not None:
            try:
                await self._everyone.take(self._priority)
            except BaseException:
                self._agent.give()
                raise
        self.held = True

    def give(self) -> None:
        """Give back what is held, unless a thread still uses it: then that does when it returns."""
        if self.held and not self._busy:
            self.held = False
            self._agent.give()
            if self._everyone is not None:
                self._everyone.give()

    def occupy(self) -> None:
        """Keep the slots for a thread."""
        self._busy += 1

    def vacate(self, *, ended: bool) -> None:
        """A thread has returned; `ended` says that the chain did not wait for it and its slots are free now."""
        self._busy -= 1
        if ended:
            self.give()

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[None]:
        """Lend the slots while this chain waits for other activations."""
        if not self.held:
            yield
            return
        self.give()
        self._on_lend(self._name, 1)
        try:
            yield
        finally:
            self._on_lend(self._name, -1)
            await self.take()
