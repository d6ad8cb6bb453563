"""Following what happens, event by event."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from flock.core.signals import Channel, Signals
from flock.model.events import Event

Place = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]


class EventStream:
    """An async iterator over a bounded buffer; what a slow reader missed is told as one `missed` event."""

    def __init__(self, signals: Signals, capacity: int, at_home: Place) -> None:
        """Hold up to `capacity` events of all that happens from now on; `at_home` runs a function on the home loop."""
        self._signals = signals
        self._capacity = capacity
        self._at_home = at_home
        self._buffer: deque[Event] = deque()
        self._missed: Event | None = None
        self._filled = Channel()
        self._ended = False
        signals.observe(self._put, self._end)
        if signals.ended:  # looked at last, lest the end comes in between
            signals.dismiss(self._put, self._end)
            self._end()

    def _put(self, event: Event) -> None:
        """Add an event, or count it as missed."""
        if len(self._buffer) < self._capacity:
            self._buffer.append(event)
        else:
            count = 1 if self._missed is None else self._missed.count + 1
            self._missed = Event(kind="missed", at=event.at, count=count, reason="the reader was too slow")
        self._filled.wake()

    def _end(self) -> None:
        """Let the reader end after what is held."""
        self._ended = True
        self._filled.wake()

    def __aiter__(self) -> AsyncIterator[Event]:
        """Read."""
        return self

    async def __anext__(self) -> Event:
        """Give the next event."""
        event: Event = await self._at_home(self._next)
        return event

    async def _next(self) -> Event:
        while not self._buffer:
            if self._missed is not None:
                missed, self._missed = self._missed, None
                return missed
            if self._ended:
                raise StopAsyncIteration
            await self._filled.wait()
        return self._buffer.popleft()

    async def aclose(self) -> None:
        """Stop listening."""
        await self._at_home(self._close)

    async def _close(self) -> None:
        self._signals.dismiss(self._put, self._end)
        self._end()
