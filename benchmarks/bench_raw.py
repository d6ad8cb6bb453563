"""The physical limit: each workload written by hand in asyncio, with a list as the board and nothing else.

There are no ids, no times, no lineage and no matching beyond a dict. Tasks are tracked in a set.
"""

import asyncio
import itertools
import sqlite3
from collections.abc import Coroutine
from contextlib import closing
from typing import Literal

from common import (
    AGENTS,
    BATCH,
    CANDIDATES,
    CHAIN,
    GROUP,
    PAUSE,
    WATCHERS,
    Order,
    Payment,
    Receipt,
    Timer,
    board_file,
    hop,
    main,
    nothing,
    offer,
    order,
    order_of,
    order_types,
    passes,
    pause,
    payment,
    rows_in,
    settle,
    shuffled_pairs,
    tally,
    total,
    work,
)

Tasks = set[asyncio.Task[None]]
Board = list[Order | Payment | Receipt]


def spawn(tasks: Tasks, body: Coroutine[None, None, None]) -> None:
    """Start a task and hold it until it is done."""
    task = asyncio.create_task(body)
    tasks.add(task)
    task.add_done_callback(tasks.discard)


async def drain(tasks: Tasks) -> None:
    """Return when no task is left."""
    while tasks:  # noqa: ASYNC110 - nothing is cheaper, and this is the limit
        await asyncio.sleep(0)


async def one_agent(n: int, timer: Timer) -> int:
    """W1 and W9: n artifacts to one agent, 64 at once."""
    board: Board = []
    tasks: Tasks = set()
    slots = asyncio.Semaphore(64)

    async def activate(item: Order) -> None:
        async with slots:
            receipt = await work(item)
        board.append(receipt)

    timer.start()
    for i in range(n):
        item = order(i)
        board.append(item)
        spawn(tasks, activate(item))
    await drain(tasks)
    timer.stop()
    timer.artifacts = 2 * n
    timer.check("activations", tally.ran, n)
    timer.check("artifacts", len(board), 2 * n)
    return n


async def chain(n: int, timer: Timer) -> int:
    """W2: n artifacts, one after the other, through 100 agents."""
    kinds = order_types(CHAIN + 1)
    board: Board = []
    tasks: Tasks = set()
    agents = dict(itertools.pairwise(kinds))

    def publish(item: Order) -> None:
        board.append(item)
        target = agents.get(type(item))
        if target is not None:
            spawn(tasks, activate(item, target))

    async def activate(item: Order, target: type[Order]) -> None:
        publish(await hop(item, target))

    timer.start()
    for i in range(n):
        publish(order_of(kinds[0], i))
        await drain(tasks)
    timer.stop()
    timer.check("activations", tally.ran, CHAIN * n)
    timer.check("artifacts", len(board), (CHAIN + 1) * n)
    return CHAIN * n


async def fan_out(n: int, timer: Timer) -> int:
    """W3: n artifacts, each consumed by 100 agents."""
    board: Board = []
    tasks: Tasks = set()

    async def activate(item: Order) -> None:
        board.append(await work(item))

    timer.start()
    for i in range(n):
        item = order(i)
        board.append(item)
        for _ in range(WATCHERS):
            spawn(tasks, activate(item))
    await drain(tasks)
    timer.stop()
    timer.check("activations", tally.ran, WATCHERS * n)
    timer.check("artifacts", len(board), (WATCHERS + 1) * n)
    return WATCHERS * n


async def many_types(n: int, timer: Timer) -> int:
    """W4: 1,000 agents on 1,000 types, n artifacts spread evenly."""
    kinds = order_types(AGENTS)
    board: Board = []
    tasks: Tasks = set()
    agents = {kind: [work] for kind in kinds}

    async def activate(item: Order) -> None:
        board.append(await work(item))

    timer.start()
    for i in range(n):
        item = order_of(kinds[i % AGENTS], i)
        board.append(item)
        for _ in agents[type(item)]:
            spawn(tasks, activate(item))
    await drain(tasks)
    timer.stop()
    timer.check("activations", tally.ran, n)
    timer.check("artifacts", len(board), 2 * n)
    return n


async def many_predicates(n: int, timer: Timer) -> int:
    """W4W: 1,000 agents on one type, each with a predicate that one artifact in a thousand passes."""
    board: Board = []
    tasks: Tasks = set()
    agents = [(passes(k), work) for k in range(AGENTS)]

    async def activate(item: Order) -> None:
        board.append(await work(item))

    timer.start()
    for i in range(n):
        item = order(i)
        board.append(item)
        for matches, _ in agents:
            if matches(item):
                spawn(tasks, activate(item))
    await drain(tasks)
    timer.stop()
    timer.check("activations", tally.ran, n)
    timer.check("artifacts", len(board), 2 * n)
    return n


async def join(n: int, timer: Timer) -> int:
    """W5: n shuffled pairs of two types, joined by key."""
    board: Board = []
    tasks: Tasks = set()
    orders: dict[int, Order] = {}
    payments: dict[int, Payment] = {}
    stream = shuffled_pairs(n)

    async def activate(item: Order, paid: Payment) -> None:
        board.append(await settle(item, paid))

    def publish_order(item: Order) -> None:
        board.append(item)
        paid = payments.pop(item.id, None)
        if paid is None:
            orders[item.id] = item
        else:
            spawn(tasks, activate(item, paid))

    def publish_payment(paid: Payment) -> None:
        board.append(paid)
        item = orders.pop(paid.id, None)
        if item is None:
            payments[paid.id] = paid
        else:
            spawn(tasks, activate(item, paid))

    timer.start()
    for kind, i in stream:
        if kind == "order":
            publish_order(order(i))
        else:
            publish_payment(payment(i))
    await drain(tasks)
    timer.stop()
    timer.check("activations", tally.ran, n)
    timer.check("artifacts", len(board), 3 * n)
    timer.check("unpaired", len(orders) + len(payments), 0)
    return n


async def batch(n: int, timer: Timer) -> int:
    """W6: n artifacts in batches of 25."""
    board: Board = []
    tasks: Tasks = set()
    waiting: list[Order] = []

    async def activate(orders: list[Order]) -> None:
        board.append(await total(orders))

    timer.start()
    for i in range(n):
        item = order(i)
        board.append(item)
        waiting.append(item)
        if len(waiting) == BATCH:
            spawn(tasks, activate(waiting))
            waiting = []
    await drain(tasks)
    timer.stop()
    timer.check("activations", tally.ran, n // BATCH)
    timer.check("artifacts", len(board), n + n // BATCH)
    return n // BATCH


async def best_of(n: int, timer: Timer) -> int:
    """W7: n activations, each the best of 8 candidates."""
    board: Board = []
    tasks: Tasks = set()

    async def activate(item: Order) -> None:
        candidates = [asyncio.create_task(offer(item, k)) for k in range(CANDIDATES)]
        board.append(max(await asyncio.gather(*candidates), key=lambda receipt: receipt.total))

    timer.start()
    for i in range(n):
        item = order(i)
        board.append(item)
        spawn(tasks, activate(item))
    await drain(tasks)
    timer.stop()
    timer.check("candidates", tally.ran, CANDIDATES * n)
    timer.check("artifacts", len(board), 2 * n)
    return n


INSERT = "INSERT INTO artifact (type, payload) VALUES (?, ?)"


class Rows:
    """A board of three columns in a file: each artifact a transaction, or so many together."""

    def __init__(self, db: sqlite3.Connection, synchronous: Literal["NORMAL", "FULL"], together: int) -> None:
        """Make the table."""
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {synchronous}")
        db.execute("CREATE TABLE artifact (id INTEGER PRIMARY KEY, type TEXT NOT NULL, payload TEXT NOT NULL)")
        self._db = db
        self._together = together
        self._waiting: list[tuple[str, str]] = []

    def append(self, item: Order | Receipt) -> None:
        """Write a row, in the end together with others."""
        row = (type(item).__name__, item.model_dump_json())
        if self._together == 1:
            self._db.execute(INSERT, row)
            return
        self._waiting.append(row)
        if len(self._waiting) >= self._together:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if self._waiting:
            self._db.execute("BEGIN")
            self._db.executemany(INSERT, self._waiting)
            self._db.execute("COMMIT")
            self._waiting.clear()


async def durable(n: int, timer: Timer, synchronous: Literal["NORMAL", "FULL"], together: int) -> int:
    """Do what W1 does, with a database in place of the list."""
    tasks: Tasks = set()
    slots = asyncio.Semaphore(64)
    with board_file() as path:
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            board = Rows(db, synchronous, together)

            async def activate(item: Order) -> None:
                async with slots:
                    receipt = await work(item)
                board.append(receipt)

            timer.start()
            for i in range(n):
                item = order(i)
                board.append(item)
                spawn(tasks, activate(item))
            await drain(tasks)
            board.flush()
            timer.stop()
        timer.check("activations", tally.ran, n)
        timer.check("rows", rows_in(path, "artifact"), 2 * n)
    return n


async def durable_each(n: int, timer: Timer) -> int:
    """W8: a transaction for each artifact, durable for this process (WAL, NORMAL)."""
    return await durable(n, timer, "NORMAL", 1)


async def durable_groups(n: int, timer: Timer) -> int:
    """W8G: a transaction for every 64 artifacts."""
    return await durable(n, timer, "NORMAL", GROUP)


async def durable_full(n: int, timer: Timer) -> int:
    """W8F: a transaction for each artifact, durable past a power cut (WAL, FULL)."""
    return await durable(n, timer, "FULL", 1)


async def sleepers(n: int, timer: Timer) -> int:
    """W10: n agents that sleep, one artifact; the time beyond the sleep is not subtracted."""
    board: Board = []
    tasks: Tasks = set()

    async def activate(item: Order) -> None:
        board.append(await pause(item))

    timer.start()
    item = order(1)
    board.append(item)
    for _ in range(n):
        spawn(tasks, activate(item))
    await asyncio.wait(tasks)
    timer.stop()
    timer.check("activations", tally.ran, n)
    timer.check("at once", tally.peak, n)
    timer.check("artifacts", len(board), n + 1)
    timer.check("slept", timer.wall >= PAUSE, want=True)
    return n


async def latency(n: int, timer: Timer) -> int:
    """LAT: publish one artifact and wait until idle, n times."""
    board: Board = []
    tasks: Tasks = set()

    async def activate(item: Order) -> None:
        board.append(await work(item))

    timer.start()
    for i in range(n):
        item = order(i)
        board.append(item)
        spawn(tasks, activate(item))
        await drain(tasks)
    timer.stop()
    timer.check("activations", tally.ran, n)
    timer.check("artifacts", len(board), 2 * n)
    return n


async def idle(n: int, timer: Timer) -> int:
    """IDLE: a loop that sleeps n seconds."""
    timer.start()
    await asyncio.sleep(n)
    timer.stop()
    return 1


WORKLOADS = {
    "W1": one_agent,
    "W2": chain,
    "W3": fan_out,
    "W4": many_types,
    "W4W": many_predicates,
    "W5": join,
    "W5C": join,
    "W6": batch,
    "W7": best_of,
    "W8": durable_each,
    "W8G": durable_groups,
    "W8F": durable_full,
    "W9": one_agent,
    "W10": sleepers,
    "LAT": latency,
    "IDLE": idle,
}

if __name__ == "__main__":
    main("raw", WORKLOADS, {"plain": nothing})
