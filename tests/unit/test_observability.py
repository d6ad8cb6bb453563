"""What a running board tells OpenTelemetry: one run is one trace, whatever happens on the way."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode
from pydantic import BaseModel
from typing_extensions import override

from flock import (
    AfterVisibility,
    Artifact,
    BatchSpec,
    Context,
    EvalInputs,
    EvalResult,
    Failure,
    Flock,
    JoinSpec,
    OrchestratorComponent,
    When,
)
from flock.ports import BoardHandle
from flock.telemetry import adapter
from flock.testing.clock import FakeClock
from flock.tracing import Tracing, setup


class Order(BaseModel):
    number: int = 0
    note: str = ""


class Paid(BaseModel):
    number: int = 0


class Parcel(BaseModel):
    number: int = 0


class Truck(BaseModel):
    number: int = 0


@pytest.fixture
def memory() -> Iterator[Tracing]:
    with setup(memory=True) as tracing:
        yield tracing


def identity(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def parent(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def named(memory: Tracing, name: str) -> list[ReadableSpan]:
    return [span for span in memory.spans if span.name == name]


def one(memory: Tracing, name: str) -> ReadableSpan:
    (found,) = named(memory, name)
    return found


def attributes(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


def assert_one_trace(memory: Tracing) -> ReadableSpan:
    """Hold that all spans are of one trace, each but the root below another of them; gives the root."""
    spans = memory.spans
    assert len({span.context.trace_id for span in spans if span.context is not None}) == 1
    ids = {identity(span) for span in spans}
    orphans = [span.name for span in spans if parent(span) is not None and parent(span) not in ids]
    assert orphans == []
    (root,) = [span for span in spans if span.parent is None]
    return root


def totals(memory: Tracing, name: str) -> dict[tuple[tuple[str, object], ...], float]:
    """Add up a counter's points by their attributes."""
    found: dict[tuple[tuple[str, object], ...], float] = {}
    for point in memory.metrics().get(name, ()):
        key = tuple(sorted((point.attributes or {}).items()))
        found[key] = found.get(key, 0) + getattr(point, "value", 0) + getattr(point, "count", 0)
    return found


def shop(flock: Flock) -> None:
    async def pack(order: Order) -> Parcel:
        return Parcel(number=order.number)

    async def load(parcel: Parcel) -> Truck:
        return Truck(number=parcel.number)

    flock.agent("packer").description("packs orders").consumes(Order).calls(pack)
    flock.agent("loader").consumes(Parcel).calls(load)


# ---- parents, names, attributes


async def test_an_activation_is_a_child_of_what_published_its_trigger(memory: Tracing) -> None:
    async with Flock() as flock:
        shop(flock)
        async with flock.traced_run("delivery"):
            await flock.publish(Order())
            await flock.run_until_idle()
    root = assert_one_trace(memory)
    packer, loader = one(memory, "invoke_agent packer"), one(memory, "invoke_agent loader")
    assert root.name == "invoke_workflow delivery"
    assert parent(packer) == identity(root)
    assert parent(loader) == identity(packer)
    assert parent(one(memory, "evaluate pack")) == identity(packer)
    assert parent(one(memory, "evaluate load")) == identity(loader)


async def test_the_root_and_activations_carry_the_attributes_of_the_conventions(memory: Tracing) -> None:
    async with Flock(name="bakery") as flock:
        shop(flock)
        async with flock.traced_run("delivery", correlation_id="run-1") as span:
            assert span is trace.get_current_span()
            await flock.publish(Order())
            await flock.run_until_idle()
        (parcel,) = await flock.store.query(Parcel)
    root = attributes(one(memory, "invoke_workflow delivery"))
    assert root.pop("flock.orchestrator_id")
    assert root == {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.workflow.name": "delivery",
        "gen_ai.conversation.id": "run-1",
        "flock.workflow": "delivery",
    }
    assert attributes(one(memory, "invoke_agent packer")) == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "packer",
        "gen_ai.agent.description": "packs orders",
        "gen_ai.conversation.id": "run-1",
        "flock.activation_id": parcel.activation_id,
        "flock.attempt": 1,
        "flock.trigger": "artifact",
    }


async def test_a_publish_outside_any_run_makes_each_activation_of_outside_inputs_a_root(memory: Tracing) -> None:
    async with Flock(name="bakery") as flock:
        shop(flock)
        await flock.publish(Order())
        await flock.run_until_idle()
    root = assert_one_trace(memory)
    assert root.name == "invoke_agent packer"
    assert attributes(root)["flock.workflow"] == "bakery"
    assert attributes(root)["flock.orchestrator_id"]


async def test_the_span_of_the_program_around_a_run_is_its_parent(memory: Tracing) -> None:
    async with Flock() as flock:
        shop(flock)
        with trace.get_tracer("program").start_as_current_span("request"):
            async with flock.traced_run("delivery"):
                await flock.publish(Order())
                await flock.run_until_idle()
    root = assert_one_trace(memory)
    assert root.name == "request"
    assert parent(one(memory, "invoke_workflow delivery")) == identity(root)


async def test_agents_see_their_span(memory: Tracing) -> None:
    async with Flock() as flock:

        async def pack(order: Order, ctx: Context) -> None:
            ctx.span.set_attribute("mine", 7)
            trace.get_current_span().add_event("packing")

        flock.agent("packer").consumes(Order).calls(pack)
        await flock.publish(Order())
        await flock.run_until_idle()
    assert attributes(one(memory, "invoke_agent packer"))["mine"] == 7
    assert [event.name for event in one(memory, "evaluate pack").events] == ["packing"]


async def test_spans_that_a_body_starts_are_below_its_engine_also_in_threads(memory: Tracing) -> None:
    async with Flock() as flock:

        def pack(order: Order) -> Parcel:
            with trace.get_tracer("program").start_as_current_span("wrap"):
                return Parcel()

        flock.agent("packer").consumes(Order).calls(pack)
        async with flock.traced_run():
            await flock.publish(Order())
            await flock.run_until_idle()
    assert_one_trace(memory)
    assert parent(one(memory, "wrap")) == identity(one(memory, "evaluate pack"))


# ---- one trace through everything


async def test_through_a_gate_the_trigger_is_the_parent_and_other_inputs_are_links(memory: Tracing) -> None:
    async with Flock() as flock:

        async def first(order: Order) -> Parcel:
            return Parcel()

        async def second(paid: Paid) -> Truck:
            return Truck()

        flock.agent("first").consumes(Order).calls(first)
        flock.agent("second").consumes(Paid).calls(second)
        flock.agent("both").consumes(Parcel, Truck).calls(lambda _: None)
        async with flock.traced_run():
            await flock.publish(Order())
            await flock.run_until_idle()
            await flock.publish(Paid())
            await flock.run_until_idle()
    assert_one_trace(memory)
    both = one(memory, "invoke_agent both")
    assert parent(both) == identity(one(memory, "invoke_agent second"))
    assert [link.context.span_id for link in both.links] == [identity(one(memory, "invoke_agent first"))]


async def test_one_run_is_one_trace_through_joins_batches_conditions_and_timers(memory: Tracing) -> None:
    clock = FakeClock()
    async with Flock(clock=clock) as flock:
        shop(flock)
        join = JoinSpec(by=lambda each: each.number, within=dt.timedelta(minutes=1))
        flock.agent("joins").consumes(Order, Paid, join=join).calls(lambda _: None)
        flock.agent("batches").consumes(Truck, batch=BatchSpec(timeout=30)).calls(lambda _: None)
        flock.agent("waits").consumes(Paid, when=When.count(Truck).at_least(2)).calls(lambda _: None)
        flock.agent("later").consumes(Paid).calls(lambda _: None)
        async with flock.traced_run():
            for number in (1, 2):
                await flock.publish(Order(number=number))
                await flock.publish(Paid(number=number), visibility=AfterVisibility(ttl=dt.timedelta(seconds=5)))
            await clock.sleep(10)
            report = await flock.run_until_idle()
    root = assert_one_trace(memory)
    assert report.succeeded == 4 + 2 + 1 + 2 + 2
    assert root.name == "invoke_workflow workflow"
    (batch,) = named(memory, "invoke_agent batches")
    assert len(batch.links) == 1
    for joined in named(memory, "invoke_agent joins"):
        assert parent(joined) == identity(root)


async def test_every_attempt_is_a_span_of_its_own_with_the_same_parent(memory: Tracing) -> None:
    clock = FakeClock()
    async with Flock(clock=clock) as flock:

        async def pack(order: Order, ctx: Context) -> Parcel:
            if ctx.attempt < 3:
                raise RuntimeError("no paper")
            return Parcel()

        flock.agent("packer").consumes(Order).retry(3).calls(pack)
        async with flock.traced_run():
            await flock.publish(Order())
            await flock.run_until_idle()
    root = assert_one_trace(memory)
    attempts = named(memory, "invoke_agent packer")
    assert [attributes(span)["flock.attempt"] for span in attempts] == [1, 2, 3]
    assert {parent(span) for span in attempts} == {identity(root)}
    assert len({attributes(span)["flock.activation_id"] for span in attempts}) == 1
    assert [attributes(span).get("error.type") for span in attempts] == ["RuntimeError", "RuntimeError", None]
    assert [span.status.status_code for span in attempts] == [StatusCode.ERROR, StatusCode.ERROR, StatusCode.UNSET]


async def test_the_candidates_of_best_of_n_are_engine_spans_below_one_activation(memory: Tracing) -> None:
    def score(result: EvalResult) -> float:
        return float(result.artifacts[0].payload.number)

    async with Flock() as flock:

        async def write(order: Order, ctx: Context) -> Parcel:
            await asyncio.sleep(0)
            return Parcel(number=ctx.candidate)

        flock.agent("writer").consumes(Order).best_of(3, score=score).calls(write)
        flock.agent("reader").consumes(Parcel).calls(lambda _: None)
        async with flock.traced_run():
            await flock.publish(Order())
            await flock.run_until_idle()
    assert_one_trace(memory)
    writer = one(memory, "invoke_agent writer")
    assert attributes(writer)["gen_ai.request.choice.count"] == 3
    candidates = named(memory, "evaluate write")
    assert {parent(span) for span in candidates} == {identity(writer)}
    assert sorted(attributes(span)["flock.candidate"] for span in candidates) == [0, 1, 2]  # type: ignore[type-var]
    assert parent(one(memory, "invoke_agent reader")) == identity(writer)


async def test_what_an_agent_publishes_while_it_runs_or_yields_stays_in_the_trace(memory: Tracing) -> None:
    async with Flock() as flock:

        async def pack(order: Order) -> AsyncIterator[Parcel]:
            yield Parcel(number=1)
            await flock.publish(Paid())
            yield Parcel(number=2)

        flock.agent("packer").consumes(Order).calls(pack)
        flock.agent("loader").consumes(Parcel).calls(lambda _: None)
        flock.agent("cashier").consumes(Paid).calls(lambda _: None)
        async with flock.traced_run():
            await flock.publish(Order())
            await flock.run_until_idle()
    assert_one_trace(memory)
    below = {identity(one(memory, "invoke_agent packer")), *map(identity, named(memory, "evaluate pack"))}
    for name in ("loader", "cashier"):
        assert {parent(span) for span in named(memory, f"invoke_agent {name}")} <= below


async def test_an_invoke_inside_an_agent_is_below_it(memory: Tracing) -> None:
    async with Flock() as flock:
        shop(flock)

        async def boss(paid: Paid) -> None:
            await flock.invoke("packer", Order())

        flock.agent("boss").consumes(Paid).calls(boss)
        async with flock.traced_run():
            await flock.publish(Paid())
            await flock.run_until_idle()
    assert_one_trace(memory)
    packer = one(memory, "invoke_agent packer")
    assert parent(packer) == identity(one(memory, "evaluate boss"))
    assert attributes(packer)["flock.trigger"] == "direct"


async def test_an_invoke_outside_any_run_is_a_workflow_of_its_own(memory: Tracing) -> None:
    async with Flock() as flock:
        shop(flock)
        await flock.invoke("packer", Order())
        await flock.run_until_idle()
    root = assert_one_trace(memory)
    assert root.name == "invoke_workflow invoke packer"
    assert parent(one(memory, "invoke_agent packer")) == identity(root)


async def test_ask_is_a_workflow_too(memory: Tracing) -> None:
    async with Flock() as flock:
        shop(flock)
        await flock.ask(Order(), returns=Truck)
        await flock.run_until_idle()
    assert assert_one_trace(memory).name == "invoke_workflow ask Truck"


async def test_the_span_of_a_nested_run_is_a_child(memory: Tracing) -> None:
    async with Flock() as flock:
        shop(flock)
        async with flock.traced_run("outer", correlation_id="one"), flock.traced_run("inner", correlation_id="two"):
            await flock.publish(Order())
            await flock.run_until_idle()
    root = assert_one_trace(memory)
    inner = one(memory, "invoke_workflow inner")
    assert root.name == "invoke_workflow outer"
    assert parent(inner) == identity(root)
    assert parent(one(memory, "invoke_agent packer")) == identity(inner)
    assert attributes(inner)["gen_ai.conversation.id"] == "two"


async def test_a_run_nested_in_an_agent_is_below_its_engine(memory: Tracing) -> None:
    async with Flock() as flock:
        shop(flock)

        async def boss(paid: Paid) -> None:
            async with flock.traced_run("inner"):
                await flock.publish(Order())
                assert (await flock.run_until_idle()).succeeded == 2

        flock.agent("boss").consumes(Paid).calls(boss)
        async with flock.traced_run("outer"):
            await flock.publish(Paid())
            await flock.run_until_idle()
    assert_one_trace(memory)
    assert parent(one(memory, "invoke_workflow inner")) == identity(one(memory, "evaluate boss"))


async def test_concurrent_runs_do_not_mix(memory: Tracing) -> None:
    async with Flock() as flock:
        shop(flock)

        async def request(number: int) -> None:
            async with flock.traced_run("delivery", correlation_id=f"run {number}"):
                await flock.publish(Order(number=number))
                await flock.run_until_idle()

        await asyncio.gather(*(request(number) for number in range(5)))
    traces: dict[int, set[object]] = {}
    for span in memory.spans:
        assert span.context is not None
        if "gen_ai.conversation.id" in attributes(span):
            traces.setdefault(span.context.trace_id, set()).add(attributes(span)["gen_ai.conversation.id"])
    assert sorted(map(len, traces.values())) == [1] * 5
    assert len(memory.spans) == 5 * 5


async def test_where_runs_meet_the_activation_is_in_the_trace_of_its_latest_input_and_links_to_the_other(
    memory: Tracing,
) -> None:
    async with Flock() as flock:
        flock.agent("meets").consumes(Order, Paid, scope="board").calls(lambda _: None)
        async with flock.traced_run("one"):
            await flock.publish(Order())
        async with flock.traced_run("two"):
            await flock.publish(Paid())
            await flock.run_until_idle()
    meets = one(memory, "invoke_agent meets")
    assert parent(meets) == identity(one(memory, "invoke_workflow two"))
    assert [link.context.span_id for link in meets.links] == [identity(one(memory, "invoke_workflow one"))]


async def test_a_tick_is_a_root_that_names_the_flock(memory: Tracing) -> None:
    async def order(inputs: EvalInputs) -> Order:
        return Order()

    clock = FakeClock(autojump=False)
    async with Flock(clock=clock, name="bakery") as flock:
        flock.agent("ticker").schedule(every=10, max_repeats=2).calls(order)
        shop(flock)
        async with flock.traced_run("unrelated"):
            await flock.ready()
        await clock.advance(30)
        await flock.run_until_idle()
    ticks = named(memory, "invoke_agent ticker")
    assert [parent(span) for span in ticks] == [None, None]
    assert len({span.context.trace_id for span in ticks if span.context is not None}) == 2
    for span in ticks:
        found = attributes(span)
        assert (found["flock.trigger"], found["flock.workflow"]) == ("timer", "bakery")
    assert {parent(span) for span in named(memory, "invoke_agent packer")} <= set(map(identity, memory.spans))


async def test_a_failure_marks_the_activation_and_its_handler_is_below_it(memory: Tracing) -> None:
    async with Flock() as flock:
        flock.agent("packer").consumes(Order).calls(lambda _: 1 / 0)

        async def nurse(failure: Failure) -> None:
            pass

        flock.agent("nurse").consumes(Failure).calls(nurse)
        async with flock.traced_run():
            await flock.publish(Order())
            await flock.run_until_idle()
    root = assert_one_trace(memory)
    packer = one(memory, "invoke_agent packer")
    assert attributes(packer)["error.type"] == "ZeroDivisionError"
    assert packer.status.status_code is StatusCode.ERROR
    assert parent(one(memory, "invoke_agent nurse")) == identity(packer)
    assert root.status.status_code is StatusCode.UNSET


async def test_a_cancelled_activation_ends_its_span_with_its_type(memory: Tracing) -> None:
    started = asyncio.Event()
    async with Flock() as flock:

        async def pack(order: Order) -> None:
            started.set()
            await asyncio.Event().wait()

        flock.agent("packer").consumes(Order).calls(pack)
        async with flock.traced_run("doomed", correlation_id="doomed"):
            await flock.publish(Order())
            await started.wait()
            await flock.cancel("doomed")
    assert_one_trace(memory)
    assert attributes(one(memory, "invoke_agent packer"))["error.type"] == "asyncio.exceptions.CancelledError"


async def test_an_error_that_leaves_a_traced_run_marks_its_span(memory: Tracing) -> None:
    flock = Flock()

    async def fails() -> None:
        async with flock.traced_run("delivery"):
            raise KeyError("no van")

    with pytest.raises(KeyError):
        await fails()
    root = one(memory, "invoke_workflow delivery")
    assert attributes(root)["error.type"] == "KeyError"
    assert root.status.status_code is StatusCode.ERROR


# ---- metrics


async def test_durations_and_counters_are_measured(memory: Tracing) -> None:
    clock = FakeClock()
    async with Flock(clock=clock) as flock:
        shop(flock)

        async def flaky(paid: Paid, ctx: Context) -> None:
            if ctx.attempt == 1 or paid.number:
                raise RuntimeError("again")

        flock.agent("flaky").consumes(Paid).retry(2).calls(flaky)
        async with flock.traced_run("delivery"):
            await flock.publish_many([Order(), Order(), Paid(), Paid(number=1)])
            await flock.run_until_idle()
    assert totals(memory, "gen_ai.invoke_workflow.duration") == {(("gen_ai.workflow.name", "delivery"),): 1}
    assert totals(memory, "gen_ai.invoke_agent.duration") == {
        (("gen_ai.agent.name", "packer"),): 2,
        (("gen_ai.agent.name", "loader"),): 2,
        (("gen_ai.agent.name", "flaky"),): 1,
        (("error.type", "RuntimeError"), ("gen_ai.agent.name", "flaky")): 3,
    }
    assert totals(memory, "flock.activations") == {
        (("flock.outcome", "succeeded"), ("gen_ai.agent.name", "packer")): 2,
        (("flock.outcome", "succeeded"), ("gen_ai.agent.name", "loader")): 2,
        (("flock.outcome", "succeeded"), ("gen_ai.agent.name", "flaky")): 1,
        (("flock.outcome", "retried"), ("gen_ai.agent.name", "flaky")): 2,
        (("flock.outcome", "failed"), ("gen_ai.agent.name", "flaky")): 1,
    }
    assert sum(totals(memory, "flock.artifacts.published").values()) == 4 + 2 + 2 + 1


async def test_what_is_given_up_is_counted(memory: Tracing) -> None:
    clock = FakeClock(autojump=False)
    async with Flock(clock=clock, max_depth=1) as flock:

        async def loop(truck: Truck) -> Truck:
            return Truck()

        def picky(paid: Paid) -> bool:
            raise RuntimeError("picky")

        async def tick(ctx: Context) -> None:
            await clock.sleep(25)

        join = JoinSpec(by=lambda each: each.number, within=dt.timedelta(seconds=5))
        flock.agent("joins").consumes(Order, Paid, join=join).calls(lambda _: None)
        flock.agent("picky").consumes(Paid, where=picky).calls(lambda _: None)
        flock.agent("loop").consumes(Truck).prevent_self_trigger(prevent=False).calls(loop)
        flock.agent("ticker").schedule(every=10, max_repeats=3).calls(tick)
        await flock.publish(Order(number=1))
        await flock.publish(Paid(number=2))
        await flock.publish(Truck())
        await clock.advance(80)
        await flock.run_until_idle()
    dropped = {dict(key)["flock.reason"]: count for key, count in totals(memory, "flock.artifacts.dropped").items()}
    assert dropped == {"join expired": 2, "predicate raised": 1, "limit reached": 1}
    assert totals(memory, "flock.schedule.ticks.skipped") == {(("gen_ai.agent.name", "ticker"),): 2}


async def test_hooks_that_raise_are_counted(memory: Tracing) -> None:
    class Broken(OrchestratorComponent):
        @override
        async def on_artifact_published(self, board: BoardHandle, artifact: Artifact) -> None:
            raise RuntimeError("broken")

    async with Flock(components=[Broken()]) as flock:
        await flock.publish(Order())
    assert totals(memory, "flock.hook.errors") == {(("flock.hook", "Broken.on_artifact_published"),): 1}


# ---- payloads, and off


async def test_nothing_of_payloads_is_recorded_by_default(memory: Tracing) -> None:
    async with Flock() as flock:
        shop(flock)
        async with flock.traced_run():
            await flock.publish(Order(note="the treasure"), tags=["the tag"])
            await flock.run_until_idle()
    text = "".join(span.to_json() for span in memory.spans)
    assert "treasure" not in text
    assert "gen_ai.input.messages" not in text


async def test_payloads_are_recorded_when_asked_for() -> None:
    with setup(memory=True, record_payloads=True) as memory:
        async with Flock() as flock:
            shop(flock)
            await flock.publish(Order(note="the treasure"))
            await flock.run_until_idle()
    packer = attributes(one(memory, "invoke_agent packer"))
    assert "the treasure" in str(packer["gen_ai.input.messages"])
    assert "number" in str(packer["gen_ai.output.messages"])


async def test_off_is_off() -> None:
    with setup(memory=True) as memory:
        pass
    assert not adapter.active()
    async with Flock() as flock:
        shop(flock)

        async def look(paid: Paid, ctx: Context) -> None:
            assert not ctx.span.is_recording()
            assert not trace.get_current_span().get_span_context().is_valid

        flock.agent("look").consumes(Paid).calls(look)
        async with flock.traced_run("delivery") as span:
            assert not span.is_recording()
            await flock.publish_many([Order(), Paid()])
            report = await flock.run_until_idle()
        assert (report.succeeded, report.failures) == (3, ())
        assert {artifact.trace_context for artifact in await flock.store.list()} == {None}
    assert memory.spans == ()


async def test_tracing_may_be_switched_on_while_a_flock_works() -> None:
    async with Flock() as flock:
        shop(flock)
        await flock.publish(Order())
        await flock.run_until_idle()
        with setup(memory=True) as memory:
            async with flock.traced_run("delivery"):
                await flock.publish(Order())
                await flock.run_until_idle()
        await flock.publish(Order())
        await flock.run_until_idle()
    assert_one_trace(memory)
    assert len(memory.spans) == 5


async def test_artifacts_keep_the_context_they_were_published_in(memory: Tracing) -> None:
    async with Flock() as flock:
        shop(flock)
        async with flock.traced_run():
            order = await flock.publish(Order())
            await flock.run_until_idle()
        (parcel,) = await flock.store.query(Parcel)
    for artifact, name in ((order, "invoke_workflow workflow"), (parcel, "invoke_agent packer")):
        span = one(memory, name)
        assert span.context is not None
        assert artifact.trace_context is not None
        assert artifact.trace_context.startswith(f"00-{span.context.trace_id:032x}-{identity(span):016x}-")
