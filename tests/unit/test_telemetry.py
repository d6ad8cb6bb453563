"""The spans and metrics of the core, seen through the SDK's in-memory outlets."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, StatusCode
from pydantic import BaseModel
from typing_extensions import override

from flock.model.artifact import Record
from flock.model.ledger import Activation, Lease, Trigger
from flock.model.visibility import Identity
from flock.ports import AgentInfo
from flock.telemetry import adapter
from flock.telemetry.adapter import OpenTelemetry as Telemetry
from flock.telemetry.names import AGENT_BUCKETS, AGENT_DURATION, WORKFLOW_BUCKETS, WORKFLOW_DURATION
from flock.tracing import Tracing, setup

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from opentelemetry.sdk.trace import ReadableSpan


class Order(BaseModel):
    item: str


class OrderRefused(Exception):  # noqa: N818 - named by the domain
    pass


class ForgetfulExporter(SpanExporter):
    @override
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


@pytest.fixture
def flock() -> Telemetry:
    return Telemetry("orchestrator-1", "shop")


@pytest.fixture
def memory() -> Iterator[Tracing]:
    with setup(memory=True) as tracing:
        yield tracing


def named(memory: Tracing, name: str) -> ReadableSpan:
    """Find the one span of this name."""
    (found,) = [span for span in memory.spans if span.name == name]
    return found


def trace_id(span: ReadableSpan) -> int:
    assert span.context is not None
    found: int = span.context.trace_id
    return found


def span_id(span: ReadableSpan) -> int:
    assert span.context is not None
    found: int = span.context.span_id
    return found


def parent_id(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent is not None else None


Attempt = tuple[AgentInfo, Lease]


def attempt_at(
    agent: str,
    run: str,
    id: str,
    *,
    description: str = "",
    attempt: int = 1,
    choice_count: int = 1,
    trigger: Trigger = "artifact",
    parent: str | None = None,
    links: Sequence[str | None] = (),
) -> Attempt:
    """Give an attempt whose latest input carries `parent`, and the others the links."""
    inputs = tuple(
        [
            Record(str(place), "order", Order(item="tea"), run, 0.0, trace_context=carried, sequence=place)
            for place, carried in enumerate([*links, parent], start=1)
        ]
    )
    activation = Activation(id, agent, f"{agent}/0", inputs, run, (run,), 0, 1, trigger)
    info = AgentInfo(name=agent, identity=Identity(agent), description=description, best_of=choice_count)
    return info, Lease(activation, 1, attempt)


@contextmanager
def activation(flock: Telemetry, firing: Attempt) -> Generator[None]:
    """Be current like an activation's body, and fail with it."""
    started = flock.start_attempt(*firing)
    assert started is not None
    try:
        yield
    except Exception as error:
        started.end(error)
        raise
    started.end(None)


def fire(flock: Telemetry, firing: Attempt, error: BaseException | None = None) -> str | None:
    """Run an activation; return the traceparent that its outputs would carry."""
    started = flock.start_attempt(*firing)
    assert started is not None
    carried = flock.traceparent()
    started.end(error)
    return carried


def test_a_workflow_span_has_the_names_of_the_genai_conventions_and_our_own(flock: Telemetry, memory: Tracing) -> None:
    with flock.workflow("checkout", "run-1") as span:
        assert span.is_recording()

    found = named(memory, "invoke_workflow checkout")
    assert found.kind is SpanKind.INTERNAL
    assert found.parent is None
    assert found.status.status_code is StatusCode.UNSET
    assert dict(found.attributes or {}) == {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.workflow.name": "checkout",
        "gen_ai.conversation.id": "run-1",
        "flock.workflow": "checkout",
        "flock.orchestrator_id": "orchestrator-1",
    }


def test_a_nested_workflow_is_a_child_of_the_outer_one(flock: Telemetry, memory: Tracing) -> None:
    with flock.workflow("outer", "run-1"), flock.workflow("inner", "run-2"):
        pass

    assert parent_id(named(memory, "invoke_workflow inner")) == span_id(named(memory, "invoke_workflow outer"))


def test_a_workflow_that_raises_has_an_error_type_a_status_and_the_exception(flock: Telemetry, memory: Tracing) -> None:
    with pytest.raises(ValueError, match="no such item"), flock.workflow("checkout", "run-1"):
        raise ValueError("no such item")

    found = named(memory, "invoke_workflow checkout")
    assert (found.attributes or {})["error.type"] == "ValueError"
    assert found.status.status_code is StatusCode.ERROR
    assert found.status.description == "ValueError: no such item"
    (event,) = found.events
    assert (event.attributes or {})["exception.message"] == "no such item"


def test_an_activation_is_a_child_of_what_published_its_trigger_and_links_to_its_other_inputs(
    flock: Telemetry, memory: Tracing
) -> None:
    with flock.workflow("checkout", "run-1"):
        root = flock.traceparent()
    first = fire(flock, attempt_at("first", "run-1", "a1", parent=root))
    second = fire(flock, attempt_at("second", "run-1", "a2", parent=root))

    fire(flock, attempt_at("join", "run-1", "a3", parent=first, links=(first, second, second, None, "nonsense")))

    join = named(memory, "invoke_agent join")
    assert parent_id(named(memory, "invoke_agent first")) == span_id(named(memory, "invoke_workflow checkout"))
    assert parent_id(join) == span_id(named(memory, "invoke_agent first"))
    assert [link.context.span_id for link in join.links] == [span_id(named(memory, "invoke_agent second"))]
    assert len({trace_id(span) for span in memory.spans}) == 1


def test_a_direct_call_is_a_child_of_its_caller_and_links_to_what_published_its_inputs(
    flock: Telemetry, memory: Tracing
) -> None:
    first = fire(flock, attempt_at("first", "run-1", "a1"))
    with flock.workflow("desk", "run-2"):
        info, lease = attempt_at("join", "run-2", "a2", trigger="direct", parent=first)
        lease.activation.trace_context = flock.traceparent()
        fire(flock, (info, lease))

    join = named(memory, "invoke_agent join")
    assert parent_id(join) == span_id(named(memory, "invoke_workflow desk"))
    assert [link.context.span_id for link in join.links] == [span_id(named(memory, "invoke_agent first"))]


def test_an_activation_span_says_what_fired_and_why(flock: Telemetry, memory: Tracing) -> None:
    with flock.workflow("checkout", "run-1"):
        root = flock.traceparent()
    firing = attempt_at(
        "judge", "run-1", "a1", description="Judges.", attempt=2, choice_count=3, trigger="timer", parent=root
    )
    fire(flock, firing)

    found = named(memory, "invoke_agent judge")
    assert found.kind is SpanKind.INTERNAL
    assert dict(found.attributes or {}) == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "judge",
        "gen_ai.agent.description": "Judges.",
        "gen_ai.conversation.id": "run-1",
        "gen_ai.request.choice.count": 3,
        "flock.activation_id": "a1",
        "flock.attempt": 2,
        "flock.trigger": "timer",
    }


def test_a_choice_count_of_one_is_not_set(flock: Telemetry, memory: Tracing) -> None:
    fire(flock, attempt_at("judge", "run-1", "a1"))

    assert "gen_ai.request.choice.count" not in (named(memory, "invoke_agent judge").attributes or {})


@pytest.mark.parametrize("parent", [None, "", "nonsense", "00-xyz-1-01", f"00-{'0' * 32}-{'0' * 16}-01"])
def test_an_activation_without_a_readable_parent_is_a_root_that_names_the_flock(
    flock: Telemetry, memory: Tracing, parent: str | None
) -> None:
    with flock.workflow("somebody else's run", "run-2"):
        fire(flock, attempt_at("first", "run-1", "a1", parent=parent))

    found = named(memory, "invoke_agent first")
    assert found.parent is None
    assert (found.attributes or {})["flock.workflow"] == "shop"
    assert (found.attributes or {})["flock.orchestrator_id"] == "orchestrator-1"


async def test_an_activation_in_a_task_made_inside_another_run_belongs_to_its_own_run(
    flock: Telemetry, memory: Tracing
) -> None:
    with flock.workflow("mine", "run-1"):
        mine = flock.traceparent()

    async def activation() -> None:
        fire(flock, attempt_at("agent", "run-1", "a1", parent=mine))

    with flock.workflow("theirs", "run-2") as theirs:
        await asyncio.create_task(activation())
        assert trace.get_current_span() is theirs

    assert parent_id(named(memory, "invoke_agent agent")) == span_id(named(memory, "invoke_workflow mine"))


def test_spans_of_users_and_engines_nest_below_the_activation(flock: Telemetry, memory: Tracing) -> None:
    with (
        activation(flock, attempt_at("agent", "run-1", "a1")),
        flock.engine("agent", "Echo", candidate=1),
        trace.get_tracer("user").start_as_current_span("of a user"),
    ):
        pass
    with flock.engine("agent", "Other"):
        pass

    engine = named(memory, "evaluate Echo")
    assert parent_id(engine) == span_id(named(memory, "invoke_agent agent"))
    assert parent_id(named(memory, "of a user")) == span_id(engine)
    assert dict(engine.attributes or {}) == {"gen_ai.agent.name": "agent", "flock.engine": "Echo", "flock.candidate": 1}
    assert "flock.candidate" not in (named(memory, "evaluate Other").attributes or {})


def test_after_an_activation_the_context_is_as_it_was(flock: Telemetry, memory: Tracing) -> None:
    with flock.workflow("checkout", "run-1") as span:
        fire(flock, attempt_at("agent", "run-1", "a1"))
        assert trace.get_current_span() is span
    assert flock.traceparent() is None
    assert len(memory.spans) == 2


def test_an_activation_that_fails_has_an_error_type_a_status_and_the_exception(
    flock: Telemetry, memory: Tracing
) -> None:
    with pytest.raises(OrderRefused), activation(flock, attempt_at("agent", "run-1", "a1")):
        raise OrderRefused("out of stock")

    found = named(memory, "invoke_agent agent")
    assert (found.attributes or {})["error.type"] == f"{__name__}.OrderRefused"
    assert found.status.status_code is StatusCode.ERROR
    (event,) = found.events
    assert event.name == "exception"
    assert (event.attributes or {})["exception.message"] == "out of stock"


class Unspeakable(Exception):  # noqa: N818 - named by what it is
    @override
    def __str__(self) -> str:
        raise OSError


def test_an_error_that_cannot_say_what_it_is_stops_nothing(flock: Telemetry, memory: Tracing) -> None:
    fire(flock, attempt_at("agent", "run-1", "a1"), Unspeakable())

    found = named(memory, "invoke_agent agent")
    assert found.status.description == f"{__name__}.Unspeakable"
    assert [event.name for event in found.events] == ["exception"]


def test_a_cancelled_activation_has_an_error_type_but_no_exception(flock: Telemetry, memory: Tracing) -> None:
    fire(flock, attempt_at("agent", "run-1", "a1"), asyncio.CancelledError())

    found = named(memory, "invoke_agent agent")
    assert (found.attributes or {})["error.type"] == "asyncio.exceptions.CancelledError"
    assert found.status.status_code is StatusCode.ERROR
    assert found.events == ()


def test_payloads_are_not_recorded_unless_asked(flock: Telemetry, memory: Tracing) -> None:
    started = flock.start_attempt(*attempt_at("agent", "run-1", "a1"))
    assert started is not None
    started.record_inputs([Order(item="secret")])
    started.record_outputs([Order(item="secret")])
    started.end(None)

    assert "secret" not in memory.spans[0].to_json()


def invalid_order() -> Exception:
    confidential = {"item": ["secret"]}
    try:
        Order.model_validate(confidential)
    except ValueError as error:
        return error
    raise AssertionError


def caused_by_an_invalid_order() -> Exception:
    group = ExceptionGroup("two", [ValueError("first"), invalid_order()])
    refused = RuntimeError("the agent's answer was refused")
    refused.__cause__ = group
    group.__context__ = refused
    return refused


@pytest.mark.parametrize("make", [invalid_order, caused_by_an_invalid_order])
def test_an_error_whose_message_repeats_a_payload_is_recorded_without_it(
    flock: Telemetry, memory: Tracing, make: Callable[[], Exception]
) -> None:
    error = make()
    fire(flock, attempt_at("agent", "run-1", "a1"), error)

    (found,) = memory.spans
    (event,) = found.events
    assert (event.attributes or {})["exception.type"] == adapter.error_type(error)
    assert found.status.status_code is StatusCode.ERROR
    assert "secret" not in found.to_json()


@pytest.mark.parametrize("asked_of", ["telemetry", "setup"])
def test_payloads_are_recorded_as_messages_when_asked(asked_of: str) -> None:
    flock = Telemetry("orchestrator-1", "shop", record_payloads=asked_of == "telemetry")
    with setup(memory=True, record_payloads=asked_of == "setup") as memory:
        started = flock.start_attempt(*attempt_at("agent", "run-1", "a1"))
        assert started is not None
        started.record_inputs([Order(item="tea"), object()])
        started.record_outputs([Order(item="cup")])
        started.end(None)

    attributes = memory.spans[0].attributes or {}
    inputs = attributes["gen_ai.input.messages"]
    assert isinstance(inputs, str)
    assert inputs.startswith('[{"role": "user", "parts": [{"type": "text", "content": "{\\"item\\":\\"tea\\"}"}]}')
    assert attributes["gen_ai.output.messages"] == (
        '[{"role": "assistant", "parts": [{"type": "text", "content": "{\\"item\\":\\"cup\\"}"}], '
        '"finish_reason": "stop"}]'
    )


def test_durations_are_measured_in_seconds_with_the_recommended_buckets(memory: Tracing) -> None:
    times = iter([0.0, 10.0, 12.5, 20.0])
    flock = Telemetry("orchestrator-1", "shop", elapsed=lambda: next(times))

    def fail() -> None:
        fire(flock, attempt_at("agent", "run-1", "a1"), ValueError("no"))
        raise KeyError

    with pytest.raises(KeyError), flock.workflow("checkout", "run-1"):
        fail()

    (of_agent,) = memory.metrics()["gen_ai.invoke_agent.duration"]
    (of_workflow,) = memory.metrics()["gen_ai.invoke_workflow.duration"]
    assert isinstance(of_agent, HistogramDataPoint)
    assert isinstance(of_workflow, HistogramDataPoint)
    assert (of_agent.count, of_agent.sum) == (1, 2.5)
    assert dict(of_agent.attributes or {}) == {"gen_ai.agent.name": "agent", "error.type": "ValueError"}
    assert tuple(of_agent.explicit_bounds) == AGENT_BUCKETS
    assert (of_workflow.count, of_workflow.sum) == (1, 20.0)
    assert dict(of_workflow.attributes or {}) == {"gen_ai.workflow.name": "checkout", "error.type": "KeyError"}
    assert tuple(of_workflow.explicit_bounds) == WORKFLOW_BUCKETS


def test_counters_add_up_by_what_is_given(flock: Telemetry, memory: Tracing) -> None:
    flock.count("published", 3)
    flock.count("activations", agent="agent", outcome="succeeded")
    flock.count("activations", agent="agent", outcome="succeeded")
    flock.count("activations", agent="agent", outcome="failed")
    flock.count("dropped", 2, reason="join expired")
    flock.count("hook errors", hook="on_idle")
    flock.count("skipped ticks", agent="clerk")

    counted = {
        (name, *sorted((point.attributes or {}).items())): point.value
        for name, points in memory.metrics().items()
        for point in points
        if isinstance(point, NumberDataPoint)
    }
    assert counted == {
        ("flock.artifacts.published",): 3,
        ("flock.activations", ("flock.outcome", "succeeded"), ("gen_ai.agent.name", "agent")): 2,
        ("flock.activations", ("flock.outcome", "failed"), ("gen_ai.agent.name", "agent")): 1,
        ("flock.artifacts.dropped", ("flock.reason", "join expired")): 2,
        ("flock.hook.errors", ("flock.hook", "on_idle")): 1,
        ("flock.schedule.ticks.skipped", ("gen_ai.agent.name", "clerk")): 1,
    }


def test_metrics_are_measured_without_spans_too(flock: Telemetry) -> None:
    reader = InMemoryMetricReader()
    with setup(metric_reader=reader):
        assert not adapter.enabled()
        assert adapter.metering()
        assert adapter.active()
        with flock.workflow("checkout", "run-1") as span, flock.engine("agent", "Echo") as engine:
            assert not span.is_recording()
            assert not engine.is_recording()
            fire(flock, attempt_at("agent", "run-1", "a1"), ValueError("no"))
        data = reader.get_metrics_data()

    assert data is not None
    names = {metric.name for metric in data.resource_metrics[0].scope_metrics[0].metrics}
    assert names == {AGENT_DURATION, WORKFLOW_DURATION}


def test_spans_are_made_without_metrics_too(flock: Telemetry) -> None:
    with setup(exporter=ForgetfulExporter()):
        assert adapter.enabled()
        assert not adapter.metering()
        assert adapter.active()
        assert fire(flock, attempt_at("agent", "run-1", "a1")) is not None


def test_the_context_of_a_span_that_is_not_sampled_is_carried_on(flock: Telemetry, memory: Tracing) -> None:
    carried = fire(flock, attempt_at("agent", "run-1", "a1", parent=f"00-{'a' * 32}-{'b' * 16}-00"))

    assert carried is not None
    assert carried.startswith(f"00-{'a' * 32}-")
    assert int(carried[-2:], 16) & 1 == 0
    assert memory.spans == ()


def test_while_nobody_listens_nothing_is_made(flock: Telemetry) -> None:
    before = trace.get_current_span()

    assert not adapter.enabled()
    assert not adapter.metering()
    assert not adapter.active()
    assert flock.start_attempt(*attempt_at("agent", "run-1", "a1")) is None
    assert flock.traceparent() is None
    flock.count("published")
    with flock.workflow("checkout", "run-1") as workflow, flock.engine("agent", "Echo") as engine:
        assert not workflow.is_recording()
        assert not engine.is_recording()
        assert trace.get_current_span() is before


def test_while_nobody_listens_errors_pass_through(flock: Telemetry) -> None:
    with pytest.raises(OrderRefused), flock.workflow("checkout", "run-1"):
        raise OrderRefused


@pytest.mark.parametrize(
    "program",
    [
        """
        flock = Telemetry("orchestrator-1", "shop")
        assert not adapter.active()
        assert flock.traceparent() is None
        assert not [name for name in sys.modules if name.startswith("opentelemetry.sdk")]
        """,
        """
        flock = Telemetry("orchestrator-1", "shop")
        from opentelemetry.sdk.trace import TracerProvider
        trace.set_tracer_provider(TracerProvider())
        assert adapter.enabled() and not adapter.metering()
        with flock.workflow("checkout", "run-1"):
            assert flock.traceparent()
        """,
        """
        trace.set_tracer_provider(trace.NoOpTracerProvider())
        metrics.set_meter_provider(metrics.NoOpMeterProvider())
        assert not adapter.active()
        """,
        """
        os.environ["OTEL_SDK_DISABLED"] = "true"
        from flock.tracing import setup
        with setup(memory=True) as memory:
            assert not adapter.active()
            with Telemetry("orchestrator-1", "shop").workflow("checkout", "run-1"):
                pass
        assert memory.spans == ()
        """,
        """
        os.environ["OTEL_PYTHON_TRACER_PROVIDER"] = "sdk_tracer_provider"
        os.environ["OTEL_PYTHON_METER_PROVIDER"] = "sdk_meter_provider"
        Telemetry("orchestrator-1", "shop")
        assert adapter.enabled() and adapter.metering()
        """,
    ],
    ids=["off", "set up after the Flock", "no-op providers", "disabled", "providers named by the environment"],
)
def test_whether_anybody_listens_follows_the_providers(program: str) -> None:
    prelude = """
        import os, sys
        from opentelemetry import metrics, trace
        from flock.telemetry import adapter
        from flock.telemetry.adapter import OpenTelemetry as Telemetry
        """
    code = textwrap.dedent(prelude) + textwrap.dedent(program)
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)  # noqa: S603 - our own program
