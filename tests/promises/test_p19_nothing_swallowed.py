"""P19: what is raised, returned, yielded or published inside an agent is never lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import BaseModel
from typing_extensions import override

from flock import (
    AgentComponent,
    Artifact,
    ConfigurationError,
    Context,
    EvalInputs,
    EvalResult,
    Event,
    Failure,
    Flock,
)
from flock.ports import AgentInfo


class Order(BaseModel):
    item: str = "soap"


class Step(BaseModel):
    number: int


class Parcel(BaseModel):
    item: str = "soap"


class Quit(BaseException):
    pass


class Broken(AgentComponent):
    """Raises in one hook."""

    def __init__(self, hook: str) -> None:
        self.hook = hook
        self.calls = 0

    def _meet(self, hook: str) -> None:
        if hook == self.hook:
            self.calls += 1
            raise RuntimeError(f"{hook} is broken")

    @override
    async def on_initialize(self, agent: AgentInfo, ctx: Context) -> None:
        self._meet("on_initialize")

    @override
    async def on_pre_consume(self, agent: AgentInfo, ctx: Context, artifacts: list[Artifact]) -> list[Artifact] | None:
        self._meet("on_pre_consume")
        return None

    @override
    async def on_pre_evaluate(self, agent: AgentInfo, ctx: Context, inputs: EvalInputs) -> EvalInputs | None:
        self._meet("on_pre_evaluate")
        return None

    @override
    async def on_post_evaluate(
        self, agent: AgentInfo, ctx: Context, inputs: EvalInputs, result: EvalResult
    ) -> EvalResult | None:
        self._meet("on_post_evaluate")
        return None

    @override
    async def on_post_publish(self, agent: AgentInfo, ctx: Context, artifacts: list[Artifact]) -> None:
        self._meet("on_post_publish")

    @override
    async def on_error(self, agent: AgentInfo, ctx: Context, error: BaseException) -> None:
        self._meet("on_error")

    @override
    async def on_terminate(self, agent: AgentInfo, ctx: Context) -> None:
        self._meet("on_terminate")


# ---- BaseException and cancellation


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_p19_an_exit_raised_by_an_agent_ends_the_program(kind: type[BaseException]) -> None:
    async def main() -> None:
        flock = Flock()

        async def leave(order: Order) -> None:
            raise kind

        flock.agent("leaver").consumes(Order).calls(leave)
        await flock.publish(Order())
        await flock.run_until_idle()

    with pytest.raises(kind):
        asyncio.run(main())


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_p19_an_exit_raised_by_a_thread_of_an_agent_ends_the_program(kind: type[BaseException]) -> None:
    async def main() -> None:
        flock = Flock()

        def leave(order: Order) -> None:
            raise kind

        flock.agent("leaver").consumes(Order).calls(leave)
        await flock.publish(Order())
        await flock.run_until_idle()

    with pytest.raises(kind):
        asyncio.run(main())


async def test_p19_another_base_exception_is_told_and_nobody_waits_for_ever() -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    async with Flock() as flock:

        async def leave(order: Order) -> None:
            raise Quit

        flock.agent("leaver").consumes(Order).calls(leave)
        await flock.publish(Order())
        report = await flock.run_until_idle(timeout=30)
        assert report.idle
        assert report.failed == 1
        assert [failure.error_type for failure in report.failures] == ["Quit"]
    assert [type(context["exception"]) for context in told] == [Quit]


async def test_p19_cancelling_a_caller_cancels_what_it_waits_for() -> None:
    started, cancelled = asyncio.Event(), list[str]()
    async with Flock() as flock:

        @flock.agent
        async def packer(order: Order) -> Parcel:
            started.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(order.item)
                raise
            return Parcel()

        caller = asyncio.create_task(flock.invoke("packer", Order()))
        await started.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        report = await flock.run_until_idle()
        assert cancelled == ["soap"]
        assert (report.cancelled, report.failed) == (1, 0)


async def test_p19_cancelling_who_waits_for_idle_leaves_the_work_alone() -> None:
    go = asyncio.Event()
    async with Flock() as flock:

        @flock.agent
        async def packer(order: Order) -> Parcel:
            await go.wait()
            return Parcel()

        await flock.publish(Order())
        waiting = asyncio.create_task(flock.run_until_idle())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        go.set()
        assert (await flock.run_until_idle()).succeeded == 1


async def test_p19_a_body_that_cancels_itself_ends_cancelled() -> None:
    async with Flock() as flock:

        async def gives_up(order: Order) -> None:
            raise asyncio.CancelledError

        flock.agent("packer").consumes(Order).calls(gives_up)
        await flock.publish(Order())
        report = await flock.run_until_idle()
        assert (report.idle, report.cancelled, report.failures) == (True, 1, ())


# ---- hooks


@pytest.mark.parametrize(
    "hook",
    ["on_initialize", "on_pre_consume", "on_pre_evaluate", "on_post_evaluate", "on_post_publish", "on_terminate"],
)
async def test_p19_a_raising_hook_is_recorded_once_and_loses_no_outputs(hook: str) -> None:
    events: list[Event] = []
    component = Broken(hook)
    async with Flock(observers=[events.append]) as flock:

        async def pack(order: Order) -> Parcel:
            return Parcel(item=order.item)

        flock.agent("packer").consumes(Order).with_utilities(component).calls(pack)
        await flock.publish(Order())
        report = await flock.run_until_idle()

        assert (report.succeeded, report.failed) == (1, 0)
        assert [parcel.item for parcel in await flock.store.get_by_type(Parcel)] == ["soap"]
        assert component.calls == 1
        (error,) = [event for event in events if event.kind == "error"]
        assert (error.agent, error.reason, str(error.error)) == ("packer", f"Broken.{hook}", f"{hook} is broken")


@pytest.mark.parametrize("hook", ["on_error", "on_terminate"])
async def test_p19_a_raising_hook_masks_no_error_of_the_body(hook: str) -> None:
    component = Broken(hook)
    async with Flock() as flock:
        flock.agent("packer").consumes(Order).with_utilities(component).calls(lambda _: 1 / 0)
        await flock.publish(Order())
        report = await flock.run_until_idle()
        assert component.calls == 1
        assert [failure.error_type for failure in report.failures] == ["ZeroDivisionError"]


async def test_p19_a_hook_that_raises_a_base_exception_is_not_swallowed() -> None:
    class Leaves(AgentComponent):
        @override
        async def on_pre_evaluate(self, agent: AgentInfo, ctx: Context, inputs: EvalInputs) -> None:
            raise asyncio.CancelledError

    async with Flock() as flock:
        flock.agent("packer").consumes(Order).with_utilities(Leaves()).calls(lambda _: Parcel())
        await flock.publish(Order())
        report = await flock.run_until_idle()
        assert (report.cancelled, report.succeeded) == (1, 0)


# ---- publishing while running


async def test_p19_what_an_agent_publishes_while_it_runs_commits_at_once() -> None:
    heard, go = asyncio.Event(), asyncio.Event()
    async with Flock() as flock:

        @flock.agent
        async def packer(order: Order, ctx: Context) -> Parcel:
            step = await flock.publish(Step(number=1))
            assert step.sequence == 2
            assert [artifact.id for artifact in await ctx.board.query(Step)] == [step.id]
            await go.wait()
            return Parcel()

        @flock.agent
        async def listener(step: Step) -> None:
            heard.set()

        order = await flock.publish(Order())
        await heard.wait()  # while the packer still runs
        go.set()
        await flock.run_until_idle()

        (step,) = await flock.store.query(Step)
        (parcel,) = await flock.store.query(Parcel)
        assert (step.produced_by, step.parents, step.depth) == ("packer", (order.id,), 1)
        assert step.correlation_id == order.correlation_id
        assert step.activation_id == parcel.activation_id
        assert step.activation_id is not None


async def test_p19_a_publish_is_at_least_once_over_attempts_and_outputs_exactly_once() -> None:
    async with Flock() as flock:

        async def pack(order: Order, ctx: Context) -> list[Parcel]:
            await flock.publish(Step(number=ctx.attempt))
            await flock.publish(Order(item="paper"), id=f"{ctx.idempotency_key}/paper")
            if ctx.attempt < 3:
                raise RuntimeError("again")
            return [Parcel(), Parcel()]

        flock.agent("packer").consumes(Order).retry(3, delay=0).calls(pack)
        await flock.publish(Order())
        report = await flock.run_until_idle()

        assert report.failures == ()
        assert [step.number for step in await flock.store.get_by_type(Step)] == [1, 2, 3]
        assert [order.item for order in await flock.store.get_by_type(Order)] == ["soap", "paper"]
        assert len(await flock.store.get_by_type(Parcel)) == 2


async def test_p19_a_task_that_an_agent_starts_publishes_for_it() -> None:
    async with Flock() as flock:

        @flock.agent
        async def packer(order: Order) -> None:
            async with asyncio.TaskGroup() as group:
                for number in range(3):
                    group.create_task(flock.publish(Step(number=number)))

        await flock.publish(Order())
        await flock.run_until_idle()
        assert {step.produced_by for step in await flock.store.query(Step)} == {"packer"}


# ---- async generators


async def test_p19_each_yield_commits_at_once() -> None:
    heard: asyncio.Queue[int] = asyncio.Queue()
    async with Flock() as flock:

        @flock.agent
        async def count(order: Order) -> AsyncIterator[Step]:
            for number in range(3):
                yield Step(number=number)
                assert await heard.get() == number

        @flock.agent
        async def listener(step: Step) -> None:
            await heard.put(step.number)

        order = await flock.publish(Order())
        report = await flock.run_until_idle()
        assert report.failures == ()
        steps = await flock.store.query(Step)
        assert [step.payload.number for step in steps] == [0, 1, 2]
        assert {(step.produced_by, step.parents) for step in steps} == {("count", (order.id,))}
        assert len({step.activation_id for step in steps}) == 1


async def test_p19_a_later_attempt_skips_slots_that_are_on_the_board() -> None:
    async with Flock() as flock:

        async def count(order: Order, ctx: Context) -> AsyncIterator[Step]:
            yield Step(number=10 * ctx.attempt)
            yield Step(number=10 * ctx.attempt + 1)
            if ctx.attempt == 1:
                raise RuntimeError("again")
            yield Step(number=10 * ctx.attempt + 2)

        flock.agent("count").consumes(Order).retry(2, delay=0).calls(count)
        await flock.publish(Order())
        report = await flock.run_until_idle()
        assert report.failures == ()
        assert [step.number for step in await flock.store.get_by_type(Step)] == [10, 11, 22]


async def test_p19_a_failure_keeps_earlier_yields() -> None:
    async with Flock() as flock:

        @flock.agent
        async def count(order: Order) -> AsyncIterator[Step]:
            yield Step(number=1)
            raise RuntimeError("no more")

        await flock.publish(Order())
        report = await flock.run_until_idle()
        assert [failure.message for failure in report.failures] == ["no more"]
        assert [step.number for step in await flock.store.get_by_type(Step)] == [1]


async def test_p19_the_bounds_of_a_generator_are_checked_at_its_end() -> None:
    async with Flock() as flock:

        async def count(order: Order) -> AsyncIterator[Step]:
            yield Step(number=1)

        flock.agent("count").consumes(Order).publishes(Step, fan_out=(2, 3)).calls(count)
        await flock.publish(Order())
        report = await flock.run_until_idle()
        assert [failure.error_type for failure in report.failures] == ["OutputError"]
        assert "made 1 of Step; fan_out asks for 2 to 3" in report.failures[0].message
        assert [step.number for step in await flock.store.get_by_type(Step)] == [1]


async def test_p19_a_generator_that_yields_an_undeclared_type_fails() -> None:
    async with Flock() as flock:

        async def count(order: Order) -> AsyncIterator[Any]:
            yield Step(number=1)
            yield Parcel()

        flock.agent("count").consumes(Order).publishes(Step).calls(count)
        await flock.publish(Order())
        report = await flock.run_until_idle()
        assert [failure.error_type for failure in report.failures] == ["OutputError"]
        assert [artifact.produced_by for artifact in await flock.store.list()] == ["external", "count", "count"]
        assert len(await flock.store.query(Failure)) == 1


async def test_p19_a_generator_is_closed_when_its_run_is_cancelled() -> None:
    started, closed = asyncio.Event(), list[str]()
    async with Flock() as flock:

        @flock.agent
        async def count(order: Order) -> AsyncIterator[Step]:
            try:
                yield Step(number=1)
                started.set()
                await asyncio.Event().wait()
            finally:
                closed.append("closed")

        await flock.publish(Order(), correlation_id="doomed")
        await started.wait()
        await flock.cancel("doomed")
        assert closed == ["closed"]
        assert [step.number for step in await flock.store.get_by_type(Step)] == [1]


async def test_p19_a_generator_can_not_be_one_of_several_candidates() -> None:
    flock = Flock()

    async def count(order: Order) -> AsyncIterator[Step]:
        yield Step(number=1)

    flock.agent("count").consumes(Order).best_of(2).calls(count)
    with pytest.raises(ConfigurationError, match="best_of"):
        await flock.ready()


async def test_p19_invoking_a_generator_gives_all_that_it_yielded() -> None:
    async with Flock() as flock:

        @flock.agent
        async def count(order: Order) -> AsyncIterator[Step]:
            for number in range(3):
                yield Step(number=number)

        outputs = await flock.invoke(count, Order())
        assert [artifact.payload.number for artifact in outputs] == [0, 1, 2]
