"""P9: how many run at once, who comes next, and that waiting for others never holds them up."""

import asyncio
import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel
from typing_extensions import override

from flock import ConfigurationError, Context, Engine, EvalInputs, Flock, OutputGroup, WaitError
from flock.ports import AgentInfo
from flock.testing import FakeClock


class Job(BaseModel):
    number: int = 0


class Urgent(BaseModel):
    number: int = 0


class Step(BaseModel):
    number: int = 0


class Done(BaseModel):
    number: int = 0


class Meter:
    """Counts how many are inside at once."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0
        self.total = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.total += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.now -= 1


async def rounds(number: int = 20) -> None:
    """Let everything run that can."""
    for _ in range(number):
        await asyncio.sleep(0)


def jobs(count: int) -> list[Job]:
    return [Job(number=number) for number in range(count)]


# ---- how many


@pytest.mark.parametrize("most", [1, 3, 10])
async def test_p09_at_most_max_concurrency_chains_of_an_agent_run_at_once(flock: Flock, most: int) -> None:
    meter = Meter()

    @flock.agent("work").consumes(Job).max_concurrency(most)
    async def work(job: Job) -> None:
        with meter:
            await rounds(3)

    await flock.publish_many(jobs(25))
    await flock.run_until_idle()
    assert (meter.most, meter.total) == (most, 25)


async def test_p09_ten_is_the_default(flock: Flock) -> None:
    meter = Meter()

    @flock.agent
    async def work(job: Job) -> None:
        with meter:
            await rounds(3)

    await flock.publish_many(jobs(25))
    await flock.run_until_idle()
    assert meter.most == 10


async def test_p09_the_limit_holds_over_all_subscriptions_and_runs_of_an_agent(flock: Flock) -> None:
    meter = Meter()

    @flock.agent("work").consumes(Job).consumes(Urgent, priority=5).max_concurrency(2)
    async def work(inputs: EvalInputs) -> None:
        with meter:
            await rounds(3)

    for run in ("one", "two"):
        await flock.publish_many([*jobs(5), Urgent(), Urgent()], correlation_id=run)
    await flock.run_until_idle()
    assert (meter.most, meter.total) == (2, 14)


async def test_p09_agents_do_not_take_each_others_slots(flock: Flock) -> None:
    both = asyncio.Barrier(2)

    for name in ("one", "two"):

        @flock.agent(name).consumes(Job).max_concurrency(1)
        async def work(job: Job) -> None:
            await both.wait()

    await flock.publish(Job())
    assert (await flock.run_until_idle(timeout=5)).succeeded == 2


@pytest.mark.parametrize("most", [1, 2])
async def test_p09_the_flocks_max_concurrency_bounds_all_agents_together(clock: FakeClock, most: int) -> None:
    meter = Meter()
    async with Flock(max_concurrency=most, clock=clock) as flock:
        for name in ("one", "two", "three"):

            @flock.agent(name).consumes(Job)
            async def work(job: Job) -> None:
                with meter:
                    await rounds(3)

        await flock.publish_many(jobs(4))
        await flock.run_until_idle()
    assert (meter.most, meter.total) == (most, 12)


@pytest.mark.parametrize("own", [1, 2])
async def test_p09_each_candidate_of_best_of_n_takes_a_slot(flock: Flock, own: int) -> None:
    meter = Meter()

    @flock.agent("choose").consumes(Job).best_of(4, score=lambda _: 0.0).max_concurrency(own)
    async def choose(job: Job) -> Done:
        with meter:
            await rounds(3)
        return Done()

    await flock.publish_many(jobs(3))
    assert (await flock.run_until_idle()).succeeded == 3
    assert (meter.most, meter.total) == (own, 12)


async def test_p09_candidates_take_global_slots_too(clock: FakeClock) -> None:
    meter = Meter()
    async with Flock(max_concurrency=2, clock=clock) as flock:

        @flock.agent("choose").consumes(Job).best_of(4)
        async def choose(job: Job) -> Done:
            with meter:
                await rounds(3)
            return Done()

        await flock.publish_many(jobs(3))
        await flock.run_until_idle()
    assert (meter.most, meter.total) == (2, 12)


async def test_p09_sync_bodies_are_bounded_by_the_slots(flock: Flock) -> None:
    meter = Meter()
    two = threading.Barrier(2)

    @flock.agent("work").consumes(Job).max_concurrency(2)
    def work(job: Job) -> None:
        with meter:
            two.wait(timeout=30)  # passes only when two run at once

    await flock.publish_many(jobs(6))
    assert (await flock.run_until_idle()).succeeded == 6
    assert (meter.most, meter.total) == (2, 6)


async def test_p09_a_whole_engine_chain_is_one_slot(flock: Flock) -> None:
    meter = Meter()

    class Half(Engine):
        def __init__(self, *, first: bool) -> None:
            self._first = first

        @override
        async def evaluate(self, agent: AgentInfo, ctx: Context, inputs: EvalInputs, output_group: OutputGroup) -> None:
            if self._first:
                meter.__enter__()
            await rounds(3)
            if not self._first:
                meter.__exit__()

    flock.agent("chain").consumes(Job).with_engines(Half(first=True), Half(first=False)).max_concurrency(2)
    await flock.publish_many(jobs(6))
    await flock.run_until_idle()
    assert (meter.most, meter.total, meter.now) == (2, 6, 0)


async def test_p09_a_failing_or_cancelled_chain_gives_its_slot_back(clock: FakeClock) -> None:
    ran: list[int] = []
    started = asyncio.Event()
    async with Flock(max_concurrency=1, clock=clock) as flock:

        @flock.agent("work").consumes(Job).max_concurrency(1)
        async def work(job: Job) -> None:
            ran.append(job.number)
            if job.number == 0:
                raise RuntimeError("no")
            if job.number == 1:
                started.set()
                await asyncio.Event().wait()

        await flock.publish(Job(number=0))
        await flock.publish(Job(number=1), correlation_id="stuck")
        await flock.publish(Job(number=2))
        await started.wait()
        await flock.cancel("stuck")
        await flock.run_until_idle()
    assert ran == [0, 1, 2]


# ---- who comes next


async def test_p09_a_ready_activation_without_a_slot_has_no_task(flock: Flock) -> None:
    gate = asyncio.Event()

    @flock.agent("work").consumes(Job).max_concurrency(2)
    async def work(job: Job) -> None:
        await gate.wait()

    await flock.publish_many(jobs(50))
    await rounds()
    assert len(flock.scheduler.tasks) == 2
    status = await flock.status("default")
    assert (status.running, status.ready) == (2, 48)
    gate.set()
    assert (await flock.run_until_idle()).succeeded == 50
    assert [task for task in flock.scheduler.tasks if not task.done()] == []


@pytest.mark.memory
async def test_p09_a_waiting_activation_holds_references_and_not_copies(flock: Flock) -> None:
    gate = asyncio.Event()

    class Heavy(BaseModel):
        numbers: list[int]

    def heavy() -> int:
        return sum(isinstance(each, Heavy) for each in gc.get_objects())

    for number in range(20):

        @flock.agent(f"work {number}").consumes(Heavy).max_concurrency(1)
        async def work(inputs: EvalInputs) -> None:
            await gate.wait()

    await flock.publish_many([Heavy(numbers=[number]) for number in range(10)])
    await rounds()
    assert heavy() == 10
    gate.set()
    await flock.run_until_idle()


async def test_p09_within_an_agent_the_highest_priority_goes_first_then_the_oldest(flock: Flock) -> None:
    order: list[str] = []
    gate = asyncio.Event()

    @flock.agent("work").consumes(Job, priority=-1).consumes(Urgent, priority=9).consumes(Step).max_concurrency(1)
    async def work(inputs: EvalInputs) -> None:
        await gate.wait()
        (artifact,) = inputs.artifacts
        order.append(f"{type(artifact.payload).__name__}{artifact.payload.number}")

    await flock.publish(Step(number=0))  # takes the slot
    await rounds()
    await flock.publish_many([Job(number=1), Step(number=1), Urgent(number=1), Job(number=2), Urgent(number=2)])
    await flock.publish_many([Step(number=2), Urgent(number=3)])
    gate.set()
    await flock.run_until_idle()
    assert order == ["Step0", "Urgent1", "Urgent2", "Urgent3", "Step1", "Step2", "Job1", "Job2"]


async def test_p09_among_agents_the_highest_priority_gets_the_next_global_slot(clock: FakeClock) -> None:
    order: list[str] = []
    gate = asyncio.Event()
    async with Flock(max_concurrency=1, clock=clock) as flock:

        def agent(name: str, kind: type[BaseModel], priority: int) -> None:
            @flock.agent(name).consumes(kind, priority=priority)
            async def work(inputs: EvalInputs) -> None:
                await gate.wait()
                order.append(f"{name}{inputs.artifacts[0].payload.number}")

        agent("low", Job, 0)
        agent("high", Urgent, 5)
        await flock.publish(Job(number=0))  # takes the slot
        await rounds()
        await flock.publish_many(jobs(3)[1:])
        await flock.publish_many([Urgent(number=1), Urgent(number=2)])
        gate.set()
        await flock.run_until_idle()
    assert order == ["low0", "high1", "high2", "low1", "low2"]


@pytest.mark.parametrize("priority", ["high", 1.5, None, True])
def test_p09_a_priority_is_an_integer(priority: Any) -> None:
    with pytest.raises(ConfigurationError, match="priority"):
        Flock().agent("work").consumes(Job, priority=priority)


# ---- lending


WAYS: dict[str, Callable[[Flock, int], Any]] = {
    "invoke": lambda flock, number: flock.invoke("inner", Step(number=number)),
    "ask": lambda flock, number: flock.ask(Step(number=number), Done),
}


@pytest.mark.parametrize("way", WAYS)
async def test_p09_slots_are_lent_while_an_activation_waits_for_others(clock: FakeClock, way: str) -> None:
    meter = Meter()
    async with Flock(max_concurrency=1, clock=clock) as flock:

        @flock.agent("outer").consumes(Job).max_concurrency(1)
        async def outer(job: Job) -> None:
            with meter:
                await rounds(2)
            await WAYS[way](flock, job.number)
            with meter:
                await rounds(2)

        @flock.agent("inner").consumes(Step).max_concurrency(1)
        async def inner(step: Step) -> Done:
            with meter:
                await rounds(2)
            return Done(number=step.number)

        await flock.publish_many(jobs(5))
        report = await flock.run_until_idle(timeout=60)
    assert report.idle
    assert meter.most == 1
    assert meter.total == 15


async def test_p09_slots_are_lent_while_arun_waits(clock: FakeClock) -> None:
    async with Flock(max_concurrency=1, clock=clock) as flock:

        @flock.agent("outer").consumes(Job).max_concurrency(1)
        async def outer(job: Job) -> None:
            async with flock.traced_run("inner"):
                await flock.arun("inner", Step())

        @flock.agent("inner").consumes(Step)
        async def inner(step: Step) -> Urgent:
            return Urgent()

        @flock.agent("after").consumes(Urgent)
        async def after(urgent: Urgent) -> Done:
            return Done()

        await flock.publish_many(jobs(2))
        report = await flock.run_until_idle(timeout=60)
        assert (report.idle, report.failures) == (True, ())
        assert len(await flock.store.get_by_type(Done)) == 2


async def test_p09_an_agent_with_one_slot_may_invoke_itself(clock: FakeClock) -> None:
    async with Flock(max_concurrency=1, clock=clock) as flock:

        @flock.agent("count").consumes(Job, mode="direct").max_concurrency(1)
        async def count(job: Job) -> Done:
            if job.number == 0:
                return Done(number=0)
            (below,) = await flock.invoke("count", Job(number=job.number - 1))
            return Done(number=below.payload.number + 1)

        (done,) = await flock.invoke("count", Job(number=6), timeout=60)
    assert done.payload == Done(number=6)


async def test_p09_invocations_gathered_in_one_activation_do_not_lock_up(clock: FakeClock) -> None:
    async with Flock(max_concurrency=1, clock=clock) as flock:

        @flock.agent("outer").consumes(Job).max_concurrency(1)
        async def outer(job: Job) -> None:
            await asyncio.gather(flock.invoke("short", Urgent()), flock.invoke("long", Step(number=3)))

        @flock.agent("short").consumes(Urgent, mode="direct")
        async def short(urgent: Urgent) -> None: ...

        @flock.agent("long").consumes(Step, mode="direct").max_concurrency(1)
        async def long(step: Step) -> Done:
            if step.number:
                await flock.invoke("long", Step(number=step.number - 1))
            return Done()

        await flock.publish(Job())
        report = await flock.run_until_idle(timeout=60)
        assert (report.idle, report.succeeded, report.failures) == (True, 6, ())


async def test_p09_an_invocation_that_begins_while_another_returns_does_not_lock_up(clock: FakeClock) -> None:
    async with Flock(max_concurrency=1, clock=clock) as flock:

        @flock.agent("outer").consumes(Job).max_concurrency(1)
        async def outer(job: Job) -> None:
            async def later() -> None:
                for number in range(4):
                    await rounds(number)
                    await flock.invoke("inner", Step(number=2))

            await asyncio.gather(*[later() for _ in range(3)])

        @flock.agent("inner").consumes(Step, mode="direct").max_concurrency(1)
        async def inner(step: Step) -> None:
            await rounds(step.number)
            if step.number:
                await flock.invoke("inner", Step(number=step.number - 1))

        await flock.publish(Job())
        report = await flock.run_until_idle(timeout=60)
        assert (report.idle, report.succeeded) == (True, 37)


async def test_p09_candidates_lend_their_slots_too(clock: FakeClock) -> None:
    async with Flock(max_concurrency=1, clock=clock) as flock:

        @flock.agent("choose").consumes(Job).best_of(3).max_concurrency(1)
        async def choose(job: Job) -> Done:
            (found,) = await flock.invoke("inner", Step(number=4))
            return Done(number=found.payload.number)

        @flock.agent("inner").consumes(Step, mode="direct").max_concurrency(1)
        async def inner(step: Step) -> Urgent:
            return Urgent(number=step.number)

        await flock.publish(Job())
        assert (await flock.run_until_idle(timeout=60)).idle
        assert await flock.store.get_by_type(Done) == [Done(number=4)]


async def test_p09_lent_slots_come_back_when_the_invocation_fails_or_times_out(clock: FakeClock) -> None:
    meter = Meter()
    async with Flock(max_concurrency=1, clock=clock) as flock:

        @flock.agent("outer").consumes(Job).max_concurrency(1)
        async def outer(job: Job) -> None:
            with pytest.raises(RuntimeError):
                await flock.invoke("broken", Step())
            with pytest.raises(TimeoutError):
                await flock.invoke("slow", Urgent(), timeout=1)
            with meter:
                await rounds(3)

        @flock.agent("broken").consumes(Step, mode="direct")
        async def broken(step: Step) -> None:
            raise RuntimeError("no")

        @flock.agent("slow").consumes(Urgent, mode="direct")
        async def slow(urgent: Urgent) -> None:
            await clock.sleep(3600)

        await flock.publish_many(jobs(4))
        report = await flock.run_until_idle(timeout=600)
    assert report.idle
    assert (meter.most, meter.total) == (1, 4)
    assert {failure.agent for failure in report.failures} == {"broken"}


async def test_p09_a_cancelled_activation_that_lent_its_slots_leaves_them_free(clock: FakeClock) -> None:
    async with Flock(max_concurrency=1, clock=clock) as flock:
        inside = asyncio.Event()

        @flock.agent("outer").consumes(Job).max_concurrency(1)
        async def outer(job: Job) -> Done:
            if job.number == 0:
                await flock.invoke("stuck", Step())
            return Done(number=job.number)

        @flock.agent("stuck").consumes(Step, mode="direct")
        async def stuck(step: Step) -> None:
            inside.set()
            await asyncio.Event().wait()

        await flock.publish(Job(number=0), correlation_id="one")
        await inside.wait()
        await flock.cancel("one")
        await flock.publish_many([Job(number=1), Job(number=2)], correlation_id="two")
        assert (await flock.run_until_idle(timeout=60)).idle
        assert await flock.store.get_by_type(Done) == [Done(number=1), Done(number=2)]


# ---- what an agent can't wait for


async def test_p09_waiting_for_ones_own_run_inside_an_agent_raises(flock: Flock) -> None:
    raised: list[BaseException] = []

    @flock.agent
    async def work(job: Job, ctx: Context) -> None:
        waits: list[Callable[[], Any]] = [
            flock.run_until_idle,
            lambda: flock.run_until_idle(correlation_id=ctx.correlation_id),
            lambda: flock.arun("other", Step()),
        ]
        for wait in waits:
            with pytest.raises(WaitError, match="own run") as caught:
                await wait()
            raised.append(caught.value)

    @flock.agent
    async def other(step: Step) -> None: ...

    await flock.publish(Job())
    assert (await flock.run_until_idle()).failures == ()
    assert len(raised) == 3


async def test_p09_waiting_for_another_run_inside_an_agent_is_fine(clock: FakeClock) -> None:
    async with Flock(max_concurrency=1, clock=clock) as flock:

        @flock.agent("outer").consumes(Job).max_concurrency(1)
        async def outer(job: Job) -> Done:
            async with flock.traced_run("other"):
                await flock.publish(Step())
                report = await flock.run_until_idle()
            return Done(number=report.succeeded)

        @flock.agent
        async def inner(step: Step) -> None: ...

        await flock.publish(Job())
        assert (await flock.run_until_idle(timeout=60)).idle
        assert await flock.store.get_by_type(Done) == [Done(number=1)]


# ---- nonsense is refused


@pytest.mark.parametrize("n", [0, -1, True, 1.5, "2", None])
def test_p09_an_agents_max_concurrency_is_a_count_above_zero(n: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_concurrency"):
        Flock().agent("work").max_concurrency(n)


@pytest.mark.parametrize("n", [0, -1, True, 1.5, "2"])
def test_p09_the_flocks_max_concurrency_is_a_count_above_zero(n: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_concurrency"):
        Flock(max_concurrency=n)
