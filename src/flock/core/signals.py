"""Telling: events for observers, and channels that wake those who wait."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

from flock.core.names import Counter
from flock.core.telemetry import Telemetry
from flock.model.events import Event, EventKind
from flock.model.ledger import Activation
from flock.ports import Clock, Observer

logger = logging.getLogger("flock")

T = TypeVar("T")


class Channel:
    """Something that changes: whoever waits is woken at the next change."""

    __slots__ = ("waiters",)

    def __init__(self) -> None:
        """Start without waiters."""
        self.waiters: list[asyncio.Future[None]] = []

    def wait(self) -> asyncio.Future[None]:
        """Give a future that is done at the next change."""
        future = asyncio.get_running_loop().create_future()
        self.waiters.append(future)
        return future

    def wake(self) -> None:
        """Tell all who wait."""
        if self.waiters:
            waiters, self.waiters = self.waiters, []
            for future in waiters:
                if not future.done() and not future.get_loop().is_closed():
                    future.set_result(None)


class Signals:
    """Where everything that happens is told: observers, event streams, log, counters."""

    def __init__(self, clock: Clock, telemetry: Telemetry, observers: Sequence[Observer]) -> None:
        """Tell these observers."""
        self._clock = clock
        self._telemetry = telemetry
        self._observers = list(observers)
        self._streams: list[EventStream] = []
        self._ended = False
        self.at_home: Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]] = _directly
        self.listened = bool(observers)
        self.changed = Channel()  # something was committed
        self.quiet = Channel()  # a run may have become idle
        self.room = Channel()  # an activation has ended

    def emit(self, kind: EventKind, **parts: Any) -> None:  # noqa: ANN401 - the parts of an Event
        """Tell what happened; an observer that raises is recorded and disturbs nobody."""
        if not self.listened:
            return
        event = Event(kind=kind, at=self._clock.now(), **parts)
        for observer in tuple(self._observers):
            try:
                observer(event)
            except Exception:
                logger.exception("an observer raised on %s", kind)
                self._telemetry.count(Counter.HOOK_ERRORS, hook="observer")
        for stream in self._streams:
            stream.put(event)

    def tell(self, kind: EventKind, activation: Activation, **parts: Any) -> None:  # noqa: ANN401 - the parts of an Event
        """Tell what happened to an activation."""
        ids = tuple([record.id for record in activation.inputs])
        self.emit(kind, run=activation.run, agent=activation.agent, activation=activation.id, artifacts=ids, **parts)

    def hook_failed(self, hook: str, error: Exception, *, agent: str | None = None, run: str | None = None) -> None:
        """Record a hook, provider or score that raised, once."""
        logger.error("%s of %s raised", hook, agent or "the board", exc_info=error)
        self._telemetry.count(Counter.HOOK_ERRORS, agent=agent, hook=hook)
        self.emit("error", agent=agent, run=run, reason=hook, error=error)

    def dropped(self, kind: EventKind, reason: str, **parts: Any) -> None:  # noqa: ANN401 - the parts of an Event
        """Count and tell that artifacts were given up."""
        self._telemetry.count(Counter.ARTIFACTS_DROPPED, len(parts.get("artifacts", ())) or 1, reason=reason)
        self.emit(kind, reason=reason, **parts)

    def stream(self, capacity: int) -> EventStream:
        """Open a stream of all that happens from now on."""
        stream = EventStream(self, capacity)
        if self._ended:
            stream.end()
        else:
            self._streams.append(stream)
            self.listened = True
        return stream

    def observe(self, observer: Observer) -> None:
        """Tell this observer too, from now on."""
        self._observers.append(observer)
        self.listened = True

    def dismiss(self, observer: Observer) -> None:
        """Tell it no more."""
        self._observers.remove(observer)
        self.listened = bool(self._observers or self._streams)

    def close(self, stream: EventStream) -> None:
        """Stop feeding a stream."""
        if stream in self._streams:
            self._streams.remove(stream)
        self.listened = bool(self._observers or self._streams)

    def forget(self) -> None:
        """Begin anew in the child of a fork: who waits and reads does so in the parent."""
        self._streams.clear()
        self.listened = bool(self._observers)
        for channel in (self.changed, self.quiet, self.room):
            channel.waiters.clear()

    def end_streams(self) -> None:
        """Let every stream end after what it holds."""
        self._ended = True
        for stream in self._streams:
            stream.end()
        self.changed.wake()


class EventStream:
    """An async iterator over a bounded buffer; what a slow reader missed is told as one `missed` event."""

    def __init__(self, signals: Signals, capacity: int) -> None:
        """Hold up to `capacity` events."""
        self._signals = signals
        self._capacity = capacity
        self._buffer: deque[Event] = deque()
        self._missed: Event | None = None
        self._filled = Channel()
        self._ended = False

    def put(self, event: Event) -> None:
        """Add an event, or count it as missed."""
        if len(self._buffer) < self._capacity:
            self._buffer.append(event)
        else:
            count = 1 if self._missed is None else self._missed.count + 1
            self._missed = Event(kind="missed", at=event.at, count=count, reason="the reader was too slow")
        self._filled.wake()

    def end(self) -> None:
        """Let the reader end after what is held."""
        self._ended = True
        self._filled.wake()

    def __aiter__(self) -> AsyncIterator[Event]:
        """Read."""
        return self

    async def __anext__(self) -> Event:
        """Give the next event."""
        event: Event = await self._signals.at_home(self._next)
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
        await self._signals.at_home(self._close)

    async def _close(self) -> None:
        self._signals.close(self)
        self.end()


async def _directly(async_fn: Callable[[], Awaitable[T]]) -> T:
    return await async_fn()
