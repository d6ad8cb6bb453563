"""What model calls cost, as their spans tell it."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import Span
from typing_extensions import override

from flock.tracing import Tracing, setup

_INPUT: Final = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens")
_OUTPUT: Final = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens")
_COST: Final = ("gen_ai.usage.cost", "operation.cost")  # USD; no convention has a name for it yet
_MODEL: Final = ("gen_ai.response.model", "gen_ai.request.model")
_OPERATION: Final = "gen_ai.operation.name"
_SUMS: Final = "invoke_"  # operations of that kind repeat what the calls below them say


@dataclass(slots=True)
class Tally:
    """Tokens, cost (USD) and models of one trace."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    models: dict[str, None] = field(default_factory=dict[str, None])
    calls: int = 0

    def add(self, attributes: Any) -> None:  # noqa: ANN401 - a mapping of what spans may hold
        """Count one span, unless it sums up others."""
        if str(attributes.get(_OPERATION, "")).startswith(_SUMS):
            return
        found = [_first(attributes, names) for names in (_INPUT, _OUTPUT, _COST, _MODEL)]
        if any(each is not None for each in found[:3]):
            self.calls += 1
            self.input_tokens += int(found[0] or 0)
            self.output_tokens += int(found[1] or 0)
            self.cost += float(found[2] or 0.0)
        if found[3] is not None:
            self.models[str(found[3])] = None

    def metrics(self) -> dict[str, Any]:
        """Give the metrics of a run; none when no model was called."""
        if not self.calls:
            return {}
        return {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens, "cost_usd": self.cost}


def _first(attributes: Any, names: tuple[str, ...]) -> Any:  # noqa: ANN401 - of a mapping of what spans may hold
    return next((attributes[name] for name in names if name in attributes), None)


class Meter(SpanProcessor):
    """Counts the spans of the traces that it was asked to; connected only while it was."""

    def __init__(self) -> None:
        """Count nothing yet."""
        self._lock = threading.Lock()
        self._tallies: dict[int, Tally] = {}
        self._open = 0
        self._tracing: Tracing | None = None

    @contextmanager
    def connected(self) -> Generator[None]:
        """Listen to spans during the body."""
        with self._lock:
            self._open += 1
            if self._tracing is None:
                self._tracing = setup(processor=self)
        try:
            yield
        finally:
            with self._lock:
                self._open -= 1
                if not self._open:
                    self._tracing.shutdown()
                    self._tracing = None

    @contextmanager
    def counting(self, span: Span) -> Generator[Tally]:
        """Count what ends in a span's trace during the body."""
        trace_id, tally = span.get_span_context().trace_id, Tally()
        self._tallies[trace_id] = tally
        try:
            yield tally
        finally:
            self._tallies.pop(trace_id, None)

    @override
    def on_end(self, span: ReadableSpan) -> None:
        context = span.get_span_context()
        tally = None if context is None else self._tallies.get(context.trace_id)
        if tally is not None and span.attributes:
            tally.add(span.attributes)
