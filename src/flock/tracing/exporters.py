"""Where spans and metrics can go: lines for people, a collector by OTLP."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, TextIO

from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    DataPointT,
    MetricExporter,
    MetricReader,
    MetricsData,
    NumberDataPoint,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SimpleSpanProcessor, SpanExporter
from opentelemetry.trace import StatusCode

from flock.model.errors import ConfigurationError

_OTLP = "opentelemetry.exporter.otlp.proto.http"


def console(stream: TextIO) -> tuple[SpanProcessor, MetricReader]:
    """Write a line per span when it ends, and a line per metric at shutdown."""
    spans = ConsoleSpanExporter(out=stream, formatter=span_line)
    points = ConsoleMetricExporter(out=stream, formatter=metric_lines)
    return SimpleSpanProcessor(spans), PeriodicExportingMetricReader(points, export_interval_millis=math.inf)


def otlp(target: str | bool) -> tuple[SpanProcessor, MetricReader]:  # noqa: FBT001 - the value of `setup(otlp=)`
    """Send to a collector over HTTP, in batches: to the base URL, or for True to where the environment says."""
    if isinstance(target, str) and not target.startswith(("http://", "https://")):
        raise ConfigurationError(f"otlp={target!r} is no base URL such as 'http://localhost:4318'")
    spans: SpanExporter = _otlp_class("trace_exporter", "OTLPSpanExporter")(**_endpoint(target, "traces"))
    points: MetricExporter = _otlp_class("metric_exporter", "OTLPMetricExporter")(**_endpoint(target, "metrics"))
    return BatchSpanProcessor(spans), PeriodicExportingMetricReader(points)


def span_line(span: ReadableSpan) -> str:
    """Say in one line what ran, how long, and where in its trace."""
    milliseconds = ((span.end_time or 0) - (span.start_time or 0)) / 1_000_000
    words = [f"{span.name} {milliseconds:.1f} ms"]
    if span.context is not None:
        words.append(f"trace={span.context.trace_id:032x} span={span.context.span_id:016x}")
    if span.parent is not None:
        words.append(f"parent={span.parent.span_id:016x}")
    if span.status.status_code is StatusCode.ERROR:
        words.append(f"ERROR {span.status.description}")
    return " ".join(words) + "\n"


def metric_lines(data: MetricsData) -> str:
    """Say in a line per metric and attributes what was measured."""
    lines = [f"{name}{_labels(point.attributes)} {_value(point)}\n" for name, point in data_points(data)]
    return "".join(lines)


def data_points(data: MetricsData | None) -> Iterator[tuple[str, DataPointT]]:
    """Give each measured point with the name of its metric."""
    for resource in data.resource_metrics if data is not None else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    yield metric.name, point


def _labels(attributes: Mapping[str, Any] | None) -> str:
    shown = ", ".join(f"{key}={value}" for key, value in sorted((attributes or {}).items()))
    return f"{{{shown}}}" if shown else ""


def _value(point: DataPointT) -> str:
    if isinstance(point, NumberDataPoint):
        return f"{point.value}"
    return f"count={point.count} sum={point.sum:.6g} min={point.min:.6g} max={point.max:.6g}"


def _otlp_class(module: str, name: str) -> Any:  # noqa: ANN401 - an optional dependency has no types when it is missing
    try:
        return getattr(import_module(f"{_OTLP}.{module}"), name)
    except ModuleNotFoundError as error:
        raise ConfigurationError('otlp= needs the OTLP exporter: pip install "flock-board[otlp]"') from error


def _endpoint(target: str | bool, signal: str) -> dict[str, str]:  # noqa: FBT001 - see `otlp`
    return {"endpoint": f"{target.rstrip('/')}/v1/{signal}"} if isinstance(target, str) else {}
