"""Unlucky moments: a clock that jumps back, a caller who is cancelled, a call of the store that fails once."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import burst
import pytest
from killing import Watch, watched
from pydantic import BaseModel
from scenario import problems_of
from sweep import damage
from typing_extensions import override

from flock import BatchSpec, Context, Flock, StoreError

T = TypeVar("T")


@pytest.fixture
def board(tmp_path: Path) -> Path:
    return tmp_path / "board.db"


# ---- time


class Beat(BaseModel):
    number: int


class Summary(BaseModel):
    numbers: list[int]


def build_summary(flock: Flock) -> None:
    @flock.agent("summary").consumes(Beat, batch=BatchSpec(timeout=0.2))
    async def summary(beats: list[Beat], ctx: Context) -> Summary:
        return Summary(numbers=[beat.number for beat in beats])


async def test_a_clock_that_was_set_back_an_hour_takes_no_time_on_the_board_back_and_holds_no_deadline_up(
    board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time  # noqa: TID251 - the machine's clock is what jumps
    stamps, summaries = list[float](), list[list[int]]()
    for life, hours in enumerate((0, -1, -2, 1)):
        monkeypatch.setattr(time, "time", lambda hours=hours: real() + hours * 3600)
        flock = Flock(store=f"sqlite:///{board}")
        build_summary(flock)
        async with flock:
            await flock.publish(Beat(number=life))
            if life:  # the first life leaves its batch to the second
                assert (await flock.run_until_idle(timeout=20)).idle
            stamps = [each.created_at.timestamp() for each in await flock.store.list()]
            summaries = [each.numbers for each in await flock.store.get_by_type(Summary)]
    assert stamps == sorted(stamps)
    assert summaries in ([[0], [1], [2], [3]], [[0, 1], [2], [3]])
    assert stamps[-1] - stamps[0] == pytest.approx(3600, abs=60)


async def test_what_waited_for_its_time_when_a_process_ended_fires_in_the_next_one_though_nothing_else_happens(
    board: Path,
) -> None:
    async with Flock(store=f"sqlite:///{board}") as flock:
        build_summary(flock)
        await flock.publish(Beat(number=1))
    async with Flock(store=f"sqlite:///{board}") as flock:
        build_summary(flock)
        assert (await flock.run_until_idle(timeout=20)).idle
        assert await flock.store.get_by_type(Summary) == [Summary(numbers=[1])]


# ---- cancellation


class Turnstile(Watch):
    """Holds the writer up as it begins a commit, until it is let through."""

    def __init__(self) -> None:
        super().__init__(None)
        self.armed = False
        self.reached = threading.Event()
        self.open = threading.Event()

    @override
    def begins(self, sql: str) -> bool:
        commits = super().begins(sql)
        if commits and self.armed:
            self.armed = False
            self.reached.set()
            self.open.wait(20)
        return commits


async def check(flock: Flock, orders: Sequence[str]) -> None:
    """Check that just these orders are there, each with its receipt."""
    assert (await flock.run_until_idle(timeout=20)).idle
    found = await flock.store.list()
    assert sorted(each.id for each in found if isinstance(each.payload, burst.Order)) == sorted(orders)
    assert sorted(each.parents[0] for each in found if isinstance(each.payload, burst.Receipt)) == sorted(orders)
    assert not [*problems_of(found)]


async def test_a_publish_that_is_cancelled_while_its_commit_is_under_way_is_there_with_all_that_follows(
    board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turnstile = Turnstile()
    monkeypatch.setattr(sqlite3, "connect", watched(turnstile))
    flock = Flock(store=f"sqlite:///{board}")
    burst.build(flock)
    async with flock:
        await flock.ready()
        turnstile.armed = True
        publishing = asyncio.create_task(flock.publish(burst.Order(number=1), id="order-1"))
        assert await asyncio.to_thread(turnstile.reached.wait, 20)
        publishing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await publishing
        turnstile.open.set()
        await flock.publish(burst.Order(number=1), id="order-1")  # when this is answered, that one is done
        await check(flock, ["order-1"])


async def test_a_publish_that_is_cancelled_at_any_step_is_wholly_there_or_not_at_all(board: Path) -> None:
    flock = Flock(store=f"sqlite:///{board}")
    burst.build(flock)
    acknowledged: set[str] = set()
    async with flock:
        await flock.ready()
        for steps in range(40):
            publishing = asyncio.create_task(flock.publish(burst.Order(number=steps), id=f"order-{steps}"))
            for _ in range(steps % 20):
                await asyncio.sleep(0 if steps < 20 else 0.0001)
            publishing.cancel()
            try:
                acknowledged.add((await publishing).id)
            except asyncio.CancelledError:
                continue
        await flock.run_until_idle(timeout=20)
        there = [each.id for each in await flock.store.query(burst.Order)]
        assert acknowledged <= set(there)
        await check(flock, there)
    assert not damage(board)


# ---- a call that fails once


class Stumble(Watch):
    """Lets the n-th call of a connection fail, once."""

    def __init__(self, number: int) -> None:
        super().__init__(None)
        self._number = number
        self.calls = 0
        self.at = ""

    @override
    def asked(self, sql: str) -> None:
        self.calls += 1
        if self.calls == self._number:
            self.at = sql
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error


async def insist(work: Callable[[], Awaitable[T]]) -> T:
    """Do something, and once more when the store refuses it."""
    try:
        return await work()
    except StoreError as error:
        assert "disk I/O error" in str(error)  # noqa: PT017 - it is no error that is expected every time
        return await work()


async def live(board: Path, synchronous: str, stumble: Stumble) -> None:
    """Live on a board where something stumbles once, and come to the same end as ever."""
    await leave_something(board)
    flock = Flock(store=f"sqlite:///{board}?synchronous={synchronous}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", watched(stumble))
        burst.build(flock)
        build_summary(flock)
        await insist(flock.ready)
        orders = [f"order-{number}" for number in range(3)]
        for number, id in enumerate(orders):
            await insist(partial(flock.publish, burst.Order(number=number), id=id))
        report = await insist(partial(flock.run_until_idle, timeout=10))
        assert report.idle, f"it never ends after {stumble.at!r} failed: {report.waiting}"
        assert not report.failures
        await insist(partial(check, flock, orders))
        summaries = await insist(partial(flock.store.get_by_type, Summary))
        assert summaries == [Summary(numbers=[1])], f"{report} after {stumble.at!r} failed"
        await insist(flock.shutdown)


async def leave_something(board: Path) -> None:
    """Leave a batch behind that waits for its time."""
    async with Flock(store=f"sqlite:///{board}?synchronous=normal") as flock:
        build_summary(flock)
        await flock.publish(Beat(number=1))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("synchronous", ["normal", "full"])
async def test_a_call_of_the_file_that_fails_once_is_told_to_its_caller_or_made_up_for(
    synchronous: str, tmp_path: Path
) -> None:
    plain = Stumble(0)
    await live(tmp_path / "plain.db", synchronous, plain)
    for number in range(1, plain.calls + 1, 4):
        board = tmp_path / f"board-{number}.db"
        await live(board, synchronous, Stumble(number))
        assert not damage(board)
