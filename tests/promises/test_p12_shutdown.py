"""P12: `shutdown` stops intake, gives grace, and loses nothing."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Callable, Coroutine
from datetime import timedelta

import pytest
from pydantic import BaseModel

from flock import AfterVisibility, BatchSpec, ClosedError, Context, Flock, Until
from flock.stores.memory import MemoryStore
from flock.testing.clock import FakeClock


class Order(BaseModel):
    number: int = 0


class Paid(BaseModel):
    number: int = 0


class Parcel(BaseModel):
    number: int = 0


async def test_p12_a_closed_flock_takes_nothing_in() -> None:
    flock = Flock()
    await flock.publish(Order())
    await flock.shutdown()
    for refused in (flock.publish(Order()), flock.publish_many([Order()]), flock.invoke("packer", Order())):
        with pytest.raises(ClosedError):
            await refused
    for refused_wait in (flock.ready(), flock.run_until_idle(), flock.ask(Order(), returns=Parcel)):
        with pytest.raises(ClosedError):
            await refused_wait
    assert len(await flock.store.list()) == 1  # reading goes on


async def test_p12_running_activations_end_within_the_grace_period() -> None:
    clock = FakeClock()
    flock = Flock(clock=clock)

    @flock.agent
    async def packer(order: Order) -> Parcel:
        await clock.sleep(3)
        return Parcel(number=order.number)

    await flock.publish(Order(number=1))
    report = await flock.shutdown(grace=5)
    assert (report.idle, report.succeeded, report.waiting) == (True, 1, ())
    assert report.duration == pytest.approx(3)
    assert await flock.store.get_by_type(Parcel) == [Parcel(number=1)]


async def test_p12_a_running_agent_may_still_publish() -> None:
    clock = FakeClock()
    flock = Flock(clock=clock)

    @flock.agent
    async def packer(order: Order) -> Parcel:
        await clock.sleep(1)
        await flock.publish(Paid())
        return Parcel()

    await flock.publish(Order())
    report = await flock.shutdown()
    assert (report.succeeded, report.failures) == (1, ())
    assert len(await flock.store.list()) == 3


@pytest.mark.memory
async def test_p12_after_the_grace_period_activations_are_cancelled_and_stay_ready() -> None:
    clock = FakeClock()
    cancelled: list[int] = []
    flock = Flock(clock=clock)

    @flock.agent
    async def packer(order: Order) -> Parcel:
        try:
            await clock.sleep(100)
        except asyncio.CancelledError:
            cancelled.append(order.number)
            raise
        return Parcel()

    order = await flock.publish(Order(number=7))
    start = clock.now()
    with pytest.warns(RuntimeWarning, match="memory store is left with 1"):
        report = await flock.shutdown(grace=5)
    assert cancelled == [7]
    assert clock.now() == pytest.approx(start + 5)
    assert (report.idle, report.failed, report.cancelled) == (False, 0, 0)
    assert [(each.reason, each.artifacts) for each in report.waiting] == [("ready", (order.id,))]


@pytest.mark.memory
async def test_p12_the_report_says_what_waits_and_nothing_is_flushed() -> None:
    clock = FakeClock(autojump=False)
    flock = Flock(clock=clock)
    flock.agent("gate").consumes(Order, Paid).calls(lambda _: None)
    flock.agent("batch").consumes(Order, batch=BatchSpec(size=3)).calls(lambda _: None)
    flock.agent("timed").consumes(Order, batch=BatchSpec(timeout=60)).calls(lambda _: None)
    flock.agent("later").consumes(Parcel).calls(lambda _: None)
    flock.agent("ticker").schedule(every=10).calls(lambda _: None)
    await flock.publish(Order())
    await flock.publish(Parcel(), visibility=AfterVisibility(ttl=timedelta(hours=1)))
    with pytest.warns(RuntimeWarning, match="memory store"):
        report = await flock.shutdown()
    assert report.succeeded == 0
    assert {(each.agent, each.reason) for each in report.waiting} == {
        ("gate", "gate"),
        ("batch", "batch"),
        ("timed", "batch"),
        ("later", "after"),
        ("ticker", "schedule"),
    }


async def test_p12_a_memory_store_without_work_does_not_warn() -> None:
    flock = Flock()
    flock.agent("gate").consumes(Order, Paid).calls(lambda _: None)
    await flock.publish(Order())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = await flock.shutdown()
    assert (report.idle, [each.reason for each in report.waiting]) == (True, ["gate"])


async def test_p12_what_waits_is_there_at_the_next_start_on_the_same_store() -> None:
    store, clock = MemoryStore(), FakeClock()

    def declare(flock: Flock, seconds: float) -> None:
        async def pack(order: Order, ctx: Context) -> Parcel:
            await clock.sleep(seconds)
            return Parcel(number=order.number + ctx.attempt)

        flock.agent("packer").consumes(Order).max_concurrency(1).calls(pack)
        flock.agent("gate").consumes(Order, Paid, name="both").calls(lambda _: None)
        flock.agent("timed").consumes(Paid, batch=BatchSpec(timeout=60)).calls(lambda _: None)

    first = Flock(store=store, clock=clock)
    declare(first, 100)
    await first.publish(Order(number=10))
    await first.publish(Order(number=20))
    with pytest.warns(RuntimeWarning, match="memory store is left with 2"):
        await first.shutdown(grace=1)

    second = Flock(store=store, clock=clock)
    declare(second, 1)
    await second.publish(Paid())
    report = await second.run_until_idle()
    # The interrupted attempt is not counted; the gate had its order already.
    assert sorted(parcel.number for parcel in await second.store.get_by_type(Parcel)) == [11, 21]
    assert (report.failed, [each.agent for each in report.waiting]) == (0, ["gate"])
    await second.shutdown()


async def test_p12_leaving_the_context_shuts_down() -> None:
    async with Flock() as flock:
        await flock.publish(Order())
    with pytest.raises(ClosedError):
        await flock.publish(Order())


async def test_p12_shutting_down_twice_does_nothing_more() -> None:
    flock = Flock()
    await flock.ready()
    await flock.shutdown()
    report = await flock.shutdown()
    assert (report.idle, report.succeeded, report.waiting) == (True, 0, ())


async def test_p12_a_flock_that_was_never_used_can_be_shut_down() -> None:
    assert (await Flock().shutdown()).idle


async def test_p12_shutdown_leaves_no_task_and_no_thread() -> None:
    clock = FakeClock()
    flock = Flock(name="closing", clock=clock)
    flock.agent("ticker").schedule(every=10).calls(lambda _: None)
    flock.agent("timed").consumes(Order, batch=BatchSpec(timeout=60)).calls(lambda _: None)
    flock.agent("threaded").consumes(Order).calls(lambda _: None)
    await flock.publish(Order())
    await flock.run_until_idle()
    await flock.shutdown()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    ours = [thread for thread in threading.enumerate() if thread.name.startswith("flock closing")]
    for thread in ours:
        thread.join(5)
    assert not any(thread.is_alive() for thread in ours)


async def test_p12_streams_events_and_waits_end() -> None:
    flock = Flock()
    flock.agent("packer").consumes(Order).calls(lambda _: None)
    events = flock.events()
    stream = flock.stream(Order)
    until = asyncio.create_task(flock.run_until(Until.exists(Parcel), timeout=60))
    await flock.publish(Order(number=1))
    await flock.run_until_idle()
    await flock.shutdown()
    assert [artifact.payload.number async for artifact in stream] == [1]
    assert "published" in [event.kind async for event in events]
    assert await until is False


async def test_p12_shutdown_names_a_body_that_does_not_stop() -> None:
    clock, started = FakeClock(), asyncio.Event()
    flock = Flock(clock=clock)

    @flock.agent
    async def stubborn(order: Order) -> None:
        started.set()
        while True:
            try:
                await clock.sleep(3_600)
            except asyncio.CancelledError:
                if order.number == 0:
                    order.number = 1
                    continue
                raise

    await flock.publish(Order())
    await started.wait()
    start = clock.now()
    with pytest.warns(RuntimeWarning) as told:
        await flock.shutdown(grace=5)
    assert any("stubborn" in str(each.message) for each in told)
    assert clock.now() <= start + 5 + 1 + 0.001  # the grace period, and a moment for clean-up


@pytest.mark.memory
@pytest.mark.parametrize(
    "wait",
    [
        lambda flock: flock.invoke("packer", Order()),
        lambda flock: flock.arun("packer", Order()),
        lambda flock: flock.ask(Order(), returns=Parcel),
    ],
    ids=["invoke", "arun", "ask"],
)
async def test_p12_who_waits_for_an_interrupted_activation_is_told(
    wait: Callable[[Flock], Coroutine[object, object, object]],
) -> None:
    flock, started = Flock(clock=FakeClock()), asyncio.Event()

    @flock.agent
    async def packer(order: Order) -> Parcel:
        started.set()
        await asyncio.Event().wait()
        return Parcel()

    waiting = asyncio.create_task(wait(flock))
    await started.wait()
    with pytest.warns(RuntimeWarning, match="memory store"):
        await flock.shutdown(grace=1)
    with pytest.raises(ClosedError):
        await waiting


@pytest.mark.memory
async def test_p12_who_waits_for_idle_gets_a_report_that_is_not() -> None:
    flock, started = Flock(clock=FakeClock()), asyncio.Event()

    @flock.agent
    async def packer(order: Order) -> Parcel:
        started.set()
        await asyncio.Event().wait()
        return Parcel()

    await flock.publish(Order())
    waiting = asyncio.create_task(flock.run_until_idle())
    await started.wait()
    with pytest.warns(RuntimeWarning, match="memory store"):
        await flock.shutdown(grace=1)
    report = await waiting
    assert (report.idle, [each.reason for each in report.waiting]) == (False, ["ready"])
