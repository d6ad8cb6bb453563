"""What a step of a workflow costs, against the same coroutine function without one: `bench_tasks.py sequential`."""

import argparse
import asyncio
import json
import platform
import time
from collections.abc import Awaitable, Callable

from flock.tasks import Workflow, action

SMOKE, STEPS, ROUNDS = 20, 1_000, 7
SLEEP = 0.1  # seconds


async def nothing() -> None:
    """Do nothing."""


async def sleep() -> None:
    """Wait a while."""
    await asyncio.sleep(SLEEP)


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    """Take the time (s) of some work."""
    begun = time.perf_counter()
    await work()
    return time.perf_counter() - begun


async def plain(count: int) -> float:
    """Await it again and again."""

    async def work() -> None:
        for _ in range(count):
            await nothing()

    return await timed(work)


async def by_task(count: int) -> float:
    """Give each a task in a group."""

    async def work() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                _ = group.create_task(nothing())

    return await timed(work)


async def sequential(count: int) -> float:
    """Make them the steps of a workflow."""
    workflow = Workflow()
    workflow.task.add([action(nothing)] * count)
    return await timed(workflow.astart)


async def parallel(count: int) -> float:
    """Run the steps side by side."""
    workflow = Workflow()
    workflow.task.add([action(nothing)] * count)
    return await timed(lambda: workflow.astart("async_parallel", max_concurrency=None))


async def sleepers(count: int) -> float:
    """Run steps side by side that sleep."""
    workflow = Workflow()
    workflow.task.add([action(sleep)] * count)
    return await timed(lambda: workflow.astart("async_parallel", max_concurrency=None))


async def plain_sleepers(count: int) -> float:
    """Sleep in tasks of a group."""

    async def work() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                _ = group.create_task(sleep())

    return await timed(work)


WAYS: dict[str, Callable[[int], Awaitable[float]]] = {
    "plain": plain, "sequential": sequential, "by-task": by_task, "parallel": parallel, "sleepers": sleepers,
    "plain-sleepers": plain_sleepers,
}  # fmt: skip


async def best(way: Callable[[int], Awaitable[float]], count: int, rounds: int) -> float:
    """Take the median of several rounds in this process."""
    times = sorted([await way(count) for _ in range(rounds)])
    return times[len(times) // 2]


def main() -> None:
    """Measure one way and print one line of JSON."""
    parser = argparse.ArgumentParser(description="Measure what a step of a workflow costs.")
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("--smoke", action="store_true", help="a few steps only")
    arguments = parser.parse_args()
    count, rounds = (SMOKE, 1) if arguments.smoke else (STEPS, ROUNDS)
    seconds = asyncio.run(best(WAYS[arguments.way], count, rounds))
    figures = {"us": round(seconds / count * 1e6, 4), "ms": round(seconds * 1e3, 2)}
    print(json.dumps({"way": arguments.way, "python": platform.python_version(), **figures, "faults": []}))


if __name__ == "__main__":
    main()
