"""The one module that knows the cron library."""

from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from flock.model.errors import ConfigurationError

_ANY_DAY = datetime(2000, 1, 1, tzinfo=UTC)


def check_cron(expression: str) -> None:
    """Raise ConfigurationError unless the expression is valid and fires within fifty years."""
    try:
        never = next(CronSim(expression, _ANY_DAY), None) is None
    except (CronSimError, ValueError) as error:
        raise ConfigurationError(
            f"cron={expression!r} is not valid ({error}): write minute hour day-of-month month day-of-week, "
            "like '*/15 9-17 * * MON-FRI'"
        ) from error
    if never:
        raise ConfigurationError(f"cron={expression!r} names no day that exists, so it would never fire")


def cron_slots(expression: str, zone: ZoneInfo, after: float) -> Iterator[float]:
    """Yield the slots after an instant, strictly increasing, in UTC epoch seconds.

    Fixed times follow the wall clock: one that a clock change skips fires at the first instant after the gap, and one
    that it repeats fires once. An expression whose minute or hour starts with `*` keeps its pace in real time.
    """
    latest = after
    for moment in CronSim(expression, datetime.fromtimestamp(after, zone)):
        # Counting wall-clock time, the library goes back to the first of two equal hours: those slots are over.
        if (slot := moment.timestamp()) > latest:
            yield slot
            latest = slot
