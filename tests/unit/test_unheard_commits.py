"""Commits whose caller is cancelled while they are made: what they set free is taken up all the same."""

import asyncio
import logging
from pathlib import Path

import pytest
from pydantic import BaseModel

from flock import Flock
from flock.stores.sqlite.files import Synchronous
from flock.stores.sqlite.store import SQLiteStore


class Order(BaseModel):
    number: int = 0


class Parcel(BaseModel):
    number: int


class Board:
    """A Flock on a file, and what its agent has done."""

    def __init__(self, path: Path, synchronous: Synchronous) -> None:
        self.flock = Flock(store=SQLiteStore(path, synchronous=synchronous))
        self.ran: list[int] = []
        self.packed = asyncio.Event()

        @self.flock.agent
        async def pack(order: Order) -> Parcel:
            self.ran.append(order.number)
            self.packed.set()
            return Parcel(number=order.number)

    async def check(self) -> None:
        """See that every order on the board was packed once."""
        orders = [artifact.payload.number for artifact in await self.flock.store.query(Order)]
        parcels = [artifact.payload.number for artifact in await self.flock.store.query(Parcel)]
        assert sorted(orders) == sorted(parcels) == sorted(self.ran)


@pytest.fixture(params=["normal", "full"])
def board(request: pytest.FixtureRequest, tmp_path: Path) -> Board:
    return Board(tmp_path / "board.db", request.param)


@pytest.mark.parametrize("turns", range(8))
async def test_a_publisher_that_is_cancelled_at_any_turn_leaves_nothing_stuck(board: Board, turns: int) -> None:
    async with board.flock as flock:
        await flock.ready()
        idle = asyncio.create_task(flock.run_until_idle(timeout=10))
        publishing = [asyncio.create_task(flock.publish(Order(number=number))) for number in range(5)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in publishing:
            task.cancel()
        await asyncio.wait(publishing)
        assert (await idle).idle
        await flock.publish(Order(number=5))  # what was asked for before is done now
        assert (await flock.run_until_idle(timeout=10)).idle
        await board.check()


async def test_what_nobody_heard_of_starts_without_being_asked_for(board: Board) -> None:
    async with board.flock as flock:
        await flock.ready()
        publishing = asyncio.create_task(flock.publish(Order(number=1)))
        await asyncio.sleep(0)
        publishing.cancel()
        await asyncio.wait_for(board.packed.wait(), 10)
        await flock.run_until_idle()
        await board.check()


async def test_an_answer_that_comes_with_the_cancellation_is_taken_up(board: Board) -> None:
    """Both are in one transaction: the second has its answer, and has not gone on with it when the first does."""
    async with board.flock as flock:
        await flock.ready()

        async def publish_first() -> None:
            await flock.publish(Order(number=1))
            assert not second.done()
            second.cancel()

        first = asyncio.create_task(publish_first())
        second = asyncio.create_task(flock.publish(Order(number=2)))
        with pytest.raises(asyncio.CancelledError):
            await second
        await first
        assert (await flock.run_until_idle(timeout=10)).idle
        assert sorted(board.ran) == [1, 2]
        await board.check()


async def test_the_commit_of_an_agent_whose_time_is_over_is_taken_up(board: Board) -> None:
    flock = board.flock

    async def ask(parcel: Parcel) -> None:
        while True:
            number = len(board.ran)
            if number < 50:
                await flock.publish(Order(number=number))
            await asyncio.sleep(0)

    flock.agent("asker").consumes(Parcel).timeout(0.05).calls(ask)
    async with flock:
        await flock.publish(Order(number=0))
        assert (await flock.run_until_idle(timeout=60)).idle
        assert len(board.ran) > 1
        await board.check()


@pytest.mark.filterwarnings("error")
def test_a_loop_that_ends_in_the_middle_leaves_all_to_the_next(board: Board, caplog: pytest.LogCaptureFixture) -> None:
    flock = board.flock

    async def begin() -> None:
        await flock.ready()
        publishing: list[asyncio.Task[object]] = []
        for number in range(20):
            publishing.append(asyncio.create_task(flock.publish(Order(number=number))))
            await asyncio.sleep(0)
        assert not all(task.done() for task in publishing)

    async def go_on() -> None:
        async with flock:
            assert (await flock.run_until_idle(timeout=10)).idle
            await board.check()

    with caplog.at_level(logging.WARNING):
        asyncio.run(begin())
        asyncio.run(go_on())
    assert not [record for record in caplog.records if record.name == "asyncio"]
