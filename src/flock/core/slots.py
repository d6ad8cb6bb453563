"""Slots: a counting semaphore that serves the highest priority first."""

from __future__ import annotations

import asyncio
import heapq
import itertools


class Slots:
    """The next free slot goes to the highest priority, then to who waits longest."""

    __slots__ = ("_order", "_waiters", "free")

    def __init__(self, count: int) -> None:
        """Start with `count` free slots."""
        self.free = count
        self._order = itertools.count()
        self._waiters: list[tuple[int, int, asyncio.Future[None]]] = []

    async def take(self, priority: int) -> None:
        """Take a slot, waiting for one if need be."""
        if self.free > 0:
            self.free -= 1
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
        self.free += 1
