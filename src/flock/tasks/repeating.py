"""Runs that a schedule sets off, and what happens when one is due while the one before goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, get_args

from flock.core.clock import pause
from flock.core.timers import next_fire, validate
from flock.declaring.schedule import ScheduleSpec
from flock.model.errors import ConfigurationError
from flock.ports import Clock

logger = logging.getLogger("flock")
Overlap = Literal["skip", "queue", "parallel"]


@dataclass(slots=True)
class Firings:
    """What came of a schedule: runs that were done and that failed, and firings that were left out."""

    done: int = 0
    failed: int = 0
    skipped: int = 0


class Repeating:
    """Runs something whenever a schedule fires; `run_one(when)` gets the firing's time in UTC seconds."""

    def __init__(
        self, clock: Clock, spec: ScheduleSpec, overlap: Overlap, run_one: Callable[[float], Awaitable[object]]
    ) -> None:
        """Have not begun; raises ConfigurationError for an overlap that there is not, and a cron that never fires."""
        if overlap not in get_args(Overlap):
            raise ConfigurationError(f"overlap= is one of {', '.join(get_args(Overlap))}, not {overlap!r}")
        validate(spec)
        self._clock = clock
        self._spec = spec
        self._overlap = overlap
        self._run_one = run_one
        self._turn = asyncio.Lock()
        self._running = 0
        self._firings = Firings()

    async def run(self) -> Firings:
        """Wait for each firing until there is no other, then for the runs that still go on."""
        started, previous, iteration = self._clock.now(), None, 0
        async with asyncio.TaskGroup() as group:
            while True:
                fire = next_fire(
                    self._spec, started=started, previous=previous, iteration=iteration, now=self._clock.now()
                )
                if fire is None:
                    break
                if fire.fire_time > self._clock.now():
                    await pause(self._clock, fire.fire_time - self._clock.now())
                previous, iteration = fire.fire_time, iteration + 1
                self._firings.skipped += fire.skipped
                if self._overlap == "skip" and self._running:
                    self._firings.skipped += 1
                else:
                    self._running += 1
                    _ = group.create_task(self._one(fire.fire_time))
        return self._firings

    async def _one(self, when: float) -> None:
        try:
            if self._overlap == "queue":
                async with self._turn:
                    await self._run_one(when)
            else:
                await self._run_one(when)
            self._firings.done += 1
        except Exception:
            self._firings.failed += 1
            logger.exception("a run that a schedule has set off failed")
        finally:
            self._running -= 1
