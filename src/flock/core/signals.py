"""Telling: events for observers, and channels that wake those who wait."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from flock.model.events import Event, EventKind
from flock.model.ledger import Activation
from flock.ports import Clock, Observer, Telemetry

logger = logging.getLogger("flock")


def ignore(*_: object) -> None:
    """Do nothing: what is called until somebody wants to know."""


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
        waiters, self.waiters = self.waiters, []
        for future in waiters:
            if not future.done() and not future.get_loop().is_closed():
                future.set_result(None)


class Signals:
    """Where everything that happens is told: observers, log, counters."""

    def __init__(self, clock: Clock, telemetry: Telemetry, observers: Sequence[Observer]) -> None:
        """Tell these observers."""
        self._clock = clock
        self._telemetry = telemetry
        self._observers: list[tuple[Observer, Callable[[], None]]] = [(observer, ignore) for observer in observers]
        self.listened = bool(observers)
        self.ended = False  # those who listen have been told that this was all
        self.changed = Channel()  # something was committed
        self.quiet = Channel()  # a run may have become idle
        self.room = Channel()  # an activation has ended

    def emit(self, kind: EventKind, **parts: Any) -> None:  # noqa: ANN401 - the parts of an Event
        """Tell what happened; an observer that raises is recorded and disturbs nobody."""
        if not self.listened:
            return
        event = Event(kind=kind, at=self._clock.now(), **parts)
        for observer, _ in tuple(self._observers):
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

    def observe(self, observer: Observer, on_end: Callable[[], None] = ignore) -> None:
        """Tell this observer too, from now on, and `on_end` when that was all; from any thread."""
        self._observers.append((observer, on_end))
        self.listened = True

    def dismiss(self, observer: Observer, on_end: Callable[[], None] = ignore) -> None:
        """Tell it no more; one that is not told is fine."""
        with suppress(ValueError):
            self._observers.remove((observer, on_end))
        self.listened = bool(self._observers)

    def forget(self) -> None:
        """Begin anew in the child of a fork: who waits, or reads to the end, does so in the parent."""
        self._observers = [pair for pair in self._observers if pair[1] is ignore]
        self.listened = bool(self._observers)
        for channel in (self.changed, self.quiet, self.room):
            channel.waiters.clear()

    def end(self) -> None:
        """Tell those who wait and listen that this was all."""
        self.ended = True
        for _, on_end in tuple(self._observers):
            on_end()
        self.changed.wake()
        self.quiet.wake()
