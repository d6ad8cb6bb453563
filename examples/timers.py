"""Timers: an agent that nobody triggers measures by the clock, and another one watches what it publishes.

`.schedule(every=...)` takes a timedelta or seconds; `at="07:30"` and `cron="0 7 * * MON-FRI"` read a time zone from
`tz=`. An interval keeps its rhythm however long the work takes, and a tick that would overlap its predecessor is
skipped and counted. Schedules never keep a board busy, so this script waits for what it wants to see:

    python examples/timers.py
    flock run examples/timers.py
"""

import asyncio
from collections.abc import Sequence

from pydantic import BaseModel

from flock import Context, Flock, Until


class Reading(BaseModel):
    """What the thermometer showed."""

    number: int
    degrees: float


class Alarm(BaseModel):
    """That it is too hot."""

    text: str


HOT = 25.0  # degrees

flock = Flock()


@flock.agent("thermometer").schedule(every=0.05, max_repeats=5)
async def measure(ctx: Context) -> Reading:
    """Measure; `ctx.iteration` counts the ticks from 1."""
    return Reading(number=ctx.iteration, degrees=20.0 + 1.5 * ctx.iteration)


@flock.agent("watchman").consumes(Reading, where=lambda reading: reading.degrees > HOT)
async def watch(reading: Reading) -> Alarm:
    """Raise an alarm for each hot reading."""
    return Alarm(text=f"{reading.degrees:.1f} degrees at reading {reading.number}!")


async def guard() -> Sequence[Alarm]:
    """Wait until the last reading has been watched."""
    async with flock:
        await flock.run_until(Until.artifact_count(Reading).exactly(5) & Until.idle())
        for reading in await flock.store.get_by_type(Reading):
            print(f"{reading.number}: {reading.degrees:.1f} {'#' * round(reading.degrees)}")
        return await flock.store.get_by_type(Alarm)


def main() -> Sequence[Alarm]:
    """Return the two Alarms of the five readings."""
    alarms = asyncio.run(guard())
    for alarm in alarms:
        print(alarm.text)
    return alarms


if __name__ == "__main__":
    main()
