"""When an agent fires by itself."""

from dataclasses import dataclass
from datetime import datetime, time
from typing import NamedTuple
from zoneinfo import ZoneInfo


class Every(NamedTuple):
    """A fixed interval: the first firing `delay` after the start, then each `interval`, both in seconds."""

    interval: float
    delay: float


class Once(NamedTuple):
    """One moment; a naive one is wall-clock time in the zone of the schedule."""

    moment: datetime


class Daily(NamedTuple):
    """A wall-clock time of each day in the zone of the schedule."""

    time: time


class Cron(NamedTuple):
    """A cron expression of five fields, read in the zone of the schedule."""

    expression: str


Plan = Every | Once | Daily | Cron


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A plan, read in a time zone; `max_repeats` counts firings."""

    plan: Plan
    max_repeats: int | None = None
    tz: str = "UTC"

    @property
    def zone(self) -> ZoneInfo:
        """The time zone that wall-clock times are read in."""
        return ZoneInfo(self.tz)
