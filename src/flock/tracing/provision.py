"""`setup`: spans and metrics to the console, to a collector, to memory or to an exporter of one's own."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TextIO
from weakref import WeakKeyDictionary

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import DataPointT, InMemoryMetricReader, MetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from flock.model.errors import ConfigurationError
from flock.telemetry import adapter
from flock.tracing import exporters
from flock.tracing.outlets import OutletMeterProvider, Outlets, OutletTracerProvider

_outlets: WeakKeyDictionary[TracerProvider, Outlets] = WeakKeyDictionary()


@dataclass(slots=True)
class Plan:
    """The outlets that a `setup` asked for."""

    processors: list[SpanProcessor] = field(default_factory=list[SpanProcessor])
    readers: list[MetricReader] = field(default_factory=list[MetricReader])
    spans: InMemorySpanExporter | None = None
    points: InMemoryMetricReader | None = None

    def add(self, processor: SpanProcessor | None, reader: MetricReader | None) -> None:
        """Take an outlet for spans, for metrics or for both."""
        self.processors += [processor] if processor is not None else []
        self.readers += [reader] if reader is not None else []

    def keep(self) -> None:
        """Keep all spans and metrics in memory."""
        self.spans, self.points = InMemorySpanExporter(), InMemoryMetricReader()
        self.add(SimpleSpanProcessor(self.spans), self.points)


def setup(
    *,
    service_name: str | None = None,
    console: bool | TextIO = False,
    otlp: str | bool | None = None,
    memory: bool = False,
    exporter: SpanExporter | None = None,
    processor: SpanProcessor | None = None,
    metric_reader: MetricReader | None = None,
    record_payloads: bool = False,
) -> Tracing:
    """Send the spans and metrics of every Flock in this process where the arguments say, until `shutdown`.

    It may be called again and again: each call that is not shut down gets all spans, the newest one the metrics. Where
    the program has set SDK providers of its own, spans go there as before and also where this call says, metrics go
    there alone.

    Args:
        service_name: what this process is called; `OTEL_SERVICE_NAME`, else "flock". The first call decides for spans.
        console: a line per span, and at shutdown one per metric, on standard error or on the given stream.
        otlp: a collector's base URL, or True for what the `OTEL_EXPORTER_OTLP_*` variables say.
        memory: keep all for `Tracing.spans` and `Tracing.metrics()`.
        exporter: any other exporter of spans, fed in batches by a thread of its own.
        processor: any other processor of spans, called as each starts and ends.
        metric_reader: any other reader of metrics.
        record_payloads: put what agents get and make on their spans. It may well be confidential.

    Raises:
        ConfigurationError: when no outlet is named, the `otlp` extra is missing, or a foreign provider is in the way.
    """
    plan = Plan()
    if memory:
        plan.keep()
    if console is not False:
        plan.add(*exporters.console(sys.stderr if console is True else console))
    if otlp is not None and otlp is not False:
        plan.add(*exporters.otlp(otlp))
    if exporter is not None:
        plan.add(BatchSpanProcessor(exporter), None)
    plan.add(processor, metric_reader)
    if not plan.processors and not plan.readers:
        raise ConfigurationError("setup() needs an outlet: console=True, otlp=True, memory=True or exporter=...")
    return Tracing(plan, _resource(service_name), record_payloads=record_payloads)


class Tracing:
    """What one `setup` made: its outlets, and what memory kept. A context manager that shuts down at its end."""

    def __init__(self, plan: Plan, resource: Resource, *, record_payloads: bool) -> None:
        provider = _tracer_provider(resource)
        own = provider if isinstance(provider, OutletTracerProvider) else None
        if record_payloads and own is None:
            raise ConfigurationError(
                f"record_payloads: set it to True on the {type(provider).__name__} that is in place"
            )
        self._plan = plan
        self._outlets = _foreign_outlets(provider) if own is None else own.outlets
        self._payloads = own if record_payloads else None
        self._meters = MeterProvider(plan.readers, resource, shutdown_on_exit=False)
        self._switchboard = _meter_provider() if plan.readers else None
        self._kept: dict[str, list[DataPointT]] = {}
        self._open = True
        self._connect()
        atexit.register(self.shutdown)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        self.shutdown()

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """The spans that have ended so far, oldest first; for `memory=True`, after the shutdown too."""
        if self._plan.spans is None:
            raise ConfigurationError("spans are kept by setup(memory=True)")
        return self._plan.spans.get_finished_spans()

    def metrics(self) -> Mapping[str, Sequence[DataPointT]]:
        """Give the points measured so far by the name of their metric; for `memory=True`, after the shutdown too."""
        if self._plan.points is None:
            raise ConfigurationError("metrics are kept by setup(memory=True)")
        if self._open:
            self._kept = {}
            for name, point in exporters.data_points(self._plan.points.get_metrics_data()):
                self._kept.setdefault(name, []).append(point)
        return self._kept

    def clear(self) -> None:
        """Forget the spans in memory."""
        if self._plan.spans is not None:
            self._plan.spans.clear()

    def flush(self) -> None:
        """Hand over what is still held back, and wait until it is."""
        for processor in self._plan.processors:
            processor.force_flush()
        self._meters.force_flush()

    def shutdown(self) -> None:
        """Flush and close the outlets of this call; others go on. Calling it twice is fine."""
        if not self._open:
            return
        if self._plan.points is not None:
            self.metrics()
        self._open = False
        atexit.unregister(self.shutdown)
        self._disconnect()
        for processor in self._plan.processors:
            processor.shutdown()
        self._meters.force_flush()
        self._meters.shutdown()

    def _connect(self) -> None:
        for processor in self._plan.processors:
            self._outlets.connect(processor)
        if self._switchboard is not None:
            self._switchboard.connect(self._meters)
        if self._payloads is not None:
            self._payloads.payload_requests += 1
        adapter.refresh()

    def _disconnect(self) -> None:
        for processor in self._plan.processors:
            self._outlets.disconnect(processor)
        if self._switchboard is not None:
            self._switchboard.disconnect(self._meters)
        if self._payloads is not None:
            self._payloads.payload_requests -= 1
        adapter.refresh()


def _tracer_provider(resource: Resource) -> TracerProvider:
    """Give the provider that is set, which this sets if there is none yet."""
    if not isinstance(trace.get_tracer_provider(), TracerProvider):
        trace.set_tracer_provider(OutletTracerProvider(resource))
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        raise ConfigurationError(f"a tracer provider is set that takes no outlets: {type(provider).__name__}")
    return provider


def _foreign_outlets(provider: TracerProvider) -> Outlets:
    """Give what this has put into another's provider, which keeps it for good: once."""
    outlets = _outlets.get(provider)
    if outlets is None:
        outlets = _outlets[provider] = Outlets()
        provider.add_span_processor(outlets)
    return outlets


def _meter_provider() -> OutletMeterProvider | None:
    """Give our own provider, which this sets if there is none yet; None where the program has set another."""
    if not isinstance(metrics.get_meter_provider(), OutletMeterProvider | MeterProvider):
        metrics.set_meter_provider(OutletMeterProvider())
    provider = metrics.get_meter_provider()
    return provider if isinstance(provider, OutletMeterProvider) else None


def _resource(service_name: str | None) -> Resource:
    if service_name is not None:
        return Resource.create({SERVICE_NAME: service_name})
    found = Resource.create()
    unnamed = str(found.attributes.get(SERVICE_NAME, "")).startswith("unknown_service")
    return found.merge(Resource({SERVICE_NAME: "flock"})) if unnamed else found
