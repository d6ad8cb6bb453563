"""Telling: events for observers, and channels that wake those who wait."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from flock.model.events import Event, EventKind
from flock.model.ledger import Activation
from flock.ports import Clock, Observer, Telemetry

logger = logging.getLogger("flock")


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
        self._declared = tuple([(observer, ignore) for observer in observers])
        self._observers: Sequence[tuple[Observer, Callable[[], None]]] = self._declared
        self.listened = bool(observers)
        self.ended = False  # nothing is told any more
        self.changed = Channel()  # something was committed
        self.quiet = Channel()  # a run may have become idle
        self.room = Channel()  # an activation has ended

    def emit(self, kind: EventKind, **parts: Any) -> None:  # noqa: ANN401 - the parts of an Event
        """Tell what happened; an observer that raises is recorded and disturbs nobody."""
        if not self.listened:
            return
        event = Event(kind=kind, at=self._clock.now(), **parts)
        for observer, _ in self._observers:
            try:
                observer(event)
            except Exception:
                logger.exception("an observer raised on %s", kind)
                self._telemetry.count("hook errors", hook="observer")

    def tell(self, kind: EventKind, activation: Activation, **parts: Any) -> None:  # noqa: ANN401 - the parts of an Event
        """Tell what happened to an activation."""
        ids = tuple([record.id for record in activation.inputs])
        self.emit(kind, run=activation.run, agent=activation.agent, activation=activation.id, artifacts=ids, **parts)

    def hook_failed(self, hook: str, error: Exception, *, agent: str | None = None, run: str | None = None) -> None:
        """Record a hook, provider or score that raised, once."""
        logger.error("%s of %s raised", hook, agent or "the board", exc_info=error)
        self._telemetry.count("hook errors", agent=agent, hook=hook)
        self.emit("error", agent=agent, run=run, reason=hook, error=error)

    def dropped(self, kind: EventKind, reason: str, **parts: Any) -> None:  # noqa: ANN401 - the parts of an Event
        """Count and tell that artifacts were given up."""
        self._telemetry.count("dropped", len(parts.get("artifacts", ())) or 1, reason=reason)
        self.emit(kind, reason=reason, **parts)

    def observe(self, observer: Observer, on_end: Callable[[], None] | None = None) -> None:
        """Tell this observer too, from now on, and that it was all."""
        self._observers = (*self._observers, (observer, on_end or ignore))
        self.listened = True

    def dismiss(self, observer: Observer) -> None:
        """Tell it no more; one that is not told is fine."""
        self._observers = tuple([pair for pair in self._observers if pair[0] != observer])
        self.listened = bool(self._observers)

    def forget(self) -> None:
        """Begin anew in the child of a fork: who waits, or listens since the start, does so in the parent."""
        self._observers = self._declared
        self.listened = bool(self._observers)
        for channel in (self.changed, self.quiet, self.room):
            channel.waiters.clear()

    def end(self) -> None:
        """Tell those who wait and listen that this was all."""
        self.ended = True
        for _, on_end in self._observers:
            on_end()
        self.changed.wake()
        self.quiet.wake()


def ignore(*_: object) -> None:
    """Do nothing: what is called until somebody wants to know."""
