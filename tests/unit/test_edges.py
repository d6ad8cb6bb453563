"""Corners where work could be lost or slots leak: cancelled waits, removed agents, cancelled runs, ends of loops."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from pydantic import BaseModel

from flock import AfterVisibility, BatchSpec, Context, Flock, JoinSpec, Until, WaitError
from flock.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flock import Artifact


class Ask(BaseModel):
    n: int = 0


class Answer(BaseModel):
    n: int = 0


class Errand(BaseModel):
    n: int = 0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


async def test_a_timed_out_invoke_hands_its_slot_to_what_waits(clock: FakeClock) -> None:
    async with Flock(clock=clock) as flock:

        @(flock.agent("slow").consumes(Ask).max_concurrency(1))
        async def slow(ask: Ask) -> Answer:
            if ask.n == 1:
                await clock.sleep(10)
            return Answer(n=ask.n)

        invoked = asyncio.create_task(flock.invoke("slow", Ask(n=1), timeout=1))
        await clock.advance(0.5)
        await flock.publish(Ask(n=2))
        with pytest.raises(TimeoutError):
            await invoked
        report = await flock.run_until_idle(timeout=5)
        assert (report.idle, report.succeeded) == (True, 1)


async def test_an_invoke_that_outlives_its_agent_keeps_no_slot(clock: FakeClock) -> None:
    async with Flock(clock=clock) as flock:
        invokes: list[asyncio.Task[list[Artifact]]] = []

        @(flock.agent("errand").consumes(Errand, mode="direct"))
        async def errand(job: Errand) -> None:
            await clock.sleep(1)

        @(flock.agent("boss").consumes(Ask).max_concurrency(1))
        async def boss(ask: Ask) -> Answer:
            invokes.append(asyncio.create_task(flock.invoke("errand", Errand())))
            await asyncio.sleep(0)
            return Answer(n=ask.n)

        for n in range(3):
            await flock.publish(Ask(n=n))
            assert (await flock.run_until_idle(timeout=5)).idle
        assert len(await asyncio.gather(*invokes)) == 3


async def test_an_agent_that_comes_back_while_its_slot_is_lent_runs_as_declared() -> None:
    async with Flock() as flock:
        go_on = asyncio.Event()

        @(flock.agent("errand").consumes(Errand, mode="direct"))
        async def errand(job: Errand) -> None:
            await go_on.wait()

        async def boss(ask: Ask) -> Answer:
            if ask.n == 1:
                await flock.invoke("errand", Errand())
            return Answer(n=ask.n)

        def declare() -> None:
            flock.agent("boss").consumes(Ask).max_concurrency(1).calls(boss)

        declare()
        await flock.publish(Ask(n=1))
        await asyncio.sleep(0)
        flock.remove_agent("boss")
        declare()
        await flock.ready()
        go_on.set()
        assert (await flock.run_until_idle(timeout=5)).idle
        await flock.publish(Ask(n=2))
        report = await flock.run_until_idle(timeout=5)
        assert (report.idle, report.succeeded) == (True, 1)


async def test_a_tick_into_a_cancelled_run_ends_cancelled_and_the_schedule_goes_on(clock: FakeClock) -> None:
    async with Flock(clock=clock) as flock:
        fired: list[int] = []

        @(flock.agent("timer").schedule(every=1))
        async def timer(ctx: Context) -> Answer:
            fired.append(ctx.iteration)
            return Answer()

        await flock.ready()
        await flock.cancel("default")
        await clock.advance(3.5)
        assert fired == [1, 2, 3]
        assert (await flock.run_until_idle(timeout=5)).idle


async def test_a_batch_whose_latest_run_was_cancelled_leaves_nothing_running(clock: FakeClock) -> None:
    async with Flock(clock=clock) as flock:
        join = JoinSpec(by=number, within=timedelta(minutes=1))

        @(flock.agent("pair").consumes(Ask, Answer, join=join, batch=BatchSpec(timeout=1), scope="board"))
        async def pair(pairs: list[tuple[Ask, Answer]]) -> Errand:
            return Errand(n=len(pairs))

        await flock.publish(Ask(n=1), correlation_id="kept")
        await flock.publish(Answer(n=1), correlation_id="cancelled")
        await flock.cancel("cancelled")
        report = await flock.run_until_idle(timeout=5)
        assert report.idle


async def test_waits_end_when_what_was_delayed_falls_into_a_gate_that_stays_open(clock: FakeClock) -> None:
    async with Flock(clock=clock) as flock:

        @flock.agent
        async def both(ask: Ask, answer: Answer) -> Errand:
            return Errand()

        @flock.agent
        async def answering(errand: Errand) -> None:
            return

        async with flock.traced_run():
            await flock.publish(Ask(), visibility=AfterVisibility(ttl=timedelta(seconds=1)))
            assert not await flock.run_until(Until.exists(Errand))


async def test_an_agent_can_not_wait_until_its_own_run_is_idle() -> None:
    async with Flock() as flock:

        @flock.agent
        async def waits(ask: Ask) -> None:
            with pytest.raises(WaitError):
                await flock.run_until(Until.idle())

        await flock.publish(Ask())
        report = await flock.run_until_idle(timeout=5)
        assert (report.idle, report.failed) == (True, 0)


async def test_an_agent_in_a_thread_that_waits_for_another_gets_its_slots_back() -> None:
    async with Flock() as flock:
        loop = asyncio.get_running_loop()

        @(flock.agent("errand").consumes(Errand, mode="direct"))
        async def errand(job: Errand) -> None:
            await asyncio.sleep(0)

        @(flock.agent("boss").consumes(Ask).max_concurrency(1))
        def boss(ask: Ask) -> Answer:
            asyncio.run_coroutine_threadsafe(flock.invoke("errand", Errand()), loop).result(5)
            return Answer(n=ask.n)

        for n in range(3):
            await flock.publish(Ask(n=n))
            report = await flock.run_until_idle(timeout=10)
            assert (report.idle, report.failed) == (True, 0)


def test_more_activations_than_one_claim_takes_all_run_again_on_the_next_loop() -> None:
    flock = Flock()
    ran: list[int] = []

    def declare(k: int) -> None:
        async def body(ask: Ask) -> None:
            if not released:
                await asyncio.Event().wait()
            ran.append(k)

        flock.agent(f"agent {k}").consumes(Ask).calls(body)

    released = False
    for k in range(1_100):
        declare(k)

    async def begin() -> None:
        await flock.publish(Ask())
        await asyncio.sleep(0)

    async def finish() -> bool:
        return (await flock.run_until_idle(timeout=30)).idle

    asyncio.run(begin())
    released = True
    assert asyncio.run(finish())
    assert len(ran) == 1_100


async def test_candidates_that_all_cancel_themselves_cancel_the_activation() -> None:
    async with Flock() as flock:

        @(flock.agent("shy").consumes(Ask).best_of(2))
        async def shy(ask: Ask) -> Answer:
            raise asyncio.CancelledError

        await flock.publish(Ask())
        report = await flock.run_until_idle(timeout=5)
        assert (report.idle, report.cancelled, report.failures) == (True, 1, ())


async def test_a_run_with_a_delayed_artifact_is_not_forgotten(clock: FakeClock) -> None:
    async with Flock(store="memory://?keep_runs=1", clock=clock) as flock:
        seen: list[Sequence[Artifact]] = []

        @flock.agent
        async def late(ask: Ask, ctx: Context) -> None:
            seen.append(await ctx.board.list())

        await flock.publish(Ask(n=9), correlation_id="slow", visibility=AfterVisibility(ttl=timedelta(hours=1)))
        for n in range(5):
            await flock.publish(Ask(n=n), correlation_id=f"run {n}")
            await flock.run_until_idle()
        assert (await flock.status("slow")).state == "waiting"
        await clock.advance(3_601)
        assert 9 in [artifact.payload.n for artifact in seen[-1]]


async def test_shutdown_starts_nothing_that_waits(clock: FakeClock) -> None:
    flock = Flock(clock=clock)
    started: list[int] = []

    @(flock.agent("slow").consumes(Ask).max_concurrency(1))
    async def slow(ask: Ask) -> None:
        started.append(ask.n)
        await clock.sleep(1)

    for n in range(3):
        await flock.publish(Ask(n=n))
    await asyncio.sleep(0)
    with pytest.warns(RuntimeWarning, match="2 open activations"):
        report = await flock.shutdown(grace=5)
    assert started == [0]
    assert [each.reason for each in report.waiting] == ["ready", "ready"]


def number(payload: Ask | Answer) -> int:
    return payload.n
