"""When a schedule fires next: pure functions of the declaration and of what has fired.

All times are UTC epoch seconds.
"""

import math
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from itertools import islice, takewhile
from typing import assert_never
from zoneinfo import ZoneInfo

from flock.core.cron import check_cron, cron_slots
from flock.model.schedule import Cron, Daily, Every, Once, ScheduleSpec

GRACE = 1.0
"""How many seconds before the start a one-time schedule may lie and still fire."""

MAX_COUNTED = 1_000
"""Up to here missed slots of a cron or daily schedule are counted; `Fire.skipped` stops there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fire:
    """One firing: its slot, how many fired before it and how many missed slots it stands for."""

    fire_time: float
    iteration: int
    skipped: int


def validate(spec: ScheduleSpec) -> None:
    """Raise ConfigurationError for a cron expression that can never fire; all else the spec has checked itself."""
    if isinstance(spec.plan, Cron):
        check_cron(spec.plan.expression)


def next_fire(spec: ScheduleSpec, *, started: float, previous: float | None, iteration: int, now: float) -> Fire | None:
    """Answer the first slot after `previous`, or the latest due one if several are due; None once the schedule is over.

    `previous` is the last slot that fired, `iteration` how many have. Slots depend on `started` and the wall clock of
    the zone alone, so nothing drifts. The first of a daily time or cron lies after `started`; a single moment that was
    over by more than GRACE when the schedule started never fires.
    """
    if spec.max_repeats is not None and iteration >= spec.max_repeats:
        return None
    match spec.plan:
        case Every() as plan:
            slot, skipped = _every(plan, started, previous, now)
        case Once(moment=moment):
            due = _instant(moment, spec.zone) if moment.utcoffset() is None else moment.timestamp()
            if previous is not None or due < started - GRACE:
                return None
            slot, skipped = due, 0
        case Daily() | Cron() as plan:
            found = _latest(plan, spec.zone, started if previous is None else previous, now)
            if found is None:
                return None
            slot, skipped = found
        case _:
            assert_never(spec.plan)
    return Fire(fire_time=slot, iteration=iteration, skipped=skipped)


def _every(plan: Every, started: float, previous: float | None, now: float) -> tuple[float, int]:
    def slot(index: int) -> float:
        return started + plan.delay + index * plan.interval

    def last_until(instant: float) -> int:
        guess = math.floor((instant - slot(0)) / plan.interval)
        return guess - (slot(guess) > instant) + (slot(guess + 1) <= instant)

    first = 0 if previous is None else max(0, last_until(previous) + 1)
    latest = max(first, last_until(now))
    return slot(latest), latest - first


def _latest(plan: Daily | Cron, zone: ZoneInfo, after: float, now: float) -> tuple[float, int] | None:
    first = next(_slots(plan, zone, after), None)
    if first is None or first > now:
        return None if first is None else (first, 0)

    def is_last(second: int) -> bool:
        return next(_slots(plan, zone, second), math.inf) > now

    # Walking there slot by slot could take a year's worth of minutes.
    seconds = range(math.floor(first), math.ceil(now) + 1)
    latest = next(_slots(plan, zone, seconds.start + bisect_left(seconds, x=True, key=is_last) - 1))
    missed = takewhile(lambda slot: slot < latest, _slots(plan, zone, after))
    return latest, sum(1 for _ in islice(missed, MAX_COUNTED))


def _slots(plan: Daily | Cron, zone: ZoneInfo, after: float) -> Iterator[float]:
    match plan:
        case Daily():
            return _daily_slots(plan.time, zone, after)
        case Cron():
            return cron_slots(plan.expression, zone, after)
        case _:
            assert_never(plan)


def _daily_slots(at: time, zone: ZoneInfo, after: float) -> Iterator[float]:
    # The day before counts too: where clocks skip a day or midnight, its slot is the first instant of the next one.
    day = datetime.fromtimestamp(after, zone).date() - timedelta(days=1)
    latest = after
    while True:
        if (slot := _instant(datetime.combine(day, at), zone)) > latest:
            yield slot
            latest = slot
        day += timedelta(days=1)


def _instant(local: datetime, zone: ZoneInfo) -> float:
    """Resolve wall-clock time: the first of two equal ones, and the first instant after a gap (PEP 495)."""
    by_old = local.replace(tzinfo=zone, fold=0)
    by_new = local.replace(tzinfo=zone, fold=1)
    before, after = by_old.utcoffset(), by_new.utcoffset()
    if before is None or after is None or before >= after:
        return by_old.timestamp()
    seconds = range(math.floor(by_new.timestamp()), math.ceil(by_old.timestamp()) + 1)
    index = bisect_left(seconds, x=True, key=lambda second: datetime.fromtimestamp(second, zone).utcoffset() == after)
    return float(seconds[index])
