"""P16: retry and timeout; bodies that can't be stopped are fenced."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from datetime import timedelta
from itertools import pairwise

import pytest
from pydantic import BaseModel

from flock import ConfigurationError, Context, Event, Flock, agent
from flock.testing.clock import FakeClock


class Order(BaseModel):
    number: int = 0


class Parcel(BaseModel):
    number: int = 0


class Jammed(Exception):  # noqa: N818 - named by the domain
    pass


class PaperJam(Jammed):
    pass


def failing(flock: Flock, clock: FakeClock, attempts: int, **policy: object) -> list[float]:
    """Declare an agent that fails on every attempt; gives the list that the times of attempts go to."""
    times: list[float] = []

    async def pack(order: Order) -> Parcel:
        times.append(clock.now())
        raise Jammed

    flock.agent("packer").consumes(Order).retry(attempts, **policy).calls(pack)  # type: ignore[arg-type]
    return times


def pauses(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]


# ---- retry


async def test_p16_retries_back_off_exponentially() -> None:
    clock = FakeClock()
    async with Flock(clock=clock) as flock:
        times = failing(flock, clock, 6, delay=1, jitter=False)
        await flock.publish(Order())
        report = await flock.run_until_idle()
        assert pauses(times) == pytest.approx([1, 2, 4, 8, 16])
        assert (report.failed, report.failures[0].attempts) == (1, 6)


async def test_p16_the_factor_and_the_longest_pause_are_the_users() -> None:
    clock = FakeClock()
    async with Flock(clock=clock) as flock:
        times = failing(
            flock, clock, 6, delay=timedelta(seconds=1), backoff=3, max_delay=timedelta(seconds=20), jitter=False
        )
        await flock.publish(Order())
        await flock.run_until_idle()
        assert pauses(times) == pytest.approx([1, 3, 9, 20, 20])


async def test_p16_jitter_shortens_pauses_by_up_to_half_and_differs() -> None:
    clock = FakeClock()
    async with Flock(clock=clock) as flock:
        times = failing(flock, clock, 20, delay=10, backoff=1)
        await flock.publish(Order())
        await flock.run_until_idle()
        found = pauses(times)
        assert len(found) == 19
        assert all(5 <= pause <= 10 for pause in found)
        assert len({round(pause, 6) for pause in found}) > 10


async def test_p16_attempts_are_visible_and_the_idempotency_key_is_the_same_on_each() -> None:
    clock = FakeClock()
    seen: list[tuple[int, str, str]] = []
    async with Flock(clock=clock) as flock:

        async def pack(order: Order, ctx: Context) -> Parcel:
            seen.append((ctx.attempt, ctx.idempotency_key, ctx.activation_id))
            if ctx.attempt < 3:
                raise Jammed
            return Parcel()

        flock.agent("packer").consumes(Order).retry(3).calls(pack)
        await flock.publish(Order())
        await flock.run_until_idle()
        await flock.publish(Order())
        await flock.run_until_idle()
        first, second = seen[:3], seen[3:]
        assert [attempt for attempt, _, _ in first] == [1, 2, 3]
        assert len({(key, activation) for _, key, activation in first}) == 1
        assert len({key for _, key, _ in second}) == 1
        assert first[0][1] != second[0][1]


async def test_p16_each_attempt_gets_inputs_of_its_own() -> None:
    clock = FakeClock()
    seen: list[int] = []
    async with Flock(clock=clock) as flock:

        async def pack(order: Order, ctx: Context) -> Parcel:
            seen.append(order.number)
            order.number += 1
            if ctx.attempt < 3:
                raise Jammed
            return Parcel()

        flock.agent("packer").consumes(Order).retry(3).calls(pack)
        await flock.publish(Order(number=5))
        await flock.run_until_idle()
        assert seen == [5, 5, 5]


async def test_p16_only_the_named_errors_are_tried_again() -> None:
    clock = FakeClock()
    async with Flock(clock=clock) as flock:

        async def pack(order: Order, ctx: Context) -> Parcel:
            if order.number == 0:
                raise PaperJam
            raise ValueError(ctx.attempt)

        flock.agent("packer").consumes(Order).retry(3, on=(Jammed, KeyError)).calls(pack)
        await flock.publish(Order(number=0))
        await flock.publish(Order(number=1))
        report = await flock.run_until_idle()
        assert {failure.error_type: failure.attempts for failure in report.failures} == {"PaperJam": 3, "ValueError": 1}


async def test_p16_without_retry_there_is_one_attempt() -> None:
    async with Flock() as flock:
        flock.agent("packer").consumes(Order).calls(lambda _: 1 / 0)
        await flock.publish(Order())
        assert [failure.attempts for failure in (await flock.run_until_idle()).failures] == [1]


async def test_p16_a_delayed_retry_holds_no_slot() -> None:
    clock = FakeClock()
    order_of_ends: list[int] = []
    async with Flock(clock=clock) as flock:

        async def pack(order: Order, ctx: Context) -> None:
            if order.number == 1 and ctx.attempt == 1:
                raise Jammed
            order_of_ends.append(order.number)

        flock.agent("packer").consumes(Order).max_concurrency(1).retry(2, delay=60).calls(pack)
        await flock.publish(Order(number=1))
        await flock.publish(Order(number=2))
        await flock.run_until_idle()
        assert order_of_ends == [2, 1]


async def test_p16_retries_are_told() -> None:
    clock = FakeClock()
    events: list[Event] = []
    async with Flock(clock=clock, observers=[events.append]) as flock:
        failing(flock, clock, 3)
        await flock.publish(Order())
        await flock.run_until_idle()
        kinds = [event.kind for event in events if event.agent == "packer" and event.kind != "published"]
        assert kinds == ["started", "retried", "started", "retried", "started", "failed"]


@pytest.mark.parametrize(
    "bad",
    [
        {"attempts": 0},
        {"attempts": True},
        {"attempts": 3, "delay": -1},
        {"attempts": 3, "max_delay": -1},
        {"attempts": 3, "backoff": 0.5},
        {"attempts": 3, "backoff": float("nan")},
        {"attempts": 3, "on": "ValueError"},
        {"attempts": 3, "on": ()},
        {"attempts": 3, "on": BaseException},
    ],
)
def test_p16_a_policy_that_can_never_work_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        Flock().agent("packer").retry(**bad)  # type: ignore[arg-type]


# ---- timeout


async def test_p16_an_async_body_is_really_cancelled_at_its_timeout() -> None:
    clock = FakeClock()
    ended: list[float] = []
    async with Flock(clock=clock) as flock:
        start = clock.now()

        async def pack(order: Order) -> Parcel:
            try:
                await clock.sleep(3_600)
            except asyncio.CancelledError:
                ended.append(clock.now() - start)
                raise
            return Parcel()

        flock.agent("packer").consumes(Order).timeout(30).calls(pack)
        await flock.publish(Order())
        report = await flock.run_until_idle()
        (failure,) = report.failures
        assert ended == pytest.approx([30])
        assert (failure.error_type, failure.message) == ("TimeoutError", "agent 'packer' took longer than 30 s")
        assert report.duration == pytest.approx(30)


async def test_p16_a_timeout_holds_for_each_attempt() -> None:
    clock = FakeClock()
    async with Flock(clock=clock) as flock:

        async def pack(order: Order, ctx: Context) -> Parcel:
            await clock.sleep(3_600 if ctx.attempt < 3 else 9)
            return Parcel()

        flock.agent("packer").consumes(Order).timeout(10).retry(3, delay=1, jitter=False).calls(pack)
        await flock.publish(Order())
        report = await flock.run_until_idle()
        assert (report.succeeded, report.failed) == (1, 0)
        assert report.duration == pytest.approx(10 + 1 + 10 + 2 + 9)


async def test_p16_waiting_for_a_slot_does_not_count() -> None:
    clock = FakeClock()
    async with Flock(clock=clock, max_concurrency=1) as flock:

        async def pack(order: Order) -> Parcel:
            await clock.sleep(9)
            return Parcel()

        flock.agent("packer").consumes(Order).timeout(10).calls(pack)
        await flock.publish_many([Order(), Order(), Order()])
        report = await flock.run_until_idle()
        assert (report.succeeded, report.failed) == (3, 0)


async def test_p16_a_timeout_error_of_the_body_itself_is_the_bodys() -> None:
    async with Flock() as flock:

        async def pack(order: Order) -> Parcel:
            raise TimeoutError("the printer did not answer")

        flock.agent("packer").consumes(Order).timeout(60).calls(pack)
        await flock.publish(Order())
        assert [f.message for f in (await flock.run_until_idle()).failures] == ["the printer did not answer"]


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "soon", timedelta(0)])
def test_p16_a_timeout_that_can_never_work_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigurationError, match="timeout"):
        Flock().agent("packer").timeout(seconds)


# ---- bodies that can't be stopped


async def test_p16_a_body_that_swallows_cancellation_is_fenced_and_its_slot_held() -> None:
    clock, go = FakeClock(), asyncio.Event()
    started: list[int] = []
    events: list[Event] = []
    async with Flock(clock=clock, observers=[events.append]) as flock:

        async def pack(order: Order) -> Parcel:
            started.append(order.number)
            while not go.is_set():
                with suppress(asyncio.CancelledError):
                    await go.wait()
            return Parcel(number=order.number)

        flock.agent("stubborn").consumes(Order).max_concurrency(1).timeout(10).calls(pack)
        await flock.publish(Order(number=1))
        report = await flock.run_until_idle()
        assert [failure.error_type for failure in report.failures] == ["TimeoutError"]
        assert [event.agent for event in events if event.kind == "abandoned"] == ["stubborn"]

        await flock.publish(Order(number=2))
        assert not (await flock.run_until_idle(timeout=60)).idle
        assert started == [1]  # its slot is held until it returns

        go.set()
        await flock.run_until_idle()
        assert started == [1, 2]
        assert await flock.store.get_by_type(Parcel) == [Parcel(number=2)]


async def test_p16_a_body_that_swallows_cancellation_and_returns_at_once_has_failed_too() -> None:
    clock = FakeClock()
    async with Flock(clock=clock) as flock:

        async def pack(order: Order) -> Parcel:
            with suppress(asyncio.CancelledError):
                await clock.sleep(3_600)
            return Parcel()

        flock.agent("stubborn").consumes(Order).timeout(10).calls(pack)
        await flock.publish(Order())
        report = await flock.run_until_idle()
        assert [failure.error_type for failure in report.failures] == ["TimeoutError"]
        assert await flock.store.get_by_type(Parcel) == []


async def test_p16_a_thread_that_does_not_return_is_fenced_and_its_slot_held() -> None:
    clock, go = FakeClock(), threading.Event()
    started: list[int] = []
    async with Flock(clock=clock) as flock:

        def pack(order: Order) -> Parcel:
            started.append(order.number)
            if order.number == 1:
                go.wait(20)
            return Parcel(number=order.number)

        flock.agent("threaded").consumes(Order).max_concurrency(1).timeout(10).calls(pack)
        await flock.publish(Order(number=1))
        report = await flock.run_until_idle()
        assert [failure.error_type for failure in report.failures] == ["TimeoutError"]

        await flock.publish(Order(number=2))
        assert not (await flock.run_until_idle(timeout=1)).idle
        assert started == [1]

        go.set()
        await flock.run_until_idle(timeout=20)
        assert started == [1, 2]
        assert await flock.store.get_by_type(Parcel) == [Parcel(number=2)]


async def test_p16_a_cancelled_run_does_not_wait_for_its_threads() -> None:
    started, go = threading.Event(), threading.Event()
    async with Flock(clock=FakeClock()) as flock:

        def pack(order: Order) -> Parcel:
            started.set()
            go.wait(20)
            return Parcel(number=order.number)

        flock.agent("threaded").consumes(Order).max_concurrency(1).calls(pack)
        await flock.publish(Order(number=1), correlation_id="doomed")
        await asyncio.to_thread(started.wait, 20)
        await flock.cancel("doomed")
        assert (await flock.run_until_idle(timeout=1)).idle
        await flock.publish(Order(number=2))
        go.set()
        await flock.run_until_idle()  # the slot comes free when the thread has returned
        assert await flock.store.get_by_type(Parcel) == [Parcel(number=2)]


async def test_p16_shutdown_waits_no_longer_than_the_grace_period_for_a_thread_and_names_it() -> None:
    clock, started, go = FakeClock(), threading.Event(), threading.Event()
    flock = Flock(clock=clock)

    def pack(order: Order) -> Parcel:
        started.set()
        go.wait(20)
        return Parcel()

    flock.agent("threaded").consumes(Order).calls(pack)
    await flock.publish(Order())
    await asyncio.to_thread(started.wait, 20)
    begin = clock.now()
    with pytest.warns(RuntimeWarning) as told:
        await flock.shutdown(grace=5)
    assert clock.now() <= begin + 5 + 1 + 0.001
    assert any("threaded" in str(each.message) for each in told)
    go.set()
    assert await flock.store.get_by_type(Parcel) == []


# ---- threads


async def test_p16_sync_bodies_run_in_the_flocks_own_threads() -> None:
    names: list[str] = []
    async with Flock(name="bakery") as flock:

        def pack(order: Order) -> Parcel:
            names.append(threading.current_thread().name)
            return Parcel()

        flock.agent("threaded").consumes(Order).calls(pack)
        await flock.publish(Order())
        await flock.run_until_idle()
        assert len(names) == 1
        assert names[0].startswith("flock bakery")


async def test_p16_agents_that_several_flocks_include_run_in_the_threads_of_each() -> None:
    names: list[str] = []

    @agent
    def pack(order: Order) -> Parcel:
        names.append(threading.current_thread().name)
        return Parcel()

    stamp = agent("stamp").calls(pack)
    for name in ("bakery", "brewery"):
        async with Flock(name=name) as flock:
            flock.include(pack, stamp)
            await flock.publish(Order())
            assert (await flock.run_until_idle()).succeeded == 2
    assert [name.rpartition("-")[0] for name in names] == ["flock bakery"] * 2 + ["flock brewery"] * 2


async def test_p16_the_slots_bound_how_many_threads_run() -> None:
    running, most, lock = 0, 0, threading.Lock()
    names: set[str] = set()
    full = threading.Barrier(2)
    async with Flock() as flock:

        def pack(order: Order) -> Parcel:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
                names.add(threading.current_thread().name)
            full.wait(20)
            with lock:
                running -= 1
            return Parcel()

        flock.agent("threaded").consumes(Order).max_concurrency(2).calls(pack)
        await flock.publish_many([Order() for _ in range(8)])
        assert (await flock.run_until_idle()).succeeded == 8
        assert most == 2
        assert len(names) <= 3


async def test_p16_an_error_in_a_thread_is_the_agents() -> None:
    async with Flock() as flock:

        def pack(order: Order) -> Parcel:
            raise Jammed("in a thread")

        flock.agent("threaded").consumes(Order).calls(pack)
        await flock.publish(Order())
        (failure,) = (await flock.run_until_idle()).failures
        assert (failure.error_type, failure.message) == ("Jammed", "in a thread")


async def test_p16_a_long_delay_is_not_cut_short_by_the_usual_longest_pause(clock: FakeClock) -> None:
    async with Flock(clock=clock) as flock:

        @(flock.agent("clumsy").consumes(Order).retry(2, delay=600, jitter=False))
        async def clumsy(order: Order) -> None:
            raise ValueError("again")

        await flock.publish(Order(number=1))
        report = await flock.run_until_idle()
        assert report.duration == 600


def test_p16_a_delay_beyond_its_own_longest_pause_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="max_delay"):
        Flock().agent("clumsy").retry(2, delay=600, max_delay=60)
