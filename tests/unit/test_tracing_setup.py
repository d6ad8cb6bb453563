"""`flock.tracing.setup`: outlets that come and go."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import textwrap
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData, NumberDataPoint
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from typing_extensions import override

from flock.model.errors import ConfigurationError
from flock.model.ledger import Activation, Lease
from flock.model.visibility import Identity
from flock.ports import AgentInfo
from flock.telemetry import adapter
from flock.telemetry.adapter import OpenTelemetry
from flock.tracing import Tracing, setup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan

OTLP = "opentelemetry.exporter.otlp.proto.http"


class ListingExporter(SpanExporter):
    def __init__(self, endpoint: str | None = None) -> None:
        self.endpoint = endpoint
        self.names: list[str] = []
        self.closed = False

    @override
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.names += [span.name for span in spans]
        return SpanExportResult.SUCCESS

    @override
    def shutdown(self) -> None:
        self.closed = True


class ListingMetricExporter(MetricExporter):
    def __init__(self, endpoint: str | None = None) -> None:
        super().__init__()
        self.endpoint = endpoint
        self.names: list[str] = []

    @override
    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: object) -> MetricExportResult:
        found = metrics_data.resource_metrics[0].scope_metrics[0].metrics
        self.names += [metric.name for metric in found]
        return MetricExportResult.SUCCESS

    @override
    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    @override
    def shutdown(self, timeout_millis: float = 30_000, **kwargs: object) -> None:
        pass


@pytest.fixture
def flock() -> OpenTelemetry:
    return OpenTelemetry("orchestrator-1", "shop")


def work(flock: OpenTelemetry, name: str) -> None:
    with flock.workflow(name, "run-1"):
        flock.count("published")


def names(tracing: Tracing) -> list[str]:
    return [span.name for span in tracing.spans]


def published(tracing: Tracing) -> float:
    (point,) = tracing.metrics()["flock.artifacts.published"]
    assert isinstance(point, NumberDataPoint)
    return point.value


def run_python(program: str) -> str:
    """Run a program in a process whose providers are its own; return what it printed to standard error."""
    prelude = """
        from opentelemetry import metrics, trace
        from flock.telemetry import adapter
        from flock.telemetry.adapter import OpenTelemetry
        from flock.model.errors import ConfigurationError
        from flock.tracing import setup
        flock = OpenTelemetry("orchestrator-1", "shop")
        """
    code = textwrap.dedent(prelude) + textwrap.dedent(program)
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stderr  # noqa: S603 - our own program


def test_memory_keeps_spans_and_metrics_beyond_the_shutdown(flock: OpenTelemetry) -> None:
    with setup(memory=True) as tracing:
        work(flock, "checkout")

    assert names(tracing) == ["invoke_workflow checkout"]
    assert published(tracing) == 1


def test_memory_starts_empty_each_time_and_can_be_cleared(flock: OpenTelemetry) -> None:
    for _ in range(2):
        with setup(memory=True) as tracing:
            work(flock, "checkout")
            assert published(tracing) == 1
            assert names(tracing) == ["invoke_workflow checkout"]
            tracing.clear()
            assert names(tracing) == []


def test_after_the_last_shutdown_nobody_listens(flock: OpenTelemetry) -> None:
    tracing = setup(memory=True)
    assert adapter.active()

    tracing.shutdown()
    tracing.shutdown()

    assert not adapter.active()
    work(flock, "unseen")
    assert tracing.spans == ()
    assert isinstance(metrics.get_meter_provider().get_meter("other"), metrics.NoOpMeter)


def test_a_second_setup_gets_the_spans_too_and_the_metrics_while_it_lasts(flock: OpenTelemetry) -> None:
    with setup(memory=True) as first:
        work(flock, "before")
        with setup(memory=True) as second:
            work(flock, "meanwhile")
        work(flock, "after")

    assert names(first) == [f"invoke_workflow {name}" for name in ("before", "meanwhile", "after")]
    assert names(second) == ["invoke_workflow meanwhile"]
    assert published(second) == 1
    assert published(first) == 2


def test_the_provider_carries_the_name_of_the_service(flock: OpenTelemetry) -> None:
    printed = run_python("""
        with setup(memory=True, service_name="till") as named, setup(memory=True) as second:
            with flock.workflow("checkout", "run-1"):
                pass
        print(second.spans[0].resource.attributes["service.name"], file=__import__("sys").stderr)
        """)
    assert printed == "till\n"


@pytest.mark.parametrize(("environment", "name"), [({}, "flock"), ({"OTEL_SERVICE_NAME": "till"}, "till")])
def test_without_a_name_the_environment_decides(environment: dict[str, str], name: str) -> None:
    printed = run_python(f"""
        import os, sys
        os.environ.update({environment!r})
        with setup(memory=True) as memory, flock.workflow("checkout", "run-1"):
            pass
        print(trace.get_tracer_provider().resource.attributes["service.name"], file=sys.stderr)
        """)
    assert printed == f"{name}\n"


def test_the_console_gets_a_line_per_span_and_per_metric_at_the_end(flock: OpenTelemetry) -> None:
    stream = io.StringIO()
    with setup(console=stream), flock.workflow("checkout", "run-1"):
        inside = flock.traceparent()
        activation = Activation(
            "a1", "agent", "agent/0", (), "run-1", ("run-1",), 0, 1, "artifact", trace_context=inside
        )
        started = flock.start_attempt(AgentInfo(name="agent", identity=Identity("agent")), Lease(activation, 1, 1))
        assert started is not None
        flock.count("activations", agent="agent", outcome="failed")
        started.end(ValueError("no such item"))

    agent, workflow, *points = stream.getvalue().splitlines()
    assert re.match(r"invoke_agent agent \d+\.\d ms ", agent)
    assert agent.endswith("ERROR ValueError: no such item")
    assert " parent=" in agent
    assert workflow.startswith("invoke_workflow checkout ")
    assert " parent=" not in workflow
    assert "flock.activations{flock.outcome=failed, gen_ai.agent.name=agent} 1" in points
    assert any(
        line.startswith("gen_ai.invoke_workflow.duration{gen_ai.workflow.name=checkout} count=1") for line in points
    )


def test_the_console_is_standard_error_by_default() -> None:
    printed = run_python("""
        setup(console=True)
        with flock.workflow("checkout", "run-1"):
            flock.count("published")
        """)
    assert printed.startswith("invoke_workflow checkout ")
    assert "flock.artifacts.published 1" in printed


def test_an_exporter_is_fed_in_batches_and_closed_at_the_shutdown(flock: OpenTelemetry) -> None:
    exporter = ListingExporter()
    with setup(exporter=exporter) as tracing:
        work(flock, "checkout")
        assert exporter.names == []
        tracing.flush()
        assert exporter.names == ["invoke_workflow checkout"]
        assert not exporter.closed
        with pytest.raises(ConfigurationError, match="memory=True"):
            _ = tracing.spans
        with pytest.raises(ConfigurationError, match="memory=True"):
            tracing.metrics()
        tracing.clear()
    assert exporter.closed


@pytest.fixture
def otlp(monkeypatch: pytest.MonkeyPatch) -> list[ListingExporter | ListingMetricExporter]:
    """Stand in for the OTLP exporters; the list gets what is made of them."""
    made: list[ListingExporter | ListingMetricExporter] = []

    def spans(endpoint: str | None = None) -> ListingExporter:
        exporter = ListingExporter(endpoint)
        made.append(exporter)
        return exporter

    def points(endpoint: str | None = None) -> ListingMetricExporter:
        exporter = ListingMetricExporter(endpoint)
        made.append(exporter)
        return exporter

    for name, attribute, make in (
        ("trace_exporter", "OTLPSpanExporter", spans),
        ("metric_exporter", "OTLPMetricExporter", points),
    ):
        module = ModuleType(f"{OTLP}.{name}")
        setattr(module, attribute, make)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return made


@pytest.mark.parametrize(
    ("target", "endpoints"),
    [
        (True, [None, None]),
        ("http://collector:4318", ["http://collector:4318/v1/traces", "http://collector:4318/v1/metrics"]),
        ("https://host/otlp/", ["https://host/otlp/v1/traces", "https://host/otlp/v1/metrics"]),
    ],
)
def test_otlp_sends_spans_and_metrics_to_the_collector(
    flock: OpenTelemetry,
    otlp: list[ListingExporter | ListingMetricExporter],
    target: str | bool,  # noqa: FBT001 - as the parameter of setup
    endpoints: list[str | None],
) -> None:
    with setup(otlp=target):
        work(flock, "checkout")

    assert [exporter.endpoint for exporter in otlp] == endpoints
    assert otlp[0].names == ["invoke_workflow checkout"]
    assert set(otlp[1].names) == {"flock.artifacts.published", "gen_ai.invoke_workflow.duration"}


def test_otlp_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, f"{OTLP}.trace_exporter", None)

    with pytest.raises(ConfigurationError, match=r'pip install "flock-board\[otlp\]"'):
        setup(otlp=True)


@pytest.mark.parametrize("target", ["", "collector:4318"])
def test_otlp_to_something_that_is_no_url_is_refused(target: str) -> None:
    with pytest.raises(ConfigurationError, match="http://localhost:4318"):
        setup(otlp=target)


def test_a_setup_without_an_outlet_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="memory=True"):
        setup(otlp=False)


def test_flushing_or_closing_the_provider_reaches_every_outlet() -> None:
    run_python("""
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter
        lines = []
        class Stream:
            def write(self, line): lines.append(line)
            def flush(self): pass
        tracing = setup(exporter=ConsoleSpanExporter(out=Stream(), formatter=lambda span: span.name))
        with flock.workflow("first", "run-1"):
            pass
        assert lines == []
        assert trace.get_tracer_provider().force_flush()
        assert lines == ["invoke_workflow first"]
        with flock.workflow("second", "run-1"):
            pass
        trace.get_tracer_provider().shutdown()
        assert lines == ["invoke_workflow first", "invoke_workflow second"]
        """)


def test_payloads_are_wanted_only_while_somebody_asks() -> None:
    with setup(memory=True):
        provider = trace.get_tracer_provider()
        assert not getattr(provider, "record_payloads", None)
        with setup(memory=True, record_payloads=True):
            assert getattr(provider, "record_payloads", None)
        assert not getattr(provider, "record_payloads", None)


def test_the_providers_of_the_program_stay_and_its_spans_come_here_too() -> None:
    run_python("""
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.trace import TracerProvider
        tracers, meters = TracerProvider(), MeterProvider()
        trace.set_tracer_provider(tracers)
        metrics.set_meter_provider(meters)
        with setup(memory=True) as memory:
            with flock.workflow("checkout", "run-1"):
                flock.count("published")
        with flock.workflow("after", "run-1"):
            pass
        assert trace.get_tracer_provider() is tracers and metrics.get_meter_provider() is meters
        assert [span.name for span in memory.spans] == ["invoke_workflow checkout"]
        assert memory.metrics() == {}
        try:
            setup(memory=True, record_payloads=True)
        except ConfigurationError as error:
            assert "TracerProvider" in str(error)
        else:
            raise AssertionError
        """)


def test_a_provider_that_takes_no_outlets_is_refused() -> None:
    run_python("""
        trace.set_tracer_provider(trace.NoOpTracerProvider())
        try:
            setup(memory=True)
        except ConfigurationError as error:
            assert "NoOpTracerProvider" in str(error)
        else:
            raise AssertionError
        """)


def test_what_is_held_back_is_handed_over_when_the_program_ends() -> None:
    printed = run_python("""
        import sys
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter
        setup(exporter=ConsoleSpanExporter(out=sys.stderr, formatter=lambda span: span.name))
        with flock.workflow("checkout", "run-1"):
            pass
        """)
    assert printed == "invoke_workflow checkout"
