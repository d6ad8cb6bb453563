"""What every benchmark shares: payloads, agent bodies, the timer and the command line of one run."""

import argparse
import asyncio
import cProfile
import gc
import itertools
import json
import platform
import random
import resource
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, cast

from pydantic import BaseModel, create_model

AGENTS = 1_000  # of W4, W4W and W10
CHAIN = 100  # agents of W2
WATCHERS = 100  # agents of W3
BATCH = 25  # artifacts per activation of W6
CANDIDATES = 8  # of W7
GROUP = 64  # artifacts in one transaction of W8G
PAUSE = 0.1  # seconds that an agent of W10 sleeps

# Artifacts published (seconds slept for IDLE) in the measured part and in the warm-up before it.
SIZES: Mapping[str, tuple[int, int]] = {
    "W1": (10_000, 64),
    "W2": (20, 1),
    "W3": (100, 1),
    "W4": (5_000, 20),
    "W4W": (500, 3),
    "W5": (5_000, 32),
    "W5C": (5_000, 32),
    "W6": (10_000, 50),
    "W7": (500, 8),
    "W8": (2_000, 20),
    "W8G": (2_000, 64),
    "W8F": (2_000, 20),
    "W9": (10_000, 64),
    "W10": (AGENTS, 5),
    "LAT": (200, 20),
    "IDLE": (3, 1),
}


class Order(BaseModel):
    """What most workloads publish."""

    id: int
    name: str
    qty: int
    price: float
    tags: list[str]


class Payment(BaseModel):
    """The other side of the join."""

    id: int
    method: str
    amount: float
    settled: bool
    refs: list[str]


class Receipt(BaseModel):
    """What most agents return."""

    id: int
    name: str
    total: float
    ok: bool
    notes: list[str]


Pair = tuple[Literal["order", "payment"], int]
OrderT = TypeVar("OrderT", bound=Order)
_serial = itertools.count()


def order_types(count: int) -> list[type[Order]]:
    """Return `count` new unrelated models with the fields of Order, each with a name of its own."""
    return [cast("type[Order]", _order_type(f"Order{next(_serial)}")) for _ in range(count)]


def _order_type(name: str) -> type[BaseModel]:
    return create_model(
        name,
        __module__=__name__,
        id=(int, ...),
        name=(str, ...),
        qty=(int, ...),
        price=(float, ...),
        tags=(list[str], ...),
    )


def order(i: int) -> Order:
    """Return the i-th order."""
    return Order(id=i, name="widget", qty=i % 7 + 1, price=9.5, tags=["a", "b"])


def order_of(kind: type[OrderT], i: int) -> OrderT:
    """Return the i-th order as a value of `kind`."""
    return kind(id=i, name="widget", qty=i % 7 + 1, price=9.5, tags=["a", "b"])


def payment(i: int) -> Payment:
    """Return the payment of the i-th order."""
    return Payment(id=i, method="card", amount=9.5, settled=True, refs=["x", "y"])


def shuffled_pairs(count: int) -> list[Pair]:
    """Return `count` orders and `count` payments in one order that is the same in every run."""
    orders: list[Pair] = [("order", i) for i in range(count)]
    payments: list[Pair] = [("payment", i) for i in range(count)]
    pairs = orders + payments
    random.Random(7).shuffle(pairs)  # noqa: S311
    return pairs


@dataclass(slots=True)
class Tally:
    """Counts what agent bodies did since the timer started."""

    ran: int = 0
    live: int = 0
    peak: int = 0


tally = Tally()


async def work(order: Order) -> Receipt:
    """Build one receipt: no LLM, no I/O, no suspension."""
    tally.ran += 1
    return Receipt(id=order.id, name=order.name, total=order.qty * order.price, ok=True, notes=order.tags)


async def hop(order: Order, target: type[Order]) -> Order:
    """Pass an order on as the next type of the chain."""
    tally.ran += 1
    return target(id=order.id, name=order.name, qty=order.qty + 1, price=order.price, tags=order.tags)


async def settle(order: Order, payment: Payment) -> Receipt:
    """Build the receipt of a pair; raise ValueError when the two do not belong together."""
    tally.ran += 1
    if order.id != payment.id:
        message = f"order {order.id} was joined with payment {payment.id}"
        raise ValueError(message)
    return Receipt(id=order.id, name=order.name, total=payment.amount * order.qty, ok=payment.settled, notes=order.tags)


async def total(orders: list[Order]) -> Receipt:
    """Build one receipt for a batch."""
    tally.ran += 1
    return Receipt(
        id=orders[0].id, name="batch", total=sum(order.qty * order.price for order in orders), ok=True, notes=["n"]
    )


async def offer(order: Order, candidate: int) -> Receipt:
    """Build one candidate's receipt; its total is the score."""
    tally.ran += 1
    score = float((order.id * 31 + candidate * 17) % 101)
    return Receipt(id=order.id, name=order.name, total=score, ok=True, notes=order.tags)


async def pause(order: Order) -> Receipt:
    """Sleep, then build one receipt."""
    tally.ran += 1
    tally.live += 1
    tally.peak = max(tally.peak, tally.live)
    await asyncio.sleep(PAUSE)
    tally.live -= 1
    return Receipt(id=order.id, name=order.name, total=order.qty * order.price, ok=True, notes=order.tags)


def passes(k: int) -> Callable[[Order], bool]:
    """Return the predicate that lets one order in a thousand through."""
    return lambda order: order.id % AGENTS == k


@contextmanager
def board_file() -> Generator[Path]:
    """Give a path for a database in a folder of its own, which goes in the end."""
    with tempfile.TemporaryDirectory(prefix="flock-bench-") as folder:
        yield Path(folder, "board.db")


def rows_in(path: Path, table: str) -> int:
    """Count the rows of a table, read from the file anew."""
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608


def resident_kib() -> float:
    """Return this process's resident memory now, or its peak where the system does not tell."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return peak_mb() * 1024
    return int(statm.read_text(encoding="ascii").split()[1]) * resource.getpagesize() / 1024


def peak_mb() -> float:
    """Return this process's largest resident memory so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024**2 if sys.platform == "darwin" else peak / 1024


class Timer:
    """Times what lies between start and stop, and remembers the checks that did not hold."""

    def __init__(self, *, collect: bool = True, profile: cProfile.Profile | None = None) -> None:
        """`collect=False` switches the cyclic garbage collector off while the timer runs."""
        self.wall = self.cpu = self.kept_kib = 0.0
        self.artifacts = 0
        self.faults: list[str] = []
        self._collect = collect
        self._profile = profile

    def start(self) -> None:
        """Collect garbage, forget the warm-up and start timing."""
        gc.collect()
        tally.ran = tally.live = tally.peak = 0
        self.kept_kib = -resident_kib()
        if not self._collect:
            gc.disable()
        if self._profile:
            self._profile.enable()
        self.cpu = -time.process_time()
        self.wall = -time.perf_counter()

    def stop(self) -> None:
        """Stop timing, then weigh what is still held."""
        self.wall += time.perf_counter()
        self.cpu += time.process_time()
        if self._profile:
            self._profile.disable()
        gc.enable()
        gc.collect()
        self.kept_kib += resident_kib()

    def check(self, what: str, got: object, want: object) -> None:
        """Make the run void unless the two are equal."""
        if got != want:
            self.faults.append(f"{what}: got {got}, want {want}")


Workload = Callable[[int, Timer], Awaitable[int]]  # set up, start, work until idle, stop, check; returns activations


def nothing() -> None:
    """Set up the plain variant."""


def main(peer: str, workloads: Mapping[str, Workload], variants: Mapping[str, Callable[[], None]]) -> None:
    """Measure one workload in this process and print one line of JSON; exit with 3 when a check did not hold."""
    arguments = _arguments(variants)
    name: str = arguments.workload.upper()
    if name not in workloads or arguments.variant not in variants:
        print(json.dumps({"peer": peer, "workload": name, "variant": arguments.variant, "unsupported": True}))
        return
    variants[arguments.variant]()
    profile = cProfile.Profile() if arguments.profile else None
    timer = Timer(collect=not arguments.no_gc, profile=profile)
    size, warm = SIZES[name]
    size = warm if arguments.smoke else arguments.n or size
    activations = asyncio.run(_measure(workloads[name], size, 0 if name == "IDLE" else warm, timer))
    if profile:
        profile.dump_stats(arguments.profile)
    print(
        json.dumps(
            {"peer": peer, "workload": name, "variant": arguments.variant, "n": size} | _figures(timer, activations)
        )
    )
    if timer.faults:
        sys.exit(3)


async def _measure(workload: Workload, size: int, warm: int, timer: Timer) -> int:
    if warm:
        await workload(warm, Timer())
    return await workload(size, timer)


def _figures(timer: Timer, activations: int) -> dict[str, float | str | list[str]]:
    return {
        "activations": activations,
        "us": round(timer.wall / activations * 1e6, 3),
        "seconds": round(timer.wall, 6),
        "cpu_ms_per_second": round(timer.cpu / timer.wall * 1e3, 4),
        "kept_kib": round(timer.kept_kib / timer.artifacts, 4) if timer.artifacts else 0.0,
        "peak_mb": round(peak_mb(), 1),
        "faults": timer.faults,
        "python": platform.python_version(),
    }


def _arguments(variants: Sequence[str] | Mapping[str, object]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure one workload in this process.")
    parser.add_argument("workload", help=", ".join(SIZES))
    parser.add_argument("--n", type=int, help="artifacts to publish instead of the workload's own number")
    parser.add_argument("--variant", default="plain", help=", ".join(variants))
    parser.add_argument("--smoke", action="store_true", help="do no more than a warm-up would")
    parser.add_argument("--no-gc", action="store_true", help="switch the cyclic garbage collector off while timing")
    parser.add_argument("--profile", metavar="FILE", help="write cProfile statistics of the timed part")
    return parser.parse_args()
