"""P11: background loops sleep until something is due; a Flock without work owns no task and adopts the next loop."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Callable, Mapping
from datetime import timedelta

import pytest
from pydantic import BaseModel
from typing_extensions import override

from flock import AfterVisibility, BatchSpec, Context, Flock, FlockError, JoinSpec
from flock.core.clock import SystemClock
from flock.model.ledger import Committed
from flock.stores.memory import MemoryStore
from flock.testing.clock import Deadline, FakeClock


class Order(BaseModel):
    number: int = 0


class Paid(BaseModel):
    number: int = 0


class Parcel(BaseModel):
    number: int = 0


class WatchedClock(FakeClock):
    """Remembers the times that were asked for."""

    def __init__(self) -> None:
        super().__init__(autojump=False)
        self.asked: list[float] = []
        self.looks = 0

    @override
    def now(self) -> float:
        self.looks += 1
        return super().now()

    @override
    def call_at(self, when: float, callback: Callable[[], None]) -> Deadline:
        self.asked.append(when)
        return super().call_at(when, callback)


class StumblingStore(MemoryStore):
    """Fails the first `times` ticks."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.left = times

    @override
    async def tick(self, limits: Mapping[str, int]) -> Committed:
        self.left -= 1
        if self.left >= 0:
            raise RuntimeError("stumbled")
        return await super().tick(limits)


def others() -> set[asyncio.Task[object]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


# ---- the loops


async def test_p11_an_idle_flock_with_no_deadline_owns_no_task() -> None:
    async with Flock() as flock:
        flock.agent("packer").consumes(Order).calls(lambda _: Parcel())
        flock.agent("gate").consumes(Order, Paid).calls(lambda _: None)
        await flock.publish(Order())
        await flock.run_until_idle()
        await asyncio.sleep(0)
        assert others() == set()


@pytest.mark.parametrize(
    "declare",
    [
        lambda flock: flock.agent("a").schedule(every=3_600).calls(lambda _: None),
        lambda flock: flock.agent("a").consumes(Order, batch=BatchSpec(timeout=3_600)).calls(lambda _: None),
        lambda flock: (
            flock.agent("a")
            .consumes(Order, Paid, join=JoinSpec(by=lambda each: each.number, within=timedelta(hours=1)))
            .calls(lambda _: None)
        ),
    ],
    ids=["schedule", "batch", "join"],
)
async def test_p11_a_loop_starts_by_itself_sleeps_until_the_deadline_and_is_gone_after_shutdown(
    declare: Callable[[Flock], object],
) -> None:
    clock = WatchedClock()
    flock = Flock(clock=clock)
    declare(flock)
    await flock.publish(Order(), correlation_id="one")
    await clock.settle()
    assert len(others()) == 1
    assert clock.asked == [clock.now() + 3_600]

    clock.looks = 0
    for _ in range(100):
        await asyncio.sleep(0)
    assert (clock.looks, len(clock.asked)) == (0, 1)  # nothing looks at the clock until it is due

    await flock.cancel("one")
    await flock.shutdown()
    assert others() == set()


async def test_p11_a_loop_whose_last_deadline_has_passed_is_gone() -> None:
    clock = FakeClock()
    async with Flock(clock=clock) as flock:
        flock.agent("timed").consumes(Order, batch=BatchSpec(timeout=60)).calls(lambda _: None)
        for _ in range(3):
            await flock.publish(Order())
            assert (await flock.run_until_idle()).succeeded == 1
            await clock.settle()
            assert others() == set()


async def test_p11_an_earlier_deadline_wakes_the_loop() -> None:
    clock = FakeClock(autojump=False)
    ends: list[tuple[str, float]] = []
    async with Flock(clock=clock) as flock:
        start = clock.now()
        for name, seconds in (("slow", 100), ("quick", 10)):

            async def end(orders: list[Order], name: str = name) -> None:
                ends.append((name, clock.now() - start))

            flock.agent(name).consumes(Order, batch=BatchSpec(timeout=seconds), tags=name).calls(end)
        await flock.publish(Order(), tags=["slow"])
        await clock.settle()
        await flock.publish(Order(), tags=["quick"])
        await clock.advance(200)
        assert ends == [("quick", 10), ("slow", 100)]


async def test_p11_a_failing_callback_is_recorded_and_the_loop_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    clock, store = FakeClock(), StumblingStore(2)
    async with Flock(clock=clock, store=store) as flock:
        flock.agent("timed").consumes(Order, batch=BatchSpec(timeout=60)).calls(lambda _: None)
        await flock.publish(Order())
        with caplog.at_level(logging.ERROR, logger="flock"):
            report = await flock.run_until_idle()
        assert report.succeeded == 1
        said = [record.getMessage() for record in caplog.records if record.name == "flock"]
        assert said == ["the deadlines loop stumbled and goes on"] * 2


async def test_p11_after_visibility_retries_and_joins_share_the_one_loop() -> None:
    clock = WatchedClock()
    async with Flock(clock=clock) as flock:

        async def fails(order: Order, ctx: Context) -> None:
            if ctx.attempt == 1:
                raise RuntimeError("again")

        flock.agent("retries").consumes(Order).retry(2, delay=30, jitter=False).calls(fails)
        flock.agent("later").consumes(Paid).calls(lambda _: None)
        await flock.publish(Order())
        await flock.publish(Paid(), visibility=AfterVisibility(ttl=timedelta(seconds=20)))
        await clock.settle()
        assert len(others()) == 1
        await clock.advance(40)
        assert (await flock.run_until_idle()).succeeded == 2
        assert others() == set()


# ---- time


def test_p11_the_clock_is_wall_time_read_once_and_never_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = time.time()  # noqa: TID251 - the wall itself
    clock = SystemClock()
    first = clock.now()
    assert before - 1 <= first <= before + 5
    monkeypatch.setattr(time, "time", lambda: before - 86_400)  # somebody sets the machine's clock back
    assert clock.now() >= first


def test_p11_the_clock_is_never_behind_a_time_it_was_told() -> None:
    clock = SystemClock()
    last_commit = clock.now() + 3_600
    clock.advance_to(last_commit)
    assert clock.now() >= last_commit
    clock.advance_to(last_commit - 7_200)
    assert clock.now() >= last_commit


async def test_p11_artifacts_carry_aware_utc_times_of_the_clock() -> None:
    clock = FakeClock()
    async with Flock(clock=clock) as flock:
        artifact = await flock.publish(Order())
        assert artifact.created_at.utcoffset() == timedelta(0)
        assert artifact.created_at.timestamp() == clock.now()


# ---- the loop it adopted


def test_p11_what_waits_stays_over_two_event_loops() -> None:
    seen: list[tuple[int, int]] = []
    flock = Flock()

    @flock.agent
    async def ship(order: Order, paid: Paid) -> None:
        seen.append((order.number, paid.number))

    async def first() -> None:
        await flock.publish(Order(number=1))
        await flock.run_until_idle()

    async def second() -> None:
        await flock.publish(Paid(number=2))
        assert (await flock.run_until_idle()).idle

    asyncio.run(first())
    asyncio.run(second())
    assert seen == [(1, 2)]


def test_p11_interrupted_activations_run_again_on_the_next_loop() -> None:
    attempts: list[int] = []
    began = asyncio.Event()
    flock = Flock()

    async def pack(order: Order, ctx: Context) -> Parcel:
        attempts.append(ctx.attempt)
        began.set()
        if len(attempts) == 1:
            await asyncio.Event().wait()
        return Parcel(number=order.number)

    flock.agent("packer").consumes(Order).calls(pack)

    async def first() -> None:
        await flock.publish(Order(number=1))
        await began.wait()

    async def second() -> None:
        report = await flock.run_until_idle()
        assert (report.succeeded, report.failed) == (1, 0)
        assert await flock.store.get_by_type(Parcel) == [Parcel(number=1)]

    asyncio.run(first())
    asyncio.run(second())
    assert attempts == [1, 1]  # the interrupted attempt is not counted


def test_p11_a_loop_that_was_closed_with_tasks_in_it_is_replaced_too(caplog: pytest.LogCaptureFixture) -> None:
    started: list[int] = []
    began = asyncio.Event()
    flock = Flock()

    async def pack(order: Order) -> Parcel:
        started.append(order.number)
        began.set()
        if len(started) == 1:
            await asyncio.Event().wait()
        return Parcel(number=order.number)

    flock.agent("packer").consumes(Order).calls(pack)

    async def first() -> None:
        await flock.publish(Order(number=1))
        await began.wait()

    async def second() -> None:
        assert (await flock.run_until_idle()).succeeded == 1

    loop = asyncio.new_event_loop()
    loop.run_until_complete(first())
    loop.close()
    asyncio.run(second())
    with caplog.at_level(logging.CRITICAL, logger="asyncio"):  # "task was destroyed but it is pending"
        gc.collect()
    assert started == [1, 1]


def test_p11_deadlines_go_on_on_the_next_loop() -> None:
    clock = FakeClock(autojump=False)
    fired: list[str] = []
    flock = Flock(clock=clock)

    async def fails_once(order: Order, ctx: Context) -> None:
        if ctx.attempt == 1:
            raise RuntimeError("again")
        fired.append("retry")

    flock.agent("retries").consumes(Order).retry(2, delay=10, jitter=False).calls(fails_once)
    flock.agent("timed").consumes(Order, batch=BatchSpec(timeout=20)).calls(lambda _: fired.append("batch"))
    flock.agent("later").consumes(Paid).calls(lambda _: fired.append("after"))
    flock.agent("ticker").schedule(every=50).calls(lambda _: fired.append("tick"))

    async def first() -> None:
        await flock.publish(Order())
        await flock.publish(Paid(), visibility=AfterVisibility(ttl=timedelta(seconds=30)))
        await clock.settle()

    async def second() -> None:
        await flock.ready()
        await clock.advance(60)
        await flock.run_until_idle()
        await flock.shutdown()

    asyncio.run(first())
    asyncio.run(second())
    assert fired == ["retry", "batch", "after", "tick"]


def test_p11_a_flock_can_be_shut_down_on_the_next_loop() -> None:
    flock = Flock()
    flock.agent("packer").consumes(Order).calls(lambda _: None)

    async def first() -> None:
        await flock.publish(Order())
        await flock.run_until_idle()

    asyncio.run(first())
    assert asyncio.run(flock.shutdown()).idle


def test_p11_a_flock_does_not_wait_for_a_loop_that_stands_still() -> None:
    flock = Flock()
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(flock.ready())
        with pytest.raises(FlockError, match="open but does not run"):
            asyncio.run(flock.ready())
    finally:
        loop.close()
