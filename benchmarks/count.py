"""Counts what Python executes for one activation: `count.py W2`, on Python 3.12 or newer.

Bytecodes and calls do not depend on the machine or on what else it does, so they show a small change where times
do not. They say nothing of what compiled code costs: pydantic, tasks, dictionaries, the garbage collector.
"""

import asyncio
import functools
import sys
from collections import Counter
from pathlib import PurePath
from types import CodeType, ModuleType

from typing_extensions import override

import bench_flock
import bench_raw
from common import SIZES, Timer, Workload

_TOOL = 3  # any number from 0 to 5 that no debugger uses
_SHOWN = 16
_MOST = 1_000  # artifacts: counting is slow
_EVENTS = ("INSTRUCTION", "PY_START", "PY_RESUME")


class Tally:
    """How many bytecodes ran, and how often a function was entered, by where it stands."""

    def __init__(self) -> None:
        """Start at zero."""
        self.bytecodes: Counter[str] = Counter()
        self.calls = 0

    def executed(self, code: CodeType, _: int) -> None:
        """Count one bytecode."""
        self.bytecodes[_place(code)] += 1

    def entered(self, _: CodeType, __: int) -> None:
        """Count one call of a function, or one return to it."""
        self.calls += 1


class CountingTimer(Timer):
    """Counts while it runs instead of timing."""

    def __init__(self, monitoring: ModuleType) -> None:
        """Count by means of `sys.monitoring`."""
        super().__init__()
        self.tally = Tally()
        self._monitoring = monitoring
        monitoring.use_tool_id(_TOOL, "count")
        for event in _EVENTS:
            callback = self.tally.executed if event == "INSTRUCTION" else self.tally.entered
            monitoring.register_callback(_TOOL, getattr(monitoring.events, event), callback)

    @override
    def start(self) -> None:
        super().start()
        self._monitoring.set_events(_TOOL, sum(getattr(self._monitoring.events, event) for event in _EVENTS))

    @override
    def stop(self) -> None:
        self._monitoring.set_events(_TOOL, 0)
        self._monitoring.free_tool_id(_TOOL)
        super().stop()


@functools.cache
def _place(code: CodeType) -> str:
    """Name the module of some code: ours by its path in the package, others by their package."""
    parts = PurePath(code.co_filename).with_suffix("").parts
    for package in ("flock", "asyncio", "pydantic"):
        if package in parts[:-1]:
            return ".".join(parts[len(parts) - 1 - parts[::-1].index(package) :]) if package == "flock" else package
    return parts[-1] if parts[-1] in {"common", "bench_flock", "bench_raw"} else "other"


async def count(workload: Workload, size: int, warm: int) -> tuple[Tally, int]:
    """Run a workload once to warm up and once to count."""
    await workload(warm, Timer())
    timer = CountingTimer(getattr(sys, "monitoring"))  # noqa: B009 - type checkers look at Python 3.11
    activations = await workload(size, timer)
    return timer.tally, activations


def main(name: str) -> None:
    """Print a table of a workload's bytecodes per activation, Flock's beside the baseline's."""
    if not hasattr(sys, "monitoring"):
        sys.exit("count.py needs Python 3.12 or newer")
    size, warm = SIZES[name]
    size = min(size, _MOST)
    ours, ran = asyncio.run(count(bench_flock.WORKLOADS[name], size, warm))
    raw, raw_ran = asyncio.run(count(bench_raw.WORKLOADS[name], size, warm))
    print(
        f"{name}, per activation: {ours.bytecodes.total() / ran:,.0f} bytecodes in {ours.calls / ran:,.0f} calls; ",
        end="",
    )
    print(f"raw asyncio {raw.bytecodes.total() / raw_ran:,.0f} in {raw.calls / raw_ran:,.0f}")
    for place, number in ours.bytecodes.most_common(_SHOWN):
        print(f"{number / ran:10,.0f}  {place}")


if __name__ == "__main__":
    main(sys.argv[1].upper() if sys.argv[1:] else "W2")
