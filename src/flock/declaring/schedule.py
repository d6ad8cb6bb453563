"""When an agent fires by itself, as users declare it."""

import re
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from flock.model.collect import positive
from flock.model.errors import ConfigurationError
from flock.model.schedule import Cron, Daily, Every, Once, Plan, Schedule

_SHORTEST = 1e-6  # epoch seconds as floats tell microseconds apart, and nothing finer
_LONGEST = timedelta(days=300 * 365).total_seconds()
_CLOCK_TIME = re.compile(r"\d\d:\d\d(:\d\d)?", re.ASCII)
_CRON_FIELDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSpec(Schedule):
    """Fires by `every`, `at` or `cron`: exactly one of them, checked while it is built.

    `every` and `after` are timedeltas or seconds; `after` delays the first firing of `every`, else one interval does.
    `at` is a datetime (fires once; a naive one is in `tz`), a time or "HH:MM[:SS]" (fires daily in `tz`), or an ISO
    datetime. `cron` has five fields; `max_repeats` counts firings. Raises ConfigurationError.
    """

    every: timedelta | float | None = None
    at: datetime | time | str | None = None
    cron: str | None = None
    after: timedelta | float | None = None
    plan: Plan = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse what can never work and settle the plan."""
        _check_zone(self.tz)
        if self.max_repeats is not None:
            positive("max_repeats=", self.max_repeats, "a whole number of at least 1 (none: without end)")
        if self.after is not None and self.every is None:
            raise ConfigurationError("after= delays the first firing of every=: leave it out with at= and cron=")
        given = [name for name in ("every", "at", "cron") if getattr(self, name) is not None]
        if len(given) != 1:
            got = " and ".join(given) or "none"
            raise ConfigurationError(f"a schedule needs exactly one of every=, at= and cron=, got {got}")
        object.__setattr__(self, "plan", self._settle())

    def _settle(self) -> Plan:
        if self.every is not None:
            interval = _seconds("every", self.every, least=_SHORTEST)
            return Every(interval, interval if self.after is None else _seconds("after", self.after, least=0.0))
        return _moments(self.at) if self.at is not None else Cron(_five_fields(self.cron))


def _check_zone(name: str) -> None:
    try:
        ZoneInfo(name)
    except (AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"tz={name!r} is not a known time zone: give an IANA name such as 'Europe/Berlin' or 'UTC'"
        ) from error


def _seconds(name: str, value: object, *, least: float) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise ConfigurationError(f"{name}={value!r} must be a timedelta or a number of seconds")
    if not least <= seconds <= _LONGEST:  # nor is NaN
        bound = "at least 0" if least == 0 else "more than 0 (a microsecond or longer)"
        raise ConfigurationError(f"{name}={value!r} must be {bound} seconds, and less than 300 years")
    return float(seconds)


def _moments(at: object) -> Once | Daily:
    try:
        if isinstance(at, str):
            at = time.fromisoformat(at) if _CLOCK_TIME.fullmatch(at) else datetime.fromisoformat(at)
    except ValueError as error:
        raise ConfigurationError(
            f"at={at!r} is no time: write 'HH:MM[:SS]' (daily) or a datetime like '2030-01-31T09:00' (once)"
        ) from error
    match at:
        case datetime():
            return Once(at)
        case time(tzinfo=None):
            return Daily(at)
        case time():
            raise ConfigurationError(f"at={at!r} has a time zone of its own: give a naive time, and the zone as tz=")
        case _:
            raise ConfigurationError(f"at={at!r} must be a datetime, a time, 'HH:MM[:SS]' or an ISO datetime")


def _five_fields(expression: object) -> str:
    fields = expression.split() if isinstance(expression, str) else []
    if len(fields) != _CRON_FIELDS:
        raise ConfigurationError(
            f"cron={expression!r} must be a string of five fields: "
            "minute hour day-of-month month day-of-week, like '*/15 9-17 * * MON-FRI'"
        )
    return " ".join(fields)
