"""Loops that end with work on them: nothing of a Flock begins there any more, and nothing is left to be destroyed."""

import asyncio
import gc
import logging
import threading
from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from flock import BatchSpec, Flock, flock_type
from flock.testing import FakeClock


@flock_type("Order")
class Order(BaseModel):
    number: int = 0


@flock_type("Parcel")
class Parcel(BaseModel):
    number: int = 0


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """See that asyncio has nothing to complain of, such as pending tasks that were destroyed."""
    with caplog.at_level(logging.ERROR):
        gc.collect()
        caplog.clear()  # of what others left
        yield
        gc.collect()
    assert not [record for record in caplog.records if record.name == "asyncio" and record.levelno >= logging.ERROR]


class Hold:
    """What an agent's first attempts wait in; their clean-up takes a while."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.ended: list[int] = []

    async def pack(self, order: Order) -> Parcel:
        """Wait until cancelled, at first."""
        self.begun.append(order.number)
        try:
            if len(self.begun) <= 2:
                await asyncio.Event().wait()
        finally:
            await asyncio.sleep(order.number * 0.15)
        self.ended.append(order.number)
        return Parcel(number=order.number)


def cancel_me() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


async def finish(flock: Flock) -> bool:
    async with flock:
        return (await flock.run_until_idle(timeout=10)).idle


def test_what_is_cancelled_does_not_begin_again_while_others_clean_up() -> None:
    hold, flock = Hold(), Flock()
    flock.agent("packer").consumes(Order).calls(hold.pack)

    async def begin() -> None:
        await flock.publish_many([Order(number=0), Order(number=1)])
        await asyncio.sleep(0)

    asyncio.run(begin())
    assert hold.begun == [0, 1]
    assert asyncio.run(finish(flock))
    assert sorted(hold.ended) == [0, 1]


@pytest.mark.parametrize("thread", [False, True], ids=["a clean-up holds the loop", "a thread holds the end up"])
def test_nothing_begins_again_when_all_have_cleaned_up(thread: bool) -> None:  # noqa: FBT001 - a parameter
    begun, flock = list[int](), Flock()

    @flock.agent
    async def pack(order: Order) -> None:
        begun.append(order.number)
        try:
            await asyncio.Event().wait()
        finally:
            if not thread:
                threading.Event().wait(0.1)  # as long as a look waits that is asked for by a cancellation

    async def begin() -> None:
        await flock.publish_many([Order(number=number) for number in range(3)])
        if thread:
            _ = asyncio.get_running_loop().run_in_executor(None, threading.Event().wait, 0.3)
        await asyncio.sleep(0)

    asyncio.run(begin())
    assert begun == [0, 1, 2]


def test_a_deadline_that_a_clean_up_arms_is_watched_on_the_next_loop() -> None:
    flock, began, carried = Flock(), asyncio.Event(), asyncio.Event()

    @flock.agent
    async def pack(order: Order) -> None:
        if not began.is_set():
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                await flock.publish(Parcel())

    @(flock.agent("carrier").consumes(Parcel, batch=BatchSpec(size=5, timeout=0.01)))
    async def carry(parcels: list[Parcel]) -> None:
        assert len(parcels) == 1
        carried.set()

    async def begin() -> None:
        await flock.publish(Order())
        await began.wait()

    async def wait() -> None:
        async with flock:
            await carried.wait()

    asyncio.run(begin())
    asyncio.run(wait())
    assert carried.is_set()


def test_a_program_that_goes_on_though_it_was_cancelled_is_not_taken_for_the_end() -> None:
    attempts: list[int] = []

    async def pack(_: Order) -> None:
        attempts.append(1)
        if len(attempts) == 1:
            cancel_me()
            await asyncio.Event().wait()

    async def go_on() -> None:
        flock = Flock(clock=FakeClock())
        flock.agent("packer").consumes(Order).calls(pack)
        async with flock:
            cancel_me()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.sleep(0)
            await flock.publish(Order())
            report = await flock.run_until_idle(timeout=60)
            assert report.idle

    asyncio.run(go_on())
    assert len(attempts) == 2
