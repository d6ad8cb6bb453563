"""Live progress on a terminal: activations running, done, failed and waiting."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from flock.app import Flock
from flock.core.clock import SystemClock
from flock.model.events import Event

_ENDINGS: Final = frozenset({"finished", "failed", "retried", "deferred", "skipped", "cancelled"})
_CAPACITY = 100_000  # events held while the loop is busy
_PAUSE = 0.1  # seconds between two counts of what waits
_NAMES = 4  # agents named as running


class Tally:
    """Counts activations as events tell of them."""

    def __init__(self) -> None:
        """Start at zero."""
        self.running: dict[str, str] = {}
        self.done = 0
        self.failed = 0
        self.waiting = 0

    def add(self, event: Event) -> None:
        """Count one event."""
        if event.activation is None:
            return
        if event.kind == "started":
            self.running[event.activation] = event.agent or ""
        elif event.kind in _ENDINGS:
            self.running.pop(event.activation, None)
            self.done += event.kind == "finished"
            self.failed += event.kind == "failed"

    def line(self) -> str:
        """Say it in one line, with the agents that run most."""
        busy = Counter(self.running.values()).most_common(_NAMES + 1)
        names = ", ".join(name if count == 1 else f"{name} x{count}" for name, count in busy[:_NAMES])
        more = ", ..." if len(busy) > _NAMES else ""
        counts = f"running {len(self.running)}  done {self.done}  failed {self.failed}  waiting {self.waiting}"
        return f"{counts}  {names}{more}".rstrip()


@asynccontextmanager
async def shown(flock: Flock, console: Console, *, prints: bool) -> AsyncGenerator[None]:
    """Show progress on a console while the body runs; `prints` lets what agents print appear above it."""
    display = _Display(flock)
    follower = asyncio.create_task(display.follow(), name="flock progress")
    try:
        with Live(
            console=console, get_renderable=display.render, refresh_per_second=8, transient=True, redirect_stdout=prints
        ):
            yield
    finally:
        await display.stop(follower)


class _Display:
    def __init__(self, flock: Flock) -> None:
        self._flock = flock
        self._events = flock.events(capacity=_CAPACITY)
        self._clock = SystemClock()
        self._spinner = Spinner("dots")
        self._started = self._clock.now()
        self._due: asyncio.TimerHandle | None = None
        self._count: asyncio.Task[None] | None = None
        self._tally = Tally()

    def render(self) -> Spinner:
        minutes, seconds = divmod(int(self._clock.now() - self._started), 60)
        line = f"{self._tally.line()}  {minutes}:{seconds:02}"
        self._spinner.update(text=Text(line, overflow="ellipsis", no_wrap=True))
        return self._spinner

    async def follow(self) -> None:
        async for event in self._events:
            self._tally.add(event)
            if self._due is None:
                self._due = self._clock.call_at(self._clock.now() + _PAUSE, self._count_soon)

    def _count_soon(self) -> None:
        self._due = None
        if self._count is None or self._count.done():
            self._count = asyncio.create_task(self._count_waiting(), name="flock progress count")

    async def _count_waiting(self) -> None:
        status = await self._flock.status(self._flock.correlation_id)
        self._tally.waiting = status.ready + status.delayed + status.waiting

    async def stop(self, follower: asyncio.Task[None]) -> None:
        await self._events.aclose()
        if self._due is not None:
            self._due.cancel()
        tasks = [task for task in (follower, self._count) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
