"""P10: `run_until_idle` is event-driven and says what waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest
from pydantic import BaseModel
from typing_extensions import override

from flock import (
    AfterVisibility,
    BatchSpec,
    Context,
    Flock,
    JoinSpec,
    OrchestratorComponent,
    When,
)
from flock.core.clock import SystemClock
from flock.model.artifact import Artifact
from flock.ports import AgentInfo, BoardHandle, Decision
from flock.testing.clock import FakeClock


class Order(BaseModel):
    number: int = 0


class Paid(BaseModel):
    number: int = 0


class Parcel(BaseModel):
    number: int = 0


class Truck(BaseModel):
    parcels: int


class Defer(OrchestratorComponent):
    """Defers the first `times` tries."""

    def __init__(self, times: int) -> None:
        self.left = times

    @override
    async def on_before_schedule(
        self, board: BoardHandle, agent: AgentInfo, artifacts: list[Artifact]
    ) -> Decision | None:
        self.left -= 1
        return "DEFER" if self.left >= 0 else "CONTINUE"


class CountingClock(SystemClock):
    """Counts the timers that are armed."""

    def __init__(self) -> None:
        super().__init__()
        self.armed = 0

    @override
    def call_at(self, when: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        self.armed += 1
        return super().call_at(when, callback)


# ---- what is work


async def test_p10_ready_and_running_activations_and_what_they_set_off_are_work() -> None:
    clock = FakeClock()
    async with Flock(clock=clock) as flock:

        async def pack(order: Order) -> Parcel:
            await clock.sleep(10)
            return Parcel(number=order.number)

        async def load(parcel: Parcel) -> Truck:
            await clock.sleep(5)
            return Truck(parcels=1)

        flock.agent("packer").consumes(Order).max_concurrency(1).calls(pack)
        flock.agent("loader").consumes(Parcel).calls(load)
        for number in range(3):
            await flock.publish(Order(number=number))
        report = await flock.run_until_idle()
        assert (report.idle, report.succeeded, report.waiting) == (True, 6, ())
        assert report.duration == pytest.approx(35)


async def test_p10_delayed_retries_are_work() -> None:
    clock = FakeClock()
    async with Flock(clock=clock) as flock:

        async def pack(order: Order, ctx: Context) -> Parcel:
            if ctx.attempt < 3:
                raise RuntimeError("again")
            return Parcel()

        flock.agent("packer").consumes(Order).retry(3, delay=100, max_delay=1_000, jitter=False).calls(pack)
        await flock.publish(Order())
        report = await flock.run_until_idle()
        assert (report.succeeded, report.failed) == (1, 0)
        assert report.duration == pytest.approx(300)


async def test_p10_deferred_activations_are_work() -> None:
    clock = FakeClock()
    async with Flock(clock=clock, components=[Defer(4)]) as flock:

        @flock.agent
        async def packer(order: Order) -> Parcel:
            return Parcel()

        await flock.publish(Order())
        report = await flock.run_until_idle()
        assert report.succeeded == 1
        assert report.duration == pytest.approx(0.05 + 0.1 + 0.2 + 0.4)


async def test_p10_timed_batches_are_work() -> None:
    clock = FakeClock()
    async with Flock(clock=clock) as flock:

        async def load(orders: list[Order]) -> Truck:
            return Truck(parcels=len(orders))

        flock.agent("loader").consumes(Order, batch=BatchSpec(size=10, timeout=60)).calls(load)
        await flock.publish(Order())
        await flock.publish(Order())
        report = await flock.run_until_idle()
        assert await flock.store.get_by_type(Truck) == [Truck(parcels=2)]
        assert report.duration == pytest.approx(60)
        assert report.waiting == ()


async def test_p10_an_empty_board_is_idle_at_once() -> None:
    async with Flock() as flock:
        report = await flock.run_until_idle()
        assert (report.idle, report.succeeded, report.failed, report.waiting) == (True, 0, 0, ())


# ---- what is no work, and stands in the report


async def test_p10_an_incomplete_gate_waits_without_a_due_time() -> None:
    clock = FakeClock()
    async with Flock(clock=clock) as flock:
        flock.agent("ship").consumes(Order, Paid).calls(lambda _: None)
        order = await flock.publish(Order(), correlation_id="one")
        report = await flock.run_until_idle()
        (waiting,) = report.waiting
        assert (waiting.reason, waiting.agent, waiting.run) == ("gate", "ship", "one")
        assert (waiting.artifacts, waiting.due) == ((order.id,), None)
        assert waiting.detail
        assert report.idle
        assert report.duration == 0


async def test_p10_an_incomplete_join_waits_until_its_window_ends() -> None:
    clock = FakeClock(autojump=False)
    async with Flock(clock=clock) as flock:
        join = JoinSpec(by=lambda each: each.number, within=timedelta(minutes=5))
        flock.agent("ship").consumes(Order, Paid, join=join).calls(lambda _: None)
        start = clock.now()
        order = await flock.publish(Order(number=1))
        await clock.advance(60)
        paid = await flock.publish(Paid(number=2))
        waiting = (await flock.run_until_idle()).waiting
        assert {(each.reason, each.artifacts, each.due) for each in waiting} == {
            ("join", (order.id,), start + 300),
            ("join", (paid.id,), start + 360),
        }


async def test_p10_a_join_with_a_count_window_has_no_due_time() -> None:
    async with Flock() as flock:
        flock.agent("ship").consumes(Order, Paid, join=JoinSpec(by=lambda each: each.number, within=5)).calls(
            lambda _: None
        )
        await flock.publish(Order())
        (waiting,) = (await flock.run_until_idle()).waiting
        assert (waiting.reason, waiting.due) == ("join", None)


async def test_p10_a_batch_by_size_alone_waits_without_a_due_time() -> None:
    async with Flock() as flock:
        flock.agent("loader").consumes(Order, batch=BatchSpec(size=3)).calls(lambda _: None)
        orders = [(await flock.publish(Order())).id for _ in range(2)]
        report = await flock.run_until_idle()
        (waiting,) = report.waiting
        assert (report.idle, waiting.reason, waiting.due) == (True, "batch", None)
        assert list(waiting.artifacts) == orders


async def test_p10_what_a_when_condition_holds_back_waits() -> None:
    async with Flock() as flock:
        flock.agent("loader").consumes(Order, when=When.count(Paid).at_least(2)).calls(lambda _: None)
        order = await flock.publish(Order())
        await flock.publish(Paid())
        report = await flock.run_until_idle()
        (waiting,) = report.waiting
        assert (report.idle, waiting.reason, waiting.artifacts, waiting.due) == (True, "when", (order.id,), None)
        await flock.publish(Paid())
        assert (await flock.run_until_idle()).waiting == ()


@pytest.mark.parametrize(
    ("declared", "due"),
    [({"every": 600}, 600), ({"every": 600, "after": 5}, 5), ({"at": "00:30"}, 1_800), ({"cron": "0 * * * *"}, 3_600)],
)
async def test_p10_a_schedule_waits_for_its_next_time(declared: dict[str, object], due: float) -> None:
    clock = FakeClock(autojump=False)
    async with Flock(clock=clock) as flock:
        flock.agent("ticker").schedule(**declared).calls(lambda _: None)  # type: ignore[arg-type]
        report = await flock.run_until_idle()
        (waiting,) = report.waiting
        assert (report.idle, waiting.reason, waiting.agent, waiting.due) == (
            True,
            "schedule",
            "ticker",
            clock.now() + due,
        )


async def test_p10_an_artifact_that_is_not_visible_yet_waits_until_its_time() -> None:
    clock = FakeClock(autojump=False)
    async with Flock(clock=clock) as flock:
        flock.agent("packer").consumes(Order).calls(lambda _: None)
        order = await flock.publish(Order(), visibility=AfterVisibility(ttl=timedelta(seconds=30)))
        report = await flock.run_until_idle()
        (waiting,) = report.waiting
        assert (report.idle, waiting.reason, waiting.artifacts) == (True, "after", (order.id,))
        assert waiting.due == clock.now() + 30
        await clock.advance(30)
        report = await flock.run_until_idle()
        assert (report.succeeded, report.waiting) == (1, ())


async def test_p10_what_works_at_the_timeout_stands_in_the_report_too() -> None:
    clock = FakeClock()
    async with Flock(clock=clock) as flock:

        async def pack(order: Order) -> None:
            if order.number:
                raise RuntimeError("again")
            await clock.sleep(1_000)

        flock.agent("packer").consumes(Order).retry(2, delay=60, jitter=False).calls(pack)
        slow = await flock.publish(Order())
        again = await flock.publish(Order(number=1))
        start = clock.now()
        report = await flock.run_until_idle(timeout=10)
        assert {(each.reason, each.artifacts, each.due) for each in report.waiting} == {
            ("running", (slow.id,), None),
            ("retry", (again.id,), start + 60),
        }
        await flock.run_until_idle()


# ---- timeout, drain, scope


async def test_p10_after_a_timeout_the_report_is_not_idle_and_work_goes_on() -> None:
    clock = FakeClock()
    async with Flock(clock=clock) as flock:

        @flock.agent
        async def packer(order: Order) -> Parcel:
            await clock.sleep(100)
            return Parcel()

        await flock.publish(Order())
        report = await flock.run_until_idle(timeout=30)
        assert (report.idle, report.succeeded) == (False, 0)
        assert report.duration == pytest.approx(30)
        report = await flock.run_until_idle()
        assert (report.idle, report.succeeded) == (True, 1)
        assert report.duration == pytest.approx(70)


async def test_p10_drain_flushes_partial_batches_once_all_else_is_done() -> None:
    clock = FakeClock()
    async with Flock(clock=clock) as flock:

        @flock.agent
        async def packer(order: Order) -> Parcel:
            await clock.sleep(1)
            return Parcel()

        async def load(parcels: list[Parcel]) -> Truck:
            return Truck(parcels=len(parcels))

        flock.agent("loader").consumes(Parcel, batch=BatchSpec(size=100)).calls(load)
        for _ in range(3):
            await flock.publish(Order())
        report = await flock.run_until_idle(drain=True)
        assert await flock.store.get_by_type(Truck) == [Truck(parcels=3)]
        assert report.waiting == ()


async def test_p10_drain_goes_on_with_the_batches_that_a_flush_fills() -> None:
    async with Flock() as flock:

        async def pack(orders: list[Order]) -> Parcel:
            return Parcel(number=len(orders))

        async def load(parcels: list[Parcel]) -> Truck:
            return Truck(parcels=len(parcels))

        flock.agent("packer").consumes(Order, batch=BatchSpec(size=2)).calls(pack)
        flock.agent("loader").consumes(Parcel, batch=BatchSpec(size=100)).calls(load)
        await flock.publish_many([Order(), Order(), Order()])
        report = await flock.run_until_idle(drain=True)
        assert [parcel.number for parcel in await flock.store.get_by_type(Parcel)] == [2, 1]
        assert sum(truck.parcels for truck in await flock.store.get_by_type(Truck)) == 2
        assert report.waiting == ()


async def test_p10_without_drain_partial_batches_stay() -> None:
    async with Flock() as flock:
        flock.agent("loader").consumes(Order, batch=BatchSpec(size=2)).calls(lambda _: None)
        await flock.publish(Order())
        assert [each.reason for each in (await flock.run_until_idle()).waiting] == ["batch"]
        assert [each.reason for each in (await flock.run_until_idle(drain=True)).waiting] == []


async def test_p10_draining_one_run_leaves_the_batches_of_others() -> None:
    async with Flock() as flock:
        flock.agent("loader").consumes(Order, batch=BatchSpec(size=2)).calls(lambda _: None)
        await flock.publish(Order(), correlation_id="one")
        await flock.publish(Order(), correlation_id="two")
        assert (await flock.run_until_idle(correlation_id="one", drain=True)).succeeded == 1
        assert [each.run for each in (await flock.run_until_idle()).waiting] == ["two"]


async def test_p10_draining_keeps_gates_and_joins() -> None:
    async with Flock() as flock:
        flock.agent("ship").consumes(Order, Paid).calls(lambda _: None)
        await flock.publish(Order())
        assert [each.reason for each in (await flock.run_until_idle(drain=True)).waiting] == ["gate"]


async def test_p10_inside_a_traced_run_other_traffic_does_not_starve_it() -> None:
    clock = FakeClock()
    async with Flock(clock=clock) as flock:

        async def forever(paid: Paid) -> Paid:
            await clock.sleep(1)
            return Paid(number=paid.number + 1)

        @flock.agent
        async def packer(order: Order) -> Parcel:
            await clock.sleep(5)
            return Parcel()

        flock.agent("noise").consumes(Paid).prevent_self_trigger(prevent=False).calls(forever)
        await flock.publish(Paid(), correlation_id="noise")
        async with flock.traced_run("quiet"):
            await flock.publish(Order())
            report = await flock.run_until_idle()
            assert (report.idle, report.succeeded) == (True, 1)
            assert report.duration == pytest.approx(5)
        assert not (await flock.run_until_idle(timeout=60)).idle
        assert (await flock.run_until_idle(timeout=60, correlation_id="another")).idle
        await flock.cancel("noise")


async def test_p10_outside_a_traced_run_it_waits_for_all_runs() -> None:
    clock = FakeClock()
    async with Flock(clock=clock) as flock:

        @flock.agent
        async def packer(order: Order) -> Parcel:
            await clock.sleep(order.number)
            return Parcel()

        for number in (1, 2, 3):
            await flock.publish(Order(number=number), correlation_id=f"run {number}")
        report = await flock.run_until_idle()
        assert report.succeeded == 3
        assert report.duration == pytest.approx(3)


async def test_p10_work_that_is_born_while_others_end_is_never_missed() -> None:
    async with Flock() as flock:

        @flock.agent
        async def down(order: Order) -> Order | None:
            await asyncio.sleep(0)
            if order.number:
                await flock.publish(Paid(number=order.number))
            return None

        @flock.agent
        async def again(paid: Paid) -> Order:
            return Order(number=paid.number - 1)

        await flock.publish(Order(number=50))
        report = await flock.run_until_idle()
        assert report.succeeded == 101


# ---- how it waits


async def test_p10_waiting_arms_no_timer_and_polls_nothing() -> None:
    go, clock = asyncio.Event(), CountingClock()
    async with Flock(clock=clock) as flock:

        @flock.agent
        async def packer(order: Order) -> Parcel:
            await go.wait()
            return Parcel()

        await flock.publish(Order())
        waiting = asyncio.create_task(flock.run_until_idle())
        for _ in range(100):
            await asyncio.sleep(0)
        assert not waiting.done()
        go.set()
        assert (await waiting).succeeded == 1
        assert clock.armed == 0


async def test_p10_it_stops_nothing_that_it_did_not_start() -> None:
    clock = FakeClock(autojump=False)
    ticks: list[int] = []
    async with Flock(clock=clock) as flock:

        async def tick(ctx: Context) -> None:
            ticks.append(ctx.iteration)

        flock.agent("ticker").schedule(every=10).calls(tick)
        flock.agent("packer").consumes(Order).calls(lambda _: None)
        await flock.publish(Order(), visibility=AfterVisibility(ttl=timedelta(seconds=15)))
        for _ in range(3):
            assert (await flock.run_until_idle()).idle
            await clock.advance(10)
        assert ticks == [1, 2, 3]
        assert [each.reason for each in (await flock.run_until_idle()).waiting] == ["schedule"]


async def test_p10_several_may_wait_at_once() -> None:
    go = asyncio.Event()
    async with Flock() as flock:

        @flock.agent
        async def packer(order: Order) -> Parcel:
            await go.wait()
            return Parcel()

        order = await flock.publish(Order())
        runs = (None, order.correlation_id)
        waiting = [asyncio.create_task(flock.run_until_idle(correlation_id=run)) for run in runs]
        await asyncio.sleep(0)
        go.set()
        assert all(report.idle for report in await asyncio.gather(*waiting))
