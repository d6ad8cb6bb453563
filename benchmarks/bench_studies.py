"""What a durable run of a study costs, over calling its agent and keeping a row by hand: `bench_studies.py serial`."""

import argparse
import asyncio
import json
import platform
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from flock.studies import Study

SMOKE, RUNS, ROUNDS = 8, 1_000, 7
LARGE = 10  # times as many runs
WAITING = 500
WAIT = 0.002  # seconds
WORKERS = 8


def agent(seed: int) -> dict[str, int]:
    """Give an answer at once."""
    return {"answer": seed}


async def waiting_agent(seed: int) -> dict[str, int]:
    """Give an answer after a while."""
    await asyncio.sleep(WAIT)
    return {"answer": seed}


def study(folder: Path, count: int, body: Callable[..., Any] = agent) -> Study:
    """Give a study of so many runs."""
    return Study.build("bench", agents={"agent": body}, problems=["one"], replicates=count, output_dir=folder)


def run(folder: Path, count: int, parallel: int, body: Callable[..., Any] = agent) -> float:
    """Take the time (s) of a study from its plan to its files."""
    made = study(folder, count, body)
    begun = time.perf_counter()
    results = made.run(parallel=parallel, progress=False)
    took = time.perf_counter() - begun
    if len(results) != count or results.failures:
        raise RuntimeError(f"{results!r}")
    return took


def bare(folder: Path, count: int) -> float:
    """Call the agent and commit a row for each answer."""
    begun = time.perf_counter()
    with closing(sqlite3.connect(folder / "bare.sqlite", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("CREATE TABLE runs (id INTEGER PRIMARY KEY, answer TEXT)")
        for number in range(count):
            answer = agent(random.Random(number).randrange(1000))  # noqa: S311 - no secret
            db.execute("INSERT INTO runs VALUES (?, ?)", (number, json.dumps(answer)))
    return time.perf_counter() - begun


def resume(folder: Path, count: int) -> float:
    """Take the time of a study that has nothing left to do."""
    run(folder, count, 1)
    return run(folder, count, 1)


def frame(folder: Path, count: int) -> float:
    """Take the time of a DataFrame of what ran."""
    results = study(folder, count).run(progress=False)
    begun = time.perf_counter()
    rows = len(results.df())
    took = time.perf_counter() - begun
    if rows != count:
        raise RuntimeError(f"{rows} rows of {count}")
    return took


WAYS: dict[str, Callable[[Path, int], float]] = {
    "bare": bare,
    "serial": lambda folder, count: run(folder, count, 1),
    "parallel": lambda folder, count: run(folder, count, WORKERS),
    "resume": resume,
    "resume-large": lambda folder, count: resume(folder, count * LARGE),
    "frame-large": lambda folder, count: frame(folder, count * LARGE),
    "waiting": lambda folder, count: run(folder, max(1, count * WAITING // RUNS), 1, waiting_agent),
    "waiting-parallel": lambda folder, count: run(folder, max(1, count * WAITING // RUNS), WORKERS, waiting_agent),
}


def median(way: str, count: int, rounds: int) -> float:
    """Take the median of several rounds in directories of their own, after a small one that loads what is needed."""
    times: list[float] = []
    for size in [SMOKE, *[count] * rounds]:
        with tempfile.TemporaryDirectory() as folder:
            times.append(WAYS[way](Path(folder), size))
    measured = sorted(times[1:])
    return measured[len(measured) // 2]


def main() -> None:
    """Measure one way and print one line of JSON."""
    parser = argparse.ArgumentParser(description="Measure what a run of a study costs.")
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("--smoke", action="store_true", help="a few runs only")
    arguments = parser.parse_args()
    count, rounds = (SMOKE, 1) if arguments.smoke else (RUNS, 3 if "large" in arguments.way else ROUNDS)
    seconds = median(arguments.way, count, rounds)
    figures = {"us": round(seconds / count * 1e6, 3), "ms": round(seconds * 1e3, 3)}
    print(json.dumps({"way": arguments.way, "python": platform.python_version(), **figures, "faults": []}))


if __name__ == "__main__":
    main()
