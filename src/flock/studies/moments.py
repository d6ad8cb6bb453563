"""Time as studies write it."""

from __future__ import annotations

import datetime as dt

from flock.core.clock import SystemClock

_clock = SystemClock()
now = _clock.now


def iso(seconds: float) -> str:
    """Give UTC seconds as ISO 8601 with milliseconds."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="milliseconds")


def iso_now() -> str:
    """Give this moment as ISO 8601 with milliseconds, in UTC."""
    return iso(now())
