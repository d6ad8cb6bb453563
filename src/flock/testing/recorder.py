"""An observer that keeps what happens."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from typing_extensions import override

from flock.core.clock import SystemClock, deadline
from flock.model.events import Event, EventKind

_MOST = 20  # events that a repr shows


class Recorder:
    """Give it to a Flock, `Flock(observers=[recorder])`, and ask it what has happened."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.events: list[Event] = []
        self._waiters: list[asyncio.Future[None]] = []

    def __call__(self, event: Event) -> None:
        """Keep an event and wake those who wait."""
        self.events.append(event)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    @property
    def kinds(self) -> Sequence[EventKind]:
        """What happened, in order."""
        return [event.kind for event in self.events]

    def of(self, kind: EventKind, *, agent: str | None = None, run: str | None = None) -> Sequence[Event]:
        """Give the events of a kind (of an agent, of a run), in order."""
        return [
            event for event in self.events
            if event.kind == kind and agent in {None, event.agent} and run in {None, event.run}
        ]  # fmt: skip

    async def wait_for(
        self,
        kind: EventKind,
        *,
        agent: str | None = None,
        run: str | None = None,
        count: int = 1,
        timeout: float = 5.0,
    ) -> Event:
        """Give the first (or the `count`-th) such event, as soon as it has happened.

        Raises AssertionError with what did happen when it has not within `timeout` real seconds.
        """
        try:
            async with deadline(SystemClock(), timeout):
                while len(found := self.of(kind, agent=agent, run=run)) < count:
                    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._waiters.append(waiter)
                    await waiter
        except TimeoutError:
            raise AssertionError(f"no {kind!r} event number {count} within {timeout:g} s: {self!r}") from None
        return found[count - 1]

    def clear(self) -> None:
        """Forget what has happened."""
        self.events.clear()

    @override
    def __repr__(self) -> str:
        """List the last events."""
        shown = [f"{event.kind} {event.agent or event.run or ''}".strip() for event in self.events[-_MOST:]]
        earlier = ["..."] if len(self.events) > _MOST else []
        return f"<Recorder of {len(self.events)} events: {', '.join([*earlier, *shown]) or 'none'}>"
