"""What large boards in files cost: `bench_durable.py build --folder F` makes them; then `recover`, `query` or `weigh`.

They are made by Flock, by programs that are killed where activations are to be left open. The largest is a hundred
copies of the rows of a smaller one (`copies.sql`), which Flock then goes on with.
"""

import argparse
import asyncio
import gc
import json
import os
import platform
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sized
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import NamedTuple

from common import Order, Payment, Receipt, order, payment, resident_kib, work
from flock import Flock

WORKERS = 10
IN_RUN = 10  # orders of a small run; each gets a receipt
RARE = 5  # payments on a whole board
BULK = "bulk"  # the run of half of all orders
AT_ONCE = 500  # orders that are published before Flock works on them
PAGE = 20  # artifacts that a query asks for
CALLS, WARM = 300, 20  # of each query
SCRIPT = Path(__file__).with_name("copies.sql")


class Shape(NamedTuple):
    """How a board is made: orders that were worked on, times they are there, activations that a crash left open."""

    orders: int
    times: int = 1
    open: int = 0

    @property
    def artifacts(self) -> int:
        """Count what is there at least."""
        return 2 * self.orders * self.times + self.open


BOARDS = {
    "small": Shape(500),
    "large": Shape(5_000, times=100),
    "crashed-small": Shape(450, open=100),
    "crashed": Shape(45_000, open=10_000),
}
SMOKE = {
    "small": Shape(60),
    "large": Shape(60, times=10),
    "crashed-small": Shape(40, open=20),
    "crashed": Shape(80, open=40),
}
Outcome = dict[str, float | str | list[str]]


def declare(flock: Flock, body: Callable[[Order], Awaitable[Receipt]]) -> None:
    """Declare ten agents that share the orders."""
    for k in range(WORKERS):
        flock.agent(f"worker {k}").consumes(Order, where=shares(k)).publishes(Receipt).calls(body)


def shares(k: int) -> Callable[[Order], bool]:
    """Return the predicate that lets one order in ten through."""
    return lambda order: order.id % WORKERS == k


def on(path: Path) -> Flock:
    """Return the Flock of a board."""
    return Flock(store=f"sqlite:///{path}?synchronous=normal")


def demand(what: str, got: object, want: object) -> None:
    """Exit unless the two are equal."""
    if got != want:
        sys.exit(f"{what}: got {got}, want {want}")


# ---- boards are made


async def fill(path: Path, orders: int) -> None:
    """Publish orders, half of them in one run and the others in small ones, and have them worked on."""
    async with on(path) as flock:
        declare(flock, work)
        for start in range(0, orders, IN_RUN):
            run = BULK if start // IN_RUN % 2 else f"run {start}"
            several = [order(i) for i in range(start, min(start + IN_RUN, orders))]
            await flock.publish_many(several, correlation_id=run)
            if start % AT_ONCE == 0:
                await flock.run_until_idle()
        await flock.run_until_idle()


def copy(path: Path, times: int) -> None:
    """Copy all rows until they are there so many times."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute("CREATE TEMP TABLE copy (number INTEGER PRIMARY KEY)")
        db.executemany("INSERT INTO copy VALUES (?)", [(number,) for number in range(1, times)])
        db.executescript(f"BEGIN; {SCRIPT.read_text(encoding='utf-8')} COMMIT;")
        demand("check of the file", db.execute("PRAGMA quick_check").fetchone(), ("ok",))


async def go_on(path: Path, shape: Shape) -> None:
    """See that Flock reads what is there, and works on; exits when it does not."""
    async with on(path) as flock:
        declare(flock, work)
        info = await flock.store.info()
        known = (info.artifacts, info.activations, info.open, info.sequence)
        done = shape.orders * shape.times
        demand("what is known of the board", known, (2 * done, done, 0, 2 * done))
        run = (await flock.store.runs())[-1]
        receipt = (await flock.store.query(Receipt, correlation_id=run))[-1]
        why = await flock.store.why(receipt)
        demand("state of what made a receipt", why.made_by and why.made_by.state, "done")
        demand("orders of a receipt", [artifact.payload.id for artifact in why.inputs], [receipt.payload.id])
        demand("its children", len((await flock.store.lineage(why.inputs[0])).descendants), 1)
        await flock.publish_many([payment(i) for i in range(RARE)], correlation_id="payments")
        await flock.publish_many([order(i) for i in range(IN_RUN)], correlation_id="the last")
        await flock.run_until_idle()
        receipts = await flock.store.query(Receipt, correlation_id="the last")
        demand("receipts of the last orders", len(receipts), IN_RUN)


async def crash(path: Path, count: int) -> None:
    """Publish orders whose agents do not come to an end, and die."""
    async with on(path) as flock:
        declare(flock, never)
        for start in range(0, count, AT_ONCE):
            await flock.publish_many([order(i) for i in range(start, min(start + AT_ONCE, count))])
        os._exit(0)


async def never(order: Order) -> Receipt:
    """Work for ever."""
    await asyncio.Event().wait()
    raise AssertionError(order)


def build_all(folder: Path, boards: Mapping[str, Shape], *, smoke: bool) -> Outcome:
    """Make boards and say how long it takes; exits when one is not as it should be."""
    started = time.perf_counter()
    for name, shape in boards.items():
        begun = time.perf_counter()
        print(f"making a board of {shape.artifacts:,} artifacts", file=sys.stderr, end="", flush=True)
        path = build(folder, name, shape, smoke=smoke)
        seconds, size = time.perf_counter() - begun, path.stat().st_size / 1e6
        print(f": {seconds:.0f} s, {size:.0f} MB", file=sys.stderr, flush=True)
    return {"seconds": round(time.perf_counter() - started, 3), "faults": []}


def build(folder: Path, name: str, shape: Shape, *, smoke: bool) -> Path:
    """Make a board; exits when it is not as it should be."""
    path = folder / f"{name}.db"
    asyncio.run(fill(path, shape.orders))
    if shape.times > 1:
        copy(path, shape.times)
    if shape.open:
        command = (sys.executable, __file__, "crash", name, "--folder", str(folder), *["--smoke"] * smoke)
        subprocess.run(command, check=True)  # noqa: S603
    else:
        asyncio.run(go_on(path, shape))
    return path


# ---- boards are measured


async def recover(path: Path, shape: Shape) -> Outcome:
    """Time from opening a copy of a crashed board until Flock has started and an agent runs."""
    ran = asyncio.Event()

    async def first(order: Order) -> Receipt:
        ran.set()
        return await work(order)

    with tempfile.TemporaryDirectory(prefix="flock-bench-") as folder:
        for each in path.parent.glob(f"{path.name}*"):
            if each.is_file():  # which the socket of the process that was killed is not
                shutil.copy(each, folder)
        gc.collect()
        started = time.perf_counter()
        async with on(Path(folder, path.name)) as flock:
            declare(flock, first)
            await flock.ready()
            ready = time.perf_counter() - started
            await ran.wait()
            seconds = time.perf_counter() - started
            report = await flock.run_until_idle()
            info = await flock.store.info()
    faults = [] if report.idle and info.open == 0 else [f"{info.open} activations are open in the end"]
    if info.artifacts != shape.artifacts + shape.open:
        faults.append(f"artifacts in the end: got {info.artifacts}, want {shape.artifacts + shape.open}")
    return {"seconds": round(seconds, 4), "ready_seconds": round(ready, 4), "faults": faults}


async def query(path: Path, shape: Shape) -> Outcome:
    """Take the median time of each kind of query."""
    dice = random.Random(7)  # noqa: S311
    async with on(path) as flock:
        declare(flock, work)
        await flock.ready()
        runs = [run for run in await flock.store.runs() if "run " in run]
        half = shape.artifacts // 2

        def since() -> int:
            return dice.randrange(half)

        ask = flock.store.query
        kinds: dict[str, tuple[Callable[[], Awaitable[Sized]], int]] = {
            "type_ms": (lambda: ask(Receipt, since=since(), limit=PAGE), PAGE),
            "rare_type_ms": (lambda: ask(Payment, limit=PAGE), RARE),
            "run_ms": (lambda: ask(correlation_id=BULK, since=since(), limit=PAGE), PAGE),
            "small_run_ms": (lambda: ask(correlation_id=dice.choice(runs), limit=2 * PAGE), 2 * IN_RUN),
            "small_run_and_type_ms": (
                lambda: ask(Receipt, correlation_id=dice.choice(runs), limit=PAGE),
                IN_RUN,
            ),
            "run_and_type_ms": (lambda: ask(Receipt, correlation_id=BULK, since=since(), limit=PAGE), PAGE),
            "run_and_rare_type_ms": (lambda: ask(Payment, correlation_id="payments", limit=PAGE), RARE),
        }
        faults: list[str] = []
        result: Outcome = {"faults": faults}
        for name, (call, want) in kinds.items():
            times: list[float] = []
            for _ in range(WARM + CALLS):
                begun = time.perf_counter()
                found = await call()
                times.append(time.perf_counter() - begun)
                if len(found) != want:
                    faults.append(f"{name}: got {len(found)}, want {want}")
            result[name] = round(median(times[WARM:]) * 1e3, 4)
    return result


async def weigh(path: Path, _: Shape) -> Outcome:
    """Weigh a process in which Flock is open on a board and has worked a little."""
    async with on(path) as flock:
        declare(flock, work)
        before = await flock.store.info()
        for i in range(WARM):
            await flock.publish(order(i))
        await flock.publish_many([order(i) for i in range(WARM)])
        await flock.run_until_idle()
        await flock.store.query(Receipt, limit=PAGE)
        after = await flock.store.info()
        gc.collect()
        resident = resident_kib() / 1024
    worked = (after.artifacts - before.artifacts, after.activations - before.activations, after.open)
    faults = [] if worked == (4 * WARM, 2 * WARM, 0) else [f"artifacts, activations and what is open: {worked}"]
    return {"resident_mb": round(resident, 2), "artifacts": before.artifacts, "faults": faults}


MEASURED = {"recover": recover, "query": query, "weigh": weigh}


def main() -> None:
    """Do what the command line asks for and print one line of JSON; exit with 3 when a check did not hold."""
    arguments = _arguments()
    folder, boards = Path(arguments.folder), SMOKE if arguments.smoke else BOARDS
    names: list[str] = arguments.boards
    path, shape = folder / f"{names[0]}.db", boards[names[0]]
    match arguments.what:
        case "build":
            outcome = build_all(folder, {name: boards[name] for name in names}, smoke=arguments.smoke)
        case "crash":
            asyncio.run(crash(path, shape.open))
            raise AssertionError
        case what:
            outcome = asyncio.run(MEASURED[what](path, shape))
    print(json.dumps({"what": arguments.what, "boards": names, "python": platform.python_version()} | outcome))
    if outcome["faults"]:
        sys.exit(3)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Make large boards in files, or measure one.")
    parser.add_argument("what", choices=("build", "crash", *MEASURED))
    parser.add_argument("boards", nargs="+", choices=BOARDS, metavar="board", help=", ".join(BOARDS))
    parser.add_argument("--folder", required=True, help="where the boards are")
    parser.add_argument("--smoke", action="store_true", help="much smaller boards")
    return parser.parse_args()


if __name__ == "__main__":
    main()
