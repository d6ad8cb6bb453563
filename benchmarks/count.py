"""Counts what Python and SQLite execute for one activation: `count.py W2` or `count.py W8`, on Python 3.12 or newer.

Bytecodes, calls and statements do not depend on the machine or on what else it does, so they show a small change where
times do not. They say nothing of what compiled code costs: pydantic, tasks, dictionaries, the garbage collector.
"""

import asyncio
import functools
import re
import sqlite3
import sys
from collections import Counter
from pathlib import Path, PurePath
from types import CodeType, ModuleType
from typing import Any

from typing_extensions import override

import bench_flock
import bench_raw
from common import SIZES, Timer, Workload
from flock.stores.sqlite.statements import SQL

_TOOL = 3  # any number from 0 to 5 that no debugger uses
_SHOWN = 16
_MOST = 1_000  # artifacts: counting is slow
_FRAME = 4096 + 24  # bytes of a page in a log, with its header
_EVENTS = ("INSTRUCTION", "PY_START", "PY_RESUME")


class Statements:
    """What connections to SQLite execute, from their opening on."""

    def __init__(self) -> None:
        """Trace each connection that is opened from now on."""
        self.texts: list[str] = []
        self.logs: set[Path] = set()
        plain = sqlite3.connect

        @functools.wraps(plain)
        def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:  # noqa: ANN401 - it passes on what it is given
            db: sqlite3.Connection = plain(*arguments, **options)
            db.set_trace_callback(self.texts.append)
            _, _, file = db.execute("PRAGMA database_list").fetchone()
            db.execute("PRAGMA wal_autocheckpoint = 0")  # which would begin the log anew
            self.logs.add(Path(f"{file}-wal"))
            return db

        setattr(sqlite3, "connect", connect)  # noqa: B010 - a type checker would not have it

    def frames(self) -> int:
        """Count the pages in the logs of the files that are open."""
        return sum(log.stat().st_size // _FRAME for log in self.logs if log.exists())

    def by_name(self) -> Counter[str]:
        """Count statements by the names that Flock's own have, others by their first words."""
        names = {name: re.split(r"[?:]\w*", text)[0] for name, text in SQL.items()}
        ordered = sorted(names, key=lambda name: len(names[name]), reverse=True)
        return Counter(
            next((name for name in ordered if text.startswith(names[name])), " ".join(text.split()[:2]))
            for text in self.texts
        )


class Tally:
    """How many bytecodes ran, and how often a function was entered, by where it stands."""

    def __init__(self) -> None:
        """Start at zero."""
        self.bytecodes: Counter[str] = Counter()
        self.calls = 0
        self.statements: Counter[str] = Counter()
        self.frames = 0

    def executed(self, code: CodeType, _: int) -> None:
        """Count one bytecode."""
        self.bytecodes[_place(code)] += 1

    def entered(self, _: CodeType, __: int) -> None:
        """Count one call of a function, or one return to it."""
        self.calls += 1


class CountingTimer(Timer):
    """Counts while it runs instead of timing."""

    def __init__(self, monitoring: ModuleType, statements: Statements) -> None:
        """Count by means of `sys.monitoring`."""
        super().__init__()
        self.tally = Tally()
        self._statements = statements
        self._monitoring = monitoring
        monitoring.use_tool_id(_TOOL, "count")
        for event in _EVENTS:
            callback = self.tally.executed if event == "INSTRUCTION" else self.tally.entered
            monitoring.register_callback(_TOOL, getattr(monitoring.events, event), callback)

    @override
    def start(self) -> None:
        super().start()
        self._statements.texts.clear()
        self.tally.frames = -self._statements.frames()
        self._monitoring.set_events(_TOOL, sum(getattr(self._monitoring.events, event) for event in _EVENTS))

    @override
    def stop(self) -> None:
        self._monitoring.set_events(_TOOL, 0)
        self._monitoring.free_tool_id(_TOOL)
        self.tally.statements = self._statements.by_name()
        self.tally.frames += self._statements.frames()
        super().stop()


@functools.cache
def _place(code: CodeType) -> str:
    """Name the module of some code: ours by its path in the package, others by their package."""
    parts = PurePath(code.co_filename).with_suffix("").parts
    for package in ("flock", "asyncio", "pydantic"):
        if package in parts[:-1]:
            return ".".join(parts[len(parts) - 1 - parts[::-1].index(package) :]) if package == "flock" else package
    return parts[-1] if parts[-1] in {"common", "bench_flock", "bench_raw"} else "other"


async def count(workload: Workload, size: int, warm: int, statements: Statements) -> tuple[Tally, int]:
    """Run a workload once to warm up and once to count."""
    await workload(warm, Timer())
    timer = CountingTimer(getattr(sys, "monitoring"), statements)  # noqa: B009 - type checkers look at Python 3.11
    activations = await workload(size, timer)
    return timer.tally, activations


def main(name: str) -> None:
    """Print a table of a workload's bytecodes per activation, Flock's beside the baseline's, and of its statements."""
    if not hasattr(sys, "monitoring"):
        sys.exit("count.py needs Python 3.12 or newer")
    size, warm = SIZES[name]
    size = min(size, _MOST)
    statements = Statements()
    ours, ran = asyncio.run(count(bench_flock.WORKLOADS[name], size, warm, statements))
    raw, raw_ran = asyncio.run(count(bench_raw.WORKLOADS[name], size, warm, statements))
    print(
        f"{name}, per activation: {ours.bytecodes.total() / ran:,.0f} bytecodes in {ours.calls / ran:,.0f} calls; ",
        end="",
    )
    print(f"raw asyncio {raw.bytecodes.total() / raw_ran:,.0f} in {raw.calls / raw_ran:,.0f}")
    for place, number in ours.bytecodes.most_common(_SHOWN):
        print(f"{number / ran:10,.0f}  {place}")
    if ours.statements:
        print(f"{ours.statements.total() / ran:.2f} statements, {ours.frames / ran:.2f} pages in the log; raw ", end="")
        print(f"{raw.statements.total() / raw_ran:.2f}, {raw.frames / raw_ran:.2f}")
    for statement, number in ours.statements.most_common(_SHOWN):
        print(f"{number / ran:10.2f}  {statement}")


if __name__ == "__main__":
    main(sys.argv[1].upper() if sys.argv[1:] else "W2")
