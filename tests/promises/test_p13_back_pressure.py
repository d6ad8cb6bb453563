"""P13: with `max_pending=n` external publishes wait while n activations are open; agents never wait."""

from __future__ import annotations

import asyncio
import tracemalloc

import pytest
from pydantic import BaseModel

from flock import ClosedError, ConfigurationError, Flock


class Order(BaseModel):
    number: int = 0


class Parcel(BaseModel):
    number: int = 0


class Letter(BaseModel):
    number: int = 0


async def settled(turns: int = 20) -> None:
    """Let everything run that can run without anything from outside."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def test_p13_an_external_publish_waits_while_n_activations_are_open() -> None:
    go = asyncio.Event()
    async with Flock(max_pending=2) as flock:

        @flock.agent
        async def packer(order: Order) -> None:
            await go.wait()

        await flock.publish(Order(number=1))
        await flock.publish(Order(number=2))
        third = asyncio.create_task(flock.publish(Order(number=3)))
        await settled()
        assert not third.done()
        assert len(await flock.store.list()) == 2

        go.set()
        assert (await third).sequence == 3
        assert (await flock.run_until_idle()).succeeded == 3


async def test_p13_waiting_publishers_go_on_as_activations_end() -> None:
    most = 0
    opened: set[int] = set()
    async with Flock(max_pending=3) as flock:

        @flock.agent
        async def packer(order: Order) -> None:
            nonlocal most
            opened.add(order.number)
            most = max(most, len(opened))
            await asyncio.sleep(0)
            opened.discard(order.number)

        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(flock.publish(Order(number=number)))
        report = await flock.run_until_idle()
        assert report.succeeded == 20
        assert most <= 3


async def test_p13_publish_many_waits_as_one_commit() -> None:
    go = asyncio.Event()
    async with Flock(max_pending=1) as flock:

        @flock.agent
        async def packer(order: Order) -> None:
            await go.wait()

        await flock.publish(Order())
        several = asyncio.create_task(flock.publish_many([Order(), Order(), Order()]))
        await settled()
        assert len(await flock.store.list()) == 1
        go.set()
        assert [artifact.sequence for artifact in await several] == [2, 3, 4]
        await flock.run_until_idle()


async def test_p13_publishing_from_inside_an_agent_never_waits() -> None:
    async with Flock(max_pending=1) as flock:

        async def split(order: Order) -> list[Parcel]:
            for number in range(5):
                await flock.publish(Letter(number=number))
            return [Parcel(number=number) for number in range(5)]

        flock.agent("splitter").consumes(Order).max_concurrency(1).calls(split)
        flock.agent("letters").consumes(Letter).calls(lambda _: None)
        flock.agent("parcels").consumes(Parcel).calls(lambda _: None)
        await flock.publish(Order())
        report = await flock.run_until_idle()
        assert report.succeeded == 11


async def test_p13_what_only_waits_in_a_gate_does_not_press_back() -> None:
    async with Flock(max_pending=1) as flock:
        flock.agent("gate").consumes(Order, Parcel).calls(lambda _: None)
        for number in range(5):
            await flock.publish(Order(number=number))
        assert len(await flock.store.list()) == 5


async def test_p13_a_publisher_that_gives_up_waiting_stores_nothing() -> None:
    go = asyncio.Event()
    async with Flock(max_pending=1) as flock:

        @flock.agent
        async def packer(order: Order) -> None:
            await go.wait()

        await flock.publish(Order(number=1))
        second = asyncio.create_task(flock.publish(Order(number=2)))
        await settled()
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        go.set()
        await flock.run_until_idle()
        assert [order.number for order in await flock.store.get_by_type(Order)] == [1]


async def test_p13_cancelling_a_run_makes_room() -> None:
    async with Flock(max_pending=1) as flock:

        @flock.agent
        async def packer(order: Order) -> None:
            await asyncio.Event().wait()

        await flock.publish(Order(), correlation_id="doomed")
        waiting = asyncio.create_task(flock.publish(Parcel(), correlation_id="other"))
        await settled()
        assert not waiting.done()
        await flock.cancel("doomed")
        assert (await waiting).correlation_id == "other"


async def test_p13_cancelling_ready_activations_makes_room_too() -> None:
    go = asyncio.Event()
    async with Flock(max_pending=2) as flock:

        async def pack(order: Order) -> None:
            await go.wait()

        flock.agent("packer").consumes(Order).max_concurrency(1).calls(pack)
        await flock.publish(Order(), correlation_id="other")
        await flock.publish(Order(), correlation_id="doomed")  # ready: its agent has no free slot
        waiting = asyncio.create_task(flock.publish(Parcel()))
        await settled()
        await flock.cancel("doomed")
        await waiting
        go.set()
        await flock.run_until_idle()


async def test_p13_a_publisher_that_waits_when_the_flock_shuts_down_is_told() -> None:
    go = asyncio.Event()
    flock = Flock(max_pending=1)

    @flock.agent
    async def packer(order: Order) -> None:
        await go.wait()

    await flock.publish(Order())
    waiting = asyncio.create_task(flock.publish(Order()))
    await settled()
    go.set()
    await flock.shutdown()
    with pytest.raises(ClosedError):
        await waiting
    assert len(await flock.store.list()) == 1


@pytest.mark.parametrize("count", [0, -1, True, 2.5])
def test_p13_a_limit_that_can_never_work_is_refused(count: float) -> None:
    with pytest.raises(ConfigurationError, match="max_pending"):
        Flock(max_pending=count)  # type: ignore[arg-type]


@pytest.mark.memory
async def test_p13_ten_thousand_artifacts_for_a_slow_agent_take_flat_memory_each() -> None:
    go = asyncio.Event()
    async with Flock() as flock:

        @flock.agent
        async def slow(order: Order) -> None:
            await go.wait()

        async def grown(count: int) -> float:
            before = tracemalloc.get_traced_memory()[0]
            await flock.publish_many([Order(number=number) for number in range(count)])
            return (tracemalloc.get_traced_memory()[0] - before) / count

        await grown(100)
        tracemalloc.start()
        try:
            first = await grown(1_000)
            for _ in range(7):
                await grown(1_000)
            last = await grown(1_000)
        finally:
            tracemalloc.stop()
        assert len(flock.scheduler.tasks) == 10  # the others are records without a task
        assert last < 4_096
        assert last < 1.5 * first
        go.set()
        assert (await flock.run_until_idle()).succeeded == 9_100
