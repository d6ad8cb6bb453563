"""Hooks of agents and of the board: their order, their power and their limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from pydantic import BaseModel
from typing_extensions import override

from flock import (
    AgentComponent,
    Artifact,
    Context,
    Engine,
    EvalInputs,
    EvalResult,
    Event,
    Flock,
    OrchestratorComponent,
    OutputGroup,
)
from flock.core.components import ComponentRunner
from flock.core.signals import Signals
from flock.ports import AgentInfo, BoardHandle, Decision
from flock.telemetry.adapter import OpenTelemetry
from flock.testing.clock import FakeClock


class Order(BaseModel):
    number: int = 0


class Parcel(BaseModel):
    number: int = 0


class Diary(AgentComponent):
    """Writes down which hooks ran."""

    def __init__(self, diary: list[str], name: str = "", priority: float = 0) -> None:
        self.diary = diary
        self.name = name
        self.priority = priority

    @override
    async def on_initialize(self, agent: AgentInfo, ctx: Context) -> None:
        self.diary.append(f"{self.name}on_initialize")

    @override
    async def on_pre_consume(self, agent: AgentInfo, ctx: Context, artifacts: list[Artifact]) -> list[Artifact] | None:
        self.diary.append(f"{self.name}on_pre_consume")
        return None

    @override
    async def on_pre_evaluate(self, agent: AgentInfo, ctx: Context, inputs: EvalInputs) -> EvalInputs | None:
        self.diary.append(f"{self.name}on_pre_evaluate")
        return None

    @override
    async def on_post_evaluate(
        self, agent: AgentInfo, ctx: Context, inputs: EvalInputs, result: EvalResult
    ) -> EvalResult | None:
        self.diary.append(f"{self.name}on_post_evaluate")
        return None

    @override
    async def on_post_publish(self, agent: AgentInfo, ctx: Context, artifacts: list[Artifact]) -> None:
        self.diary.append(f"{self.name}on_post_publish {len(artifacts)} {artifacts[0].sequence if artifacts else ''}")

    @override
    async def on_error(self, agent: AgentInfo, ctx: Context, error: BaseException) -> None:
        self.diary.append(f"{self.name}on_error {type(error).__name__}")

    @override
    async def on_terminate(self, agent: AgentInfo, ctx: Context) -> None:
        self.diary.append(f"{self.name}on_terminate")


class Decides(OrchestratorComponent):
    """Answers `on_before_schedule` as told."""

    def __init__(self, *answers: Any, priority: float = 0) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.priority = priority

    @override
    async def on_before_schedule(
        self, board: BoardHandle, agent: AgentInfo, artifacts: list[Artifact]
    ) -> Decision | None:
        self.asked += 1
        answer: Decision | None = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer


class Watches(OrchestratorComponent):
    """Writes down which hooks ran."""

    def __init__(self) -> None:
        self.diary: list[str] = []

    @override
    async def on_initialize(self, board: BoardHandle) -> None:
        self.diary.append("initialize")

    @override
    async def on_artifact_published(self, board: BoardHandle, artifact: Artifact) -> None:
        self.diary.append(f"published {type(artifact.payload).__name__}")

    @override
    async def on_collect_artifacts(self, board: BoardHandle, agent: AgentInfo, artifacts: list[Artifact]) -> None:
        self.diary.append(f"collect {agent.name} {len(artifacts)}")

    @override
    async def on_before_agent_schedule(self, board: BoardHandle, agent: AgentInfo, artifacts: list[Artifact]) -> None:
        self.diary.append(f"before {agent.name}")

    @override
    async def on_agent_scheduled(self, board: BoardHandle, agent: AgentInfo, artifacts: list[Artifact]) -> None:
        self.diary.append(f"scheduled {agent.name}")

    @override
    async def on_idle(self, board: BoardHandle) -> None:
        self.diary.append("idle")

    @override
    async def on_shutdown(self, board: BoardHandle) -> None:
        self.diary.append("shutdown")


# ---- hooks of agents


async def test_the_hooks_of_an_agent_run_in_order_around_engines_and_commit() -> None:
    diary: list[str] = []
    async with Flock() as flock:

        async def pack(order: Order) -> Parcel:
            diary.append("engine")
            return Parcel()

        flock.agent("packer").consumes(Order).with_utilities(Diary(diary)).calls(pack)
        await flock.publish(Order())
        await flock.run_until_idle()
    assert diary == [
        "on_initialize", "on_pre_consume", "on_pre_evaluate", "engine", "on_post_evaluate", "on_post_publish 1 2",
        "on_terminate",
    ]  # fmt: skip


async def test_a_failing_attempt_runs_on_error_and_always_on_terminate() -> None:
    diary: list[str] = []
    async with Flock(clock=FakeClock()) as flock:
        builder = flock.agent("packer").consumes(Order).with_utilities(Diary(diary)).retry(2)
        builder.calls(lambda _: 1 / 0)
        await flock.publish(Order())
        await flock.run_until_idle()
    one = [
        "on_initialize", "on_pre_consume", "on_pre_evaluate", "on_error ZeroDivisionError", "on_terminate"
    ]  # fmt: skip
    assert diary == one * 2


async def test_a_cancelled_attempt_runs_on_terminate() -> None:
    diary: list[str] = []
    started = asyncio.Event()
    async with Flock() as flock:

        async def pack(order: Order) -> None:
            started.set()
            await asyncio.Event().wait()

        flock.agent("packer").consumes(Order).with_utilities(Diary(diary)).calls(pack)
        await flock.publish(Order(), correlation_id="doomed")
        await started.wait()
        await flock.cancel("doomed")
    assert diary[-1] == "on_terminate"
    assert not any(each.startswith("on_post_publish") for each in diary)


async def test_components_run_by_priority_lowest_first() -> None:
    diary: list[str] = []
    async with Flock() as flock:
        flock.agent("packer").consumes(Order).with_utilities(
            Diary(diary, "late ", 10), Diary(diary, "first ", -1), Diary(diary, "middle ")
        ).calls(lambda _: None)
        await flock.publish(Order())
        await flock.run_until_idle()
    assert diary[:3] == ["first on_initialize", "middle on_initialize", "late on_initialize"]


async def test_hooks_may_replace_what_passes_through() -> None:
    class Changes(AgentComponent):
        @override
        async def on_pre_consume(self, agent: AgentInfo, ctx: Context, artifacts: list[Artifact]) -> list[Artifact]:
            return [Artifact(Order(number=each.payload.number + 1)) for each in artifacts]

        @override
        async def on_pre_evaluate(self, agent: AgentInfo, ctx: Context, inputs: EvalInputs) -> EvalInputs:
            return EvalInputs([Artifact(Order(number=each.payload.number * 10)) for each in inputs.artifacts])

        @override
        async def on_post_evaluate(
            self, agent: AgentInfo, ctx: Context, inputs: EvalInputs, result: EvalResult
        ) -> EvalResult:
            (made,) = result.artifacts
            return EvalResult.from_objects(made, Parcel(number=made.payload.number + 1))

    async with Flock() as flock:

        async def pack(order: Order) -> Parcel:
            return Parcel(number=order.number)

        flock.agent("packer").consumes(Order).publishes(Parcel).with_utilities(Changes()).calls(pack)
        await flock.publish(Order(number=4))
        await flock.run_until_idle()
        assert [parcel.number for parcel in await flock.store.get_by_type(Parcel)] == [50, 51]


async def test_what_a_hook_adds_has_to_keep_the_declaration_too() -> None:
    class Adds(AgentComponent):
        @override
        async def on_post_evaluate(
            self, agent: AgentInfo, ctx: Context, inputs: EvalInputs, result: EvalResult
        ) -> EvalResult:
            return EvalResult.from_object(Order())

    async with Flock() as flock:

        async def pack(order: Order) -> Parcel:
            return Parcel()

        flock.agent("packer").consumes(Order).with_utilities(Adds()).calls(pack)
        await flock.publish(Order())
        report = await flock.run_until_idle()
        assert [failure.error_type for failure in report.failures] == ["OutputError"]


async def test_state_is_shared_between_hooks_and_engines_of_one_attempt() -> None:
    seen: list[object] = []

    class Notes(AgentComponent):
        @override
        async def on_initialize(self, agent: AgentInfo, ctx: Context) -> None:
            ctx.state["note"] = ctx.attempt

        @override
        async def on_terminate(self, agent: AgentInfo, ctx: Context) -> None:
            seen.append(ctx.state["seen"])

    async with Flock() as flock:

        async def pack(order: Order, ctx: Context) -> None:
            ctx.state["seen"] = f"note {ctx.state['note']}"

        flock.agent("packer").consumes(Order).with_utilities(Notes()).calls(pack)
        await flock.publish(Order())
        await flock.run_until_idle()
    assert seen == ["note 1"]


async def test_an_agent_of_several_output_groups_has_each_evaluated_and_one_commit() -> None:
    diary: list[str] = []

    class Makes(Engine):
        @override
        async def evaluate(
            self, agent: AgentInfo, ctx: Context, inputs: EvalInputs, output_group: OutputGroup
        ) -> BaseModel:
            (kind,) = output_group.types
            return kind()

    async with Flock() as flock:
        flock.agent("packer").consumes(Order).publishes(Parcel).publishes(Order).with_engines(Makes()).with_utilities(
            Diary(diary)
        )
        await flock.publish(Order())
        await flock.run_until_idle()
    assert [each for each in diary if "evaluate" in each] == ["on_pre_evaluate", "on_post_evaluate", "on_post_evaluate"]
    assert "on_post_publish 2 2" in diary


# ---- engine chains


class Adding(Engine):
    """Adds to the number and notes it."""

    def __init__(self, amount: int, *, silent: bool = False) -> None:
        self.amount = amount
        self.silent = silent

    @override
    async def on_pre_evaluate(self, agent: AgentInfo, ctx: Context, inputs: EvalInputs) -> EvalInputs:
        inputs.state[f"pre {self.amount}"] = True
        return inputs

    @override
    async def evaluate(
        self, agent: AgentInfo, ctx: Context, inputs: EvalInputs, output_group: OutputGroup
    ) -> EvalResult:
        number = inputs.artifacts[0].payload.number
        made = [] if self.silent else [Artifact(Parcel(number=number + self.amount))]
        state = {f"amount {self.amount}": number}
        return EvalResult(artifacts=made, state=state, metrics={f"m{self.amount}": 1.0}, logs=[f"{number}"])

    @override
    async def on_post_evaluate(
        self, agent: AgentInfo, ctx: Context, inputs: EvalInputs, result: EvalResult
    ) -> EvalResult:
        result.logs.append(f"post {self.amount}")
        return result


class Keeps(AgentComponent):
    """Keeps the results."""

    def __init__(self) -> None:
        self.results: list[EvalResult] = []

    @override
    async def on_post_evaluate(
        self, agent: AgentInfo, ctx: Context, inputs: EvalInputs, result: EvalResult
    ) -> EvalResult | None:
        self.results.append(result)
        return None


async def test_a_chain_hands_outputs_on_merges_state_and_accumulates_metrics_and_logs() -> None:
    keeps = Keeps()
    async with Flock() as flock:
        flock.agent("chain").consumes(Order).with_engines(Adding(1), Adding(10)).with_utilities(keeps)
        await flock.publish(Order(number=5))
        await flock.run_until_idle()
        assert [parcel.number for parcel in await flock.store.get_by_type(Parcel)] == [16]
    (result,) = keeps.results
    assert result.metrics == {"m1": 1.0, "m10": 1.0}
    assert result.logs == ["5", "post 1", "6", "post 10"]
    assert {"amount 1": 5, "amount 10": 6}.items() <= result.state.items()


async def test_an_engine_without_outputs_passes_its_inputs_on() -> None:
    async with Flock() as flock:
        flock.agent("chain").consumes(Order).with_engines(Adding(1, silent=True), Adding(10))
        await flock.publish(Order(number=5))
        await flock.run_until_idle()
        assert [parcel.number for parcel in await flock.store.get_by_type(Parcel)] == [15]


async def test_a_chain_whose_last_engine_gives_nothing_publishes_nothing() -> None:
    async with Flock() as flock:
        flock.agent("chain").consumes(Order).with_engines(Adding(1), Adding(10, silent=True))
        await flock.publish(Order(number=5))
        report = await flock.run_until_idle()
        assert (report.succeeded, len(await flock.store.list())) == (1, 1)


# ---- hooks of the board


async def test_on_before_schedule_may_skip_an_activation() -> None:
    events: list[Event] = []
    ran: list[int] = []
    async with Flock(components=[Decides("SKIP")], observers=[events.append]) as flock:

        async def pack(order: Order) -> Parcel:
            ran.append(order.number)
            return Parcel()

        flock.agent("packer").consumes(Order).calls(pack)
        await flock.publish(Order(number=1))
        await flock.publish(Order(number=2))
        report = await flock.run_until_idle()
    assert ran == [2]
    assert (report.succeeded, report.cancelled, report.failed) == (1, 1, 0)
    assert [event.kind for event in events if event.kind == "skipped"] == ["skipped"]


async def test_a_deferred_activation_is_really_tried_again_with_back_off() -> None:
    clock, events = FakeClock(), list[Event]()
    decides = Decides(*["DEFER"] * 9)
    async with Flock(clock=clock, components=[decides], observers=[events.append]) as flock:
        start = clock.now()
        seen: list[tuple[int, float]] = []

        async def pack(order: Order, ctx: Context) -> Parcel:
            seen.append((ctx.attempt, clock.now() - start))
            return Parcel()

        flock.agent("packer").consumes(Order).calls(pack)
        await flock.publish(Order())
        assert (await flock.run_until_idle()).succeeded == 1
    deferred = [event.at - start for event in events if event.kind == "deferred"]
    pauses = [later - earlier for earlier, later in pairwise(deferred)]
    assert pauses == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0])
    assert decides.asked == 10
    ((attempt, waited),) = seen
    assert attempt == 1  # deferrals are no attempts
    assert waited == pytest.approx(sum(pauses) + 5.0)


async def test_a_deferred_activation_holds_no_slot() -> None:
    ran: list[int] = []

    class Odd(OrchestratorComponent):
        @override
        async def on_before_schedule(
            self, board: BoardHandle, agent: AgentInfo, artifacts: list[Artifact]
        ) -> Decision | None:
            return "DEFER" if artifacts[0].payload.number == 1 and not ran else None

    async with Flock(clock=FakeClock(), components=[Odd()]) as flock:

        async def pack(order: Order) -> None:
            ran.append(order.number)

        flock.agent("packer").consumes(Order).max_concurrency(1).calls(pack)
        await flock.publish(Order(number=1))
        await flock.publish(Order(number=2))
        await flock.run_until_idle()
    assert ran == [2, 1]


async def test_the_first_component_that_objects_decides() -> None:
    last = Decides("DEFER", priority=5)
    async with Flock(clock=FakeClock(), components=[last, Decides("SKIP", priority=1)]) as flock:
        flock.agent("packer").consumes(Order).calls(lambda _: None)
        await flock.publish(Order())
        report = await flock.run_until_idle()
    assert (report.succeeded, report.cancelled) == (0, 1)


@pytest.mark.parametrize("answer", [None, "CONTINUE", "whatever", RuntimeError("broken")])
async def test_any_other_answer_and_a_raising_component_let_the_activation_run(answer: object) -> None:
    async with Flock(components=[Decides(answer)]) as flock:
        flock.agent("packer").consumes(Order).calls(lambda _: None)
        await flock.publish(Order())
        report = await flock.run_until_idle()
    assert report.succeeded == 1


async def test_the_boards_hooks_run_around_its_life() -> None:
    watches = Watches()
    async with Flock(components=[watches]) as flock:

        @flock.agent
        async def packer(order: Order) -> Parcel:
            return Parcel()

        await flock.publish(Order())
        await flock.run_until_idle()
        await asyncio.sleep(0.01)
    assert watches.diary == [
        "initialize", "published Order", "collect packer 1", "before packer", "scheduled packer", "published Parcel",
        "idle", "shutdown",
    ]  # fmt: skip


async def test_a_component_gets_a_narrow_handle_to_read_publish_and_cancel() -> None:
    handles: list[BoardHandle] = []

    class Audits(OrchestratorComponent):
        @override
        async def on_artifact_published(self, board: BoardHandle, artifact: Artifact) -> None:
            handles.append(board)
            if isinstance(artifact.payload, Order):
                await board.publish(Parcel(number=artifact.payload.number), correlation_id=artifact.correlation_id)
            else:
                assert len(await board.store.list()) == 2
                await board.cancel(artifact.correlation_id)

    async with Flock(components=[Audits()]) as flock:
        order = await flock.publish(Order(number=3))
        await flock.run_until_idle()
        (parcel,) = await flock.store.query(Parcel)
        assert (parcel.payload.number, parcel.correlation_id) == (3, order.correlation_id)
        assert (await flock.status(order.correlation_id)).state == "cancelled"
    assert not any(isinstance(handle, Flock) for handle in handles)
    assert {name for name in dir(handles[0]) if not name.startswith("_")} == {"store", "publish", "cancel"}


@pytest.mark.parametrize("hook", ["on_artifact_published", "on_collect_artifacts", "on_idle", "on_shutdown"])
async def test_a_raising_hook_of_the_board_is_recorded_once_and_disturbs_nobody(hook: str) -> None:
    events: list[Event] = []

    async def broken(*args: object) -> None:
        if hook != "on_artifact_published" or isinstance(args[-1].payload, Order):  # type: ignore[attr-defined]
            raise RuntimeError(hook)

    component = type("Broken", (OrchestratorComponent,), {hook: staticmethod(broken)})()
    async with Flock(components=[component], observers=[events.append]) as flock:

        @flock.agent
        async def packer(order: Order) -> Parcel:
            return Parcel()

        await flock.publish(Order())
        report = await flock.run_until_idle()
        assert (report.succeeded, report.failed) == (1, 0)
        await asyncio.sleep(0.01)
    assert [event.reason for event in events if event.kind == "error"] == [f"Broken.{hook}"]


# ---- ComponentRunner.run_hook


def runner(*components: object) -> tuple[ComponentRunner, list[Event]]:
    events: list[Event] = []
    signals = Signals(FakeClock(), OpenTelemetry("id", "name"), [events.append])
    return ComponentRunner(components, signals), events


class Says:
    """Answers `hook`, synchronously or not."""

    def __init__(self, answer: Callable[[str], object], priority: float = 0) -> None:
        self.hook = answer
        self.priority = priority


async def test_run_hook_gives_each_component_with_its_result_in_order_of_priority() -> None:
    late, early = Says(lambda text: text + "!", priority=2), Says(str.upper, priority=1)
    hooks, _ = runner(late, early)
    assert [(component, result) async for component, result in hooks.run_hook("hook", "a")] == [
        (early, "A"),
        (late, "a!"),
    ]


async def test_run_hook_awaits_asynchronous_hooks_and_passes_over_components_without_the_hook() -> None:
    async def later(text: str) -> str:
        await asyncio.sleep(0)
        return text * 2

    answers = Says(later)
    hooks, _ = runner(object(), answers)
    assert [pair async for pair in hooks.run_hook("hook", "a")] == [(answers, "aa")]


async def test_one_failing_component_does_not_stop_the_others() -> None:
    def broken(text: str) -> str:
        raise RuntimeError(text)

    well = Says(str.upper, priority=1)
    hooks, events = runner(Says(broken), well)
    assert [pair async for pair in hooks.run_hook("hook", "a")] == [(well, "A")]
    assert [(event.kind, event.reason) for event in events] == [("error", "Says.hook")]


async def test_run_hook_does_not_swallow_cancellation() -> None:
    async def cancelled(text: str) -> None:
        raise asyncio.CancelledError

    hooks, events = runner(Says(cancelled))
    with pytest.raises(asyncio.CancelledError):
        async for _ in hooks.run_hook("hook", "a"):
            pass
    assert events == []


async def test_the_runner_of_a_flock_is_reachable() -> None:
    component = Decides("SKIP")
    flock = Flock(components=[component])
    found = [pair async for pair in flock.component_runner.run_hook("on_before_schedule", None, None, [])]
    assert found == [(component, "SKIP")]
