"""Providers whose outlets come and go: OpenTelemetry lets a process set its providers only once."""

from __future__ import annotations

import os

from opentelemetry import metrics
from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.util.types import Attributes
from typing_extensions import override


class Outlets(SpanProcessor):
    """A span processor that passes spans on to those that are connected at that moment."""

    def __init__(self) -> None:
        self.connected: tuple[SpanProcessor, ...] = ()

    def connect(self, processor: SpanProcessor) -> None:
        """Pass spans that start from now on to this processor, too."""
        self.connected = (*self.connected, processor)

    def disconnect(self, processor: SpanProcessor) -> None:
        """Pass nothing more to this processor."""
        self.connected = tuple(each for each in self.connected if each is not processor)

    @override
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        for processor in self.connected:
            processor.on_start(span, parent_context)

    @override
    def on_end(self, span: ReadableSpan) -> None:
        for processor in self.connected:
            processor.on_end(span)

    @override
    def shutdown(self) -> None:
        for processor in self.connected:
            processor.shutdown()

    @override
    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        flushed = [processor.force_flush(timeout_millis) for processor in self.connected]
        return all(flushed)


class _Ids(IdGenerator):
    """Draws ids from the system, and leaves the chance of `random` to those who have seeded it."""

    @override
    def generate_span_id(self) -> int:
        return int.from_bytes(os.urandom(8)) or 1

    @override
    def generate_trace_id(self) -> int:
        return int.from_bytes(os.urandom(16)) or 1


class OutletTracerProvider(TracerProvider):
    """A tracer provider that is silent while no outlet is connected, and knows whether payloads are wanted."""

    def __init__(self, resource: Resource) -> None:
        super().__init__(resource=resource, id_generator=_Ids())
        self.outlets = Outlets()
        self.payload_requests = 0
        self.add_span_processor(self.outlets)

    @property
    def silent(self) -> bool:
        """Whether spans go nowhere; read by the core."""
        return not self.outlets.connected

    @property
    def record_payloads(self) -> bool:
        """Whether spans shall carry payloads; read by the core."""
        return self.payload_requests > 0


class OutletMeterProvider(metrics.MeterProvider):
    """A meter provider that stands for the newest of those that are connected, and is silent while there is none."""

    def __init__(self) -> None:
        self.connected: tuple[MeterProvider, ...] = ()

    @property
    def silent(self) -> bool:
        """Whether metrics go nowhere; read by the core."""
        return not self.connected

    def connect(self, provider: MeterProvider) -> None:
        """Make this provider the newest."""
        self.connected = (*self.connected, provider)

    def disconnect(self, provider: MeterProvider) -> None:
        """Go back to the newest of the others."""
        self.connected = tuple(each for each in self.connected if each is not provider)

    @override
    def get_meter(
        self,
        name: str,
        version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> metrics.Meter:
        if not self.connected:
            return metrics.NoOpMeter(name, version, schema_url)
        return self.connected[-1].get_meter(name, version, schema_url, attributes)
