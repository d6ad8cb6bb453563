"""Schedules on a running board, and the parts that users reach: lifecycle and scheduler."""

from __future__ import annotations

import asyncio
import datetime as dt

import pytest
from pydantic import BaseModel

from flock import BatchSpec, ConfigurationError, Context, EvalInputs, Event, Flock, JoinSpec
from flock.core.lifecycle import LifecycleManager
from flock.core.schedule import Scheduler
from flock.stores.memory import MemoryStore
from flock.testing.clock import FakeClock

START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)


class Order(BaseModel):
    number: int = 0


class Paid(BaseModel):
    number: int = 0


class Parcel(BaseModel):
    number: int = 0


def clock_at(start: dt.datetime = START) -> FakeClock:
    return FakeClock(start, autojump=False)


def ticker(flock: Flock, name: str = "ticker", **schedule: object) -> list[tuple[int, float]]:
    """Declare a scheduled agent; gives the list that its iterations and fire times go to."""
    ticks: list[tuple[int, float]] = []

    async def tick(ctx: Context) -> None:
        assert ctx.trigger == "timer"
        assert ctx.fire_time is not None
        ticks.append((ctx.iteration, ctx.fire_time))

    flock.agent(name).schedule(**schedule).calls(tick)  # type: ignore[arg-type]
    return ticks


def seconds(ticks: list[tuple[int, float]]) -> list[float]:
    return [at - START.timestamp() for _, at in ticks]


def moments(ticks: list[tuple[int, float]]) -> list[str]:
    return [dt.datetime.fromtimestamp(at, dt.UTC).strftime("%m-%d %H:%M") for _, at in ticks]


# ---- schedules


async def test_every_fires_at_each_interval_and_counts_from_one() -> None:
    clock = clock_at()
    async with Flock(clock=clock) as flock:
        ticks = ticker(flock, every=10)
        await flock.ready()
        await clock.advance(35)
        assert [iteration for iteration, _ in ticks] == [1, 2, 3]
        assert seconds(ticks) == pytest.approx([10, 20, 30])


async def test_after_delays_only_the_first_firing() -> None:
    clock = clock_at()
    async with Flock(clock=clock) as flock:
        ticks = ticker(flock, every=dt.timedelta(minutes=1), after=5)
        await flock.ready()
        await clock.advance(130)
        assert seconds(ticks) == pytest.approx([5, 65, 125])


async def test_a_schedule_does_not_drift_while_its_agent_is_slow() -> None:
    clock = clock_at()
    starts: list[float] = []
    async with Flock(clock=clock) as flock:

        async def tick(ctx: Context) -> None:
            starts.append(clock.now() - START.timestamp())
            await clock.sleep(7)

        flock.agent("ticker").schedule(every=10).calls(tick)
        await flock.ready()
        await clock.advance(58)
        assert starts == pytest.approx([10, 20, 30, 40, 50])


async def test_ticks_do_not_pile_up_and_skipped_ones_are_counted() -> None:
    clock, events = clock_at(), list[Event]()
    starts: list[tuple[int, float]] = []
    running, most = 0, 0
    async with Flock(clock=clock, observers=[events.append]) as flock:

        async def tick(ctx: Context) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            starts.append((ctx.iteration, clock.now() - START.timestamp()))
            await clock.sleep(25)
            running -= 1

        flock.agent("ticker").schedule(every=10).calls(tick)
        await flock.ready()
        await clock.advance(75)
        assert most == 1
        assert [at for _, at in starts] == pytest.approx([10, 40, 70])
        skipped = [event for event in events if event.kind == "skipped"]
        assert sum(event.count for event in skipped) == flock.lifecycle.skipped == 4
        assert {event.agent for event in skipped} == {"ticker"}
        await clock.advance(21)


async def test_of_several_missed_times_the_latest_fires_and_the_others_are_counted() -> None:
    clock = clock_at()
    async with Flock(clock=clock) as flock:
        ticks = ticker(flock, every=10)
        await flock.ready()
        clock.advance_to(clock.now() + 45)  # the process slept, as a laptop does
        await clock.settle()
        assert seconds(ticks) == pytest.approx([40])
        assert flock.lifecycle.skipped == 3
        await clock.advance(5)
        assert seconds(ticks) == pytest.approx([40, 50])


async def test_max_repeats_ends_a_schedule() -> None:
    clock = clock_at()
    async with Flock(clock=clock) as flock:
        ticks = ticker(flock, every=10, max_repeats=3)
        await flock.ready()
        await clock.advance(1_000)
        assert [iteration for iteration, _ in ticks] == [1, 2, 3]
        assert (await flock.run_until_idle()).waiting == ()
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_at_a_moment_fires_once() -> None:
    clock = clock_at()
    async with Flock(clock=clock) as flock:
        ticks = ticker(flock, at=START + dt.timedelta(hours=2))
        await flock.ready()
        await clock.advance(86_400)
        assert seconds(ticks) == pytest.approx([7_200])


async def test_at_a_time_of_day_follows_the_zone_through_a_clock_change() -> None:
    clock = clock_at(dt.datetime(2026, 3, 27, 12, tzinfo=dt.UTC))
    async with Flock(clock=clock) as flock:
        ticks = ticker(flock, at="09:00", tz="Europe/Berlin")
        await flock.ready()
        await clock.advance(4 * 86_400)
        # Summer time starts on March 29th: nine o'clock there is an hour earlier in UTC from then on.
        assert moments(ticks) == ["03-28 08:00", "03-29 07:00", "03-30 07:00", "03-31 07:00"]


async def test_cron_follows_the_zone() -> None:
    clock = clock_at(dt.datetime(2026, 3, 2, tzinfo=dt.UTC))  # a Monday
    async with Flock(clock=clock) as flock:
        ticks = ticker(flock, cron="30 8 * * MON-WED", tz="America/New_York")
        await flock.ready()
        await clock.advance(7 * 86_400)
        assert moments(ticks) == ["03-02 13:30", "03-03 13:30", "03-04 13:30"]


@pytest.mark.parametrize(
    "nonsense",
    [
        {},
        {"every": 0},
        {"every": -5},
        {"every": 5, "cron": "* * * * *"},
        {"cron": "every day"},
        {"cron": "99 * * * *"},
        {"cron": "0 0 31 2 *"},
        {"cron": "* * * * * *"},
        {"at": "25:00"},
        {"at": "soon"},
        {"every": 5, "tz": "Mars/Olympus"},
        {"every": 5, "max_repeats": 0},
        {"every": 5, "after": -1},
    ],
)
def test_a_schedule_that_can_never_work_is_refused_when_it_is_declared(nonsense: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        Flock().agent("ticker").schedule(**nonsense)  # type: ignore[arg-type]


async def test_an_agent_that_is_added_late_ticks() -> None:
    clock = clock_at()
    async with Flock(clock=clock) as flock:
        early = ticker(flock, "early", every=30)
        await flock.ready()
        await clock.advance(15)
        late = ticker(flock, "late", every=10)
        await flock.ready()
        await clock.advance(30)
        assert seconds(early) == pytest.approx([30])
        assert seconds(late) == pytest.approx([25, 35, 45])


async def test_a_removed_agent_ticks_no_more() -> None:
    clock = clock_at()
    async with Flock(clock=clock) as flock:
        ticks = ticker(flock, every=10)
        await flock.ready()
        await clock.advance(25)
        flock.remove_agent("ticker")
        await clock.advance(100)
        assert len(ticks) == 2
        assert (await flock.run_until_idle()).waiting == ()


async def test_a_scheduled_agent_publishes_into_the_default_run_without_parents() -> None:
    clock = clock_at()
    async with Flock(clock=clock, name="bakery") as flock:

        async def bake(ctx: Context) -> Parcel:
            return Parcel(number=ctx.iteration)

        flock.agent("baker").schedule(every=10).calls(bake)
        await flock.ready()
        await clock.advance(20)
        parcels = await flock.store.query(Parcel)
        assert [parcel.payload.number for parcel in parcels] == [1, 2]
        assert {(parcel.correlation_id, parcel.parents, parcel.produced_by) for parcel in parcels} == {
            ("bakery", (), "baker")
        }


async def test_an_agent_may_be_scheduled_and_consume() -> None:
    clock = clock_at()
    fired: list[tuple[str, int]] = []
    async with Flock(clock=clock) as flock:

        async def both(ctx: Context, order: Order | None = None) -> None:
            fired.append((ctx.trigger, 0 if order is None else order.number))

        flock.agent("both").consumes(Order).schedule(every=10).calls(both)
        await flock.publish(Order(number=7))
        await flock.run_until_idle()
        await clock.advance(10)
        assert fired == [("artifact", 7), ("timer", 0)]


async def test_a_failing_tick_is_a_failure_and_the_schedule_goes_on() -> None:
    async def fail(inputs: EvalInputs) -> None:
        raise ValueError

    clock = clock_at()
    async with Flock(clock=clock) as flock:
        flock.agent("ticker").schedule(every=10, max_repeats=3).calls(fail)
        await flock.ready()
        await clock.advance(40)
        report = await flock.run_until_idle()
        assert [failure.inputs for failure in report.failures] == [()] * 3


async def test_a_schedule_keeps_its_rhythm_and_count_on_the_store_of_before() -> None:
    clock, store = clock_at(), MemoryStore()
    first = Flock(clock=clock, store=store)
    before = ticker(first, every=10)
    await first.ready()
    await clock.advance(25)
    await first.shutdown()

    second = Flock(clock=clock, store=store)
    after = ticker(second, every=10)
    await second.ready()
    await clock.advance(10)
    assert before[-1] == (2, START.timestamp() + 20)
    assert after == [(3, START.timestamp() + 30)]
    await second.shutdown()


# ---- the lifecycle manager


async def test_starting_the_checkers_is_idempotent_and_does_nothing_without_deadlines() -> None:
    async with Flock() as flock:
        await flock.ready()
        assert isinstance(flock.lifecycle, LifecycleManager)
        for _ in range(3):
            await flock.lifecycle.start_batch_timeout_checker()
            await flock.lifecycle.start_correlation_cleanup()
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_starting_the_checkers_twice_makes_no_second_loop() -> None:
    clock = clock_at()
    async with Flock(clock=clock) as flock:
        flock.agent("timed").consumes(Order, batch=BatchSpec(timeout=60)).calls(lambda _: None)
        flock.agent("joined").consumes(Order, Paid, join=JoinSpec(by=_number, within=dt.timedelta(seconds=30))).calls(
            lambda _: None
        )
        await flock.publish(Order())
        for _ in range(3):
            await flock.lifecycle.start_batch_timeout_checker()
            await flock.lifecycle.start_correlation_cleanup()
        assert len(asyncio.all_tasks()) == 2
        await clock.advance(60)
        assert (await flock.run_until_idle()).succeeded == 1


def _number(payload: Order) -> int:
    return payload.number


async def test_shutting_the_lifecycle_manager_down_twice_is_fine() -> None:
    clock = clock_at()
    async with Flock(clock=clock) as flock:
        ticks = ticker(flock, every=10)
        await flock.ready()
        await flock.lifecycle.shutdown()
        await flock.lifecycle.shutdown()
        await clock.advance(100)
        assert ticks == []


# ---- the scheduler


async def test_schedule_task_runs_an_agent_on_artifacts_of_the_board_and_gives_its_outputs() -> None:
    async with Flock() as flock:
        assert isinstance(flock.scheduler, Scheduler)

        async def pack(order: Order, ctx: Context) -> Parcel:
            assert ctx.trigger == "direct"
            return Parcel(number=order.number)

        flock.agent("packer").consumes(Order, where=lambda _: False).calls(pack)
        order = await flock.publish(Order(number=3), correlation_id="one")
        task = flock.scheduler.schedule_task(flock.get_agent("packer"), [order])
        assert isinstance(task, asyncio.Task)
        (parcel,) = await task
        assert (parcel.payload.number, parcel.correlation_id, parcel.parents) == (3, "one", (order.id,))
        assert len(await flock.store.list()) == 2
        assert [each.agent for each in await flock.store.consumptions(order)] == ["packer"]


async def test_a_scheduled_task_is_tracked_and_cancelled_at_shutdown() -> None:
    clock, started = FakeClock(), asyncio.Event()
    flock = Flock(clock=clock)

    @flock.agent
    async def packer(order: Order) -> Parcel:
        started.set()
        await asyncio.Event().wait()
        return Parcel()

    await flock.ready()
    order = await flock.publish(Order(), correlation_id="none of it")
    await flock.cancel("none of it")
    order = await flock.publish(Order(), tags=["later"])
    await started.wait()
    task = flock.scheduler.schedule_task(flock.get_agent("packer"), [order])
    await asyncio.sleep(0)
    with pytest.warns(RuntimeWarning, match="memory store"):
        await flock.shutdown(grace=1)
    assert task.done()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_tasks_of_running_activations_are_listed_until_they_are_done() -> None:
    go = asyncio.Event()
    async with Flock() as flock:

        @flock.agent
        async def packer(order: Order) -> None:
            await go.wait()

        await flock.publish_many([Order(), Order()])
        assert len(flock.scheduler.tasks) == 2
        go.set()
        await flock.run_until_idle()
        assert flock.scheduler.tasks == ()


async def test_an_agent_that_was_removed_before_the_start_has_no_schedule() -> None:
    flock = Flock(clock=clock_at())
    flock.agent("clock").schedule(every=1.0).calls(lambda _: None)
    flock.remove_agent("clock")
    async with flock:
        assert (await flock.run_until_idle()).waiting == ()
