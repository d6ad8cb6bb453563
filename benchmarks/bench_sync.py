"""What a blocking call costs whose coroutine does nothing: `bench_sync.py inside`, and the other ways that are known.

The time of each is the median over single calls, since a hop to another thread is sometimes much slower.
"""

import argparse
import asyncio
import functools
import json
import platform
import threading
import time
import warnings
from collections.abc import Callable
from statistics import median

from flock import BlockingCallWarning, run_sync
from flock.sync import Portal, at_home

WARM, SINGLE, AWAITS = 200, 2_000, 100_000


class Board:
    """Has a method that may be awaited anywhere, and the same that is awaited where it is."""

    def __init__(self) -> None:
        """Be at home on the running loop."""
        self.portal = Portal("board")

    async def plain(self) -> None:
        """Do nothing."""

    native = at_home(plain)


async def nothing() -> None:
    """Do nothing."""


def by_thread() -> None:
    """Run it on a loop of its own in a thread of its own, as code does that must block inside a loop."""
    thread = threading.Thread(target=lambda: asyncio.run(nothing()))
    thread.start()
    thread.join()


class Handoff:
    """Wakes a loop in another thread, which lets go of a lock at once: nobody who waits for a loop is faster."""

    def __init__(self) -> None:
        """Start the loop."""
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def __call__(self) -> None:
        """Wait for the lock."""
        lock = threading.Lock()
        lock.acquire()
        self.loop.call_soon_threadsafe(lock.release)
        lock.acquire()


def single(call: Callable[[], None], count: int) -> float:
    """Take the median time (us) of one call."""
    times: list[float] = []
    for _ in range(WARM + count):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return median(times[WARM:]) * 1e6


async def inside(call: Callable[[], None], count: int) -> float:
    """Take it inside a running loop, which stands still meanwhile."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BlockingCallWarning)
        return single(call, count)


async def awaited(name: str, count: int) -> float:
    """Take the time (us) of one await of many."""
    call = getattr(Board(), name)
    await call()
    begun = time.perf_counter()
    for _ in range(count):
        await call()
    return (time.perf_counter() - begun) / count * 1e6


blocking = functools.partial(run_sync, nothing)
WAYS: dict[str, Callable[[int], float]] = {
    "inside": lambda count: asyncio.run(inside(blocking, count)),
    "inside-by-thread": lambda count: asyncio.run(inside(by_thread, count)),
    "inside-by-handoff": lambda count: asyncio.run(inside(Handoff(), count)),
    "outside": lambda count: single(blocking, count),
    "outside-by-run": lambda count: single(lambda: asyncio.run(nothing()), count),
    "native": lambda count: asyncio.run(awaited("native", count * (AWAITS // SINGLE))),
    "plain": lambda count: asyncio.run(awaited("plain", count * (AWAITS // SINGLE))),
}


def main() -> None:
    """Measure one way and print one line of JSON."""
    parser = argparse.ArgumentParser(description="Measure what a blocking call costs that does nothing.")
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("--smoke", action="store_true", help="a few calls only")
    arguments = parser.parse_args()
    us = WAYS[arguments.way](20 if arguments.smoke else SINGLE)
    print(json.dumps({"way": arguments.way, "python": platform.python_version(), "us": round(us, 4), "faults": []}))


if __name__ == "__main__":
    main()
