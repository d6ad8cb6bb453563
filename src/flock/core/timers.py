"""When a schedule fires next: pure functions of the declaration and of what has fired.

All times are UTC epoch seconds. This is the one module that knows the cron library.
"""

import math
from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count, islice, takewhile
from typing import NamedTuple, assert_never
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from flock.model.errors import ConfigurationError
from flock.model.schedule import Cron, Daily, Every, Once, Schedule

GRACE = 1.0
"""How many seconds before the start a one-time schedule may lie and still fire."""

MAX_COUNTED = 1_000
"""Up to here missed slots of a cron or daily schedule are counted; `Fire.skipped` stops there."""

_ANY_DAY = datetime(2000, 1, 1, tzinfo=UTC)


class Fire(NamedTuple):
    """One firing: its slot, how many fired before it and how many missed slots it stands for."""

    fire_time: float
    iteration: int
    skipped: int


def validate(spec: Schedule) -> None:
    """Raise ConfigurationError for a cron expression that can't be read or never fires in fifty years."""
    if not isinstance(spec.plan, Cron):
        return
    expression = spec.plan.expression
    try:
        never = next(CronSim(expression, _ANY_DAY), None) is None
    except (CronSimError, ValueError) as error:
        raise ConfigurationError(
            f"cron={expression!r} is not valid ({error}): write minute hour day-of-month month day-of-week, "
            "like '*/15 9-17 * * MON-FRI'"
        ) from error
    if never:
        raise ConfigurationError(f"cron={expression!r} names no day that exists, so it would never fire")


def next_fire(spec: Schedule, *, started: float, previous: float | None, iteration: int, now: float) -> Fire | None:
    """Answer the first slot after `previous`, or the latest due one if several are due; None once the schedule is over.

    `previous` is the last slot that fired, `iteration` how many have. Slots depend on `started` and the wall clock of
    the zone alone, so nothing drifts. The first of a daily time or cron lies after `started`; a single moment that was
    over by more than GRACE when the schedule started never fires.
    """
    if spec.max_repeats is not None and iteration >= spec.max_repeats:
        return None
    found: tuple[float, int] | None
    match spec.plan:
        case Every() as plan:
            found = _every(plan, started, previous, now)
        case Once(moment=moment):
            due = _instant(moment, spec.zone) if moment.utcoffset() is None else moment.timestamp()
            found = (due, 0) if previous is None and due >= started - GRACE else None
        case Daily() | Cron() as plan:
            found = _latest(plan, spec.zone, started if previous is None else previous, now)
        case _:
            assert_never(spec.plan)
    return None if found is None else Fire(fire_time=found[0], iteration=iteration, skipped=found[1])


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
    """Yield the slots after an instant, strictly increasing.

    Times follow the wall clock: one that a clock change skips fires at the first instant after the gap, and one that it
    repeats fires once. A cron expression whose minute or hour starts with `*` keeps its pace in real time.
    """
    moment = datetime.fromtimestamp(after, zone)
    if isinstance(plan, Cron):
        slots = (each.timestamp() for each in CronSim(plan.expression, moment))
    else:
        # The day before counts too: where clocks skip a day or midnight, its slot is the next one's first instant.
        days = (moment.date() + timedelta(days=number) for number in count(-1))
        slots = (_instant(datetime.combine(day, plan.time), zone) for day in days)
    latest = after
    for slot in slots:
        # Counting wall-clock time, the cron library goes back to the first of two equal hours: those slots are over.
        if slot > latest:
            yield slot
            latest = slot


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
