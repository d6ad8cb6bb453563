"""What a Flock tells OpenTelemetry, by its API package alone.

The hot path asks `active()` once per activation and skips the rest while nobody listens.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import Token
from functools import lru_cache, partial
from operator import attrgetter
from typing import Any, Generic, TypeVar, cast

from opentelemetry import context, metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span
from pydantic import ValidationError
from pydantic_core import to_json
from typing_extensions import override

from flock.model.ledger import Lease
from flock.ports import AgentInfo, Counted
from flock.telemetry import names

T = TypeVar("T")


class _Source(Generic[T]):
    """What is made of the provider that is set at this moment. `look` is next to free and None while none is set."""

    __slots__ = ("_made", "_make", "_provider", "look")

    def __init__(self, getter: Any, variable: str, make: Callable[[object], T | None]) -> None:  # noqa: ANN401 - a function
        # The getter looks into the environment on every call while none is set: its variable says the same.
        known: dict[str, object] = getter.__globals__
        self.look: Callable[[], object] = partial(known.get, variable) if variable in known else getter
        self._make = make
        self.refresh()

    def refresh(self) -> None:
        self._provider: object = None
        self._made: T | None = None

    def get(self) -> T | None:
        found = self.look()
        if found is not self._provider:
            self._made = None if getattr(found, "silent", False) else self._make(found)
            self._provider = found
        return self._made


class _Instruments:
    """The histograms and counters of one meter."""

    def __init__(self, meter: metrics.Meter) -> None:
        self.durations = {
            name: meter.create_histogram(name, "s", text, explicit_bucket_boundaries_advisory=buckets)
            for name, text, buckets in names.DURATIONS
        }
        self.counters = {counted: meter.create_counter(*counter) for counted, counter in names.COUNTERS.items()}


def _tracer_of(provider: object) -> trace.Tracer | None:
    tracer = provider.get_tracer(names.SCOPE) if isinstance(provider, trace.TracerProvider) else None
    return None if isinstance(tracer, trace.NoOpTracer) else tracer


def _instruments_of(provider: object) -> _Instruments | None:
    meter = provider.get_meter(names.SCOPE) if isinstance(provider, metrics.MeterProvider) else None
    return None if meter is None or isinstance(meter, metrics.NoOpMeter) else _Instruments(meter)


_tracer = _Source(trace.get_tracer_provider, "_TRACER_PROVIDER", _tracer_of)
_instruments = _Source(metrics.get_meter_provider, "_METER_PROVIDER", _instruments_of)


def enabled() -> bool:
    """Tell whether spans go anywhere: a real tracer provider is set at this moment."""
    return _tracer.look() is not None and _tracer.get() is not None


def metering() -> bool:
    """Tell whether metrics go anywhere: a real meter provider is set at this moment."""
    return _instruments.look() is not None and _instruments.get() is not None


def active() -> bool:
    """Tell whether anybody listens, to spans or to metrics."""
    return (_tracer.look() or _instruments.look()) is not None and (_tracer.get() or _instruments.get()) is not None


def refresh() -> None:
    """Look at the providers anew; for a set-up that changes whether its providers are `silent`."""
    _tracer.refresh()
    _instruments.refresh()


class _OpenSpan:
    """A span that is current, for the task that started it, until its end; one that does nothing when off."""

    __slots__ = ("_token", "span")

    def __init__(
        self, name: str, attributes: Mapping[str, str | int], within: Context | None = None, links: Sequence[Link] = ()
    ) -> None:
        tracer = _tracer.get()
        if tracer is None:
            self.span: Span = trace.INVALID_SPAN
            self._token: Token[Context] | None = None
            return
        current = context.get_current()
        self.span = tracer.start_span(name, current if within is None else within, attributes=attributes, links=links)
        self._token = context.attach(trace.set_span_in_context(self.span, current))

    def __enter__(self) -> Span:
        return self.span

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self.end(error)

    def end(self, error: BaseException | None) -> None:
        if error is not None:
            _fail(self.span, error)
        if self._token is not None:
            context.detach(self._token)
            self.span.end()


class ActivationSpan(_OpenSpan):
    """An attempt that is under way; `span` is current for the task that started it and does nothing when off."""

    __slots__ = ("_agent", "_started", "_telemetry")

    def __init__(
        self,
        telemetry: OpenTelemetry,
        agent: str,
        attributes: Mapping[str, str | int],
        parent: Context,
        links: Sequence[Link],
    ) -> None:
        super().__init__(f"{names.INVOKE_AGENT} {agent}", attributes, parent, links)
        self._telemetry = telemetry
        self._agent = agent
        self._started = telemetry.elapsed()

    def record_inputs(self, payloads: Iterable[object]) -> None:
        """Put the payloads that the agent got on it; does nothing unless payloads were asked for."""
        self._record(names.INPUT_MESSAGES, payloads, role="user")

    def record_outputs(self, payloads: Iterable[object]) -> None:
        """Put the payloads that the agent made on it; does nothing unless payloads were asked for."""
        self._record(names.OUTPUT_MESSAGES, payloads, role="assistant", finish_reason="stop")

    @override
    def end(self, error: BaseException | None) -> None:
        """End it, in the task that started it, with what the attempt raised if it did."""
        self._telemetry.measure(names.AGENT_DURATION, self._started, error, names.AGENT_NAME, self._agent)
        super().end(error)

    def _record(self, key: str, payloads: Iterable[object], *, role: str, **more: str) -> None:
        span = self.span
        if span.is_recording() and self._telemetry.records_payloads:
            parts = [{"type": "text", "content": to_json(each, serialize_unknown=True).decode()} for each in payloads]
            span.set_attribute(key, json.dumps([{"role": role, "parts": [part], **more} for part in parts]))


class OpenTelemetry:
    """The spans and metrics of one Flock; see `flock.ports.Telemetry`."""

    __slots__ = ("_record_payloads", "_root", "_told", "elapsed")

    def __init__(
        self,
        orchestrator_id: str,
        name: str,
        *,
        record_payloads: bool = False,
        elapsed: Callable[[], float] = time.perf_counter,  # noqa: TID251 - spans are stamped with real time, too
    ) -> None:
        """Speak for one Flock. `elapsed` (s) is what durations are measured with."""
        self._root: dict[str, str | int] = {names.WORKFLOW: name, names.ORCHESTRATOR_ID: orchestrator_id}
        self._record_payloads = record_payloads
        self.elapsed = elapsed
        self._told: tuple[Span, str | None] = (trace.INVALID_SPAN, None)  # the span that was last asked for, as text
        # The getters load the providers that OpenTelemetry's own environment variables name, should there be any.
        trace.get_tracer_provider()
        metrics.get_meter_provider()

    enabled = staticmethod(enabled)
    metering = staticmethod(metering)
    active = staticmethod(active)

    @contextmanager
    def workflow(self, name: str, correlation_id: str) -> Generator[Span]:
        """Make the body a span `invoke_workflow {name}`, below the current one if there is one, and time it."""
        attributes = self._root | {
            names.OPERATION_NAME: names.INVOKE_WORKFLOW,
            names.WORKFLOW_NAME: name,
            names.CONVERSATION_ID: correlation_id,
            names.WORKFLOW: name,
        }
        started, error = self.elapsed(), None
        try:
            with _OpenSpan(f"{names.INVOKE_WORKFLOW} {name}", attributes) as span:
                yield span
        except BaseException as raised:
            error = raised
            raise
        finally:
            self.measure(names.WORKFLOW_DURATION, started, error, names.WORKFLOW_NAME, name)

    def engine(self, agent: str, name: str, *, candidate: int | None = None) -> AbstractContextManager[Span]:
        """Make the body a span `evaluate {name}` below the current one: one evaluation by one engine."""
        attributes: dict[str, str | int] = {names.AGENT_NAME: agent, names.ENGINE: name}
        if candidate is not None:
            attributes[names.CANDIDATE] = candidate
        return _OpenSpan(f"{names.EVALUATE} {name}", attributes)

    def start_attempt(self, agent: AgentInfo, lease: Lease) -> ActivationSpan | None:
        """Start the span of an attempt and make it current for this task; None when nobody listens.

        It is a child of what published its latest input alone, or of who called it directly, whatever is current where
        the task was made, which may be another run; it links to what published the other inputs.
        """
        if _tracer.get() is None and _instruments.get() is None:
            return None
        activation = lease.activation
        latest = max(activation.inputs, key=_sequence, default=None)
        trigger = activation.trace_context or (None if latest is None else latest.trace_context)
        parent = _context_of(trigger)
        attributes: dict[str, str | int] = {
            names.OPERATION_NAME: names.INVOKE_AGENT,
            names.AGENT_NAME: agent.name,
            names.CONVERSATION_ID: activation.run,
            names.ACTIVATION_ID: activation.id,
            names.ATTEMPT: lease.attempt,
            names.TRIGGER: activation.trigger,
        }
        if agent.description:
            attributes[names.AGENT_DESCRIPTION] = agent.description
        if agent.best_of > 1:
            attributes[names.CHOICE_COUNT] = agent.best_of
        if not parent:
            attributes |= self._root
        others = len(activation.inputs) > 1 or activation.trace_context is not None
        links = _links(trigger, [each.trace_context for each in activation.inputs]) if others else ()
        return ActivationSpan(self, agent.name, attributes, parent, links)

    def count(self, counted: Counted, amount: int = 1, **labels: str | None) -> None:
        """Add to a counter, under what is given of agent, outcome, reason and hook: names, never ids."""
        if (instruments := _instruments.get()) is not None:
            attributes = {names.LABELS[key]: value for key, value in labels.items() if value is not None}
            instruments.counters[counted].add(amount, attributes)

    def traceparent(self) -> str | None:
        """Return the current span as a W3C traceparent, to be kept on artifacts; None when off or outside any span.

        A span that is not sampled has one too, so that all of a trace is sampled or none of it.
        """
        if _tracer.look() is None or _tracer.get() is None:
            return None
        span, (last, told) = trace.get_current_span(), self._told
        if span is not last:
            current = span.get_span_context()
            text = f"00-{current.trace_id:032x}-{current.span_id:016x}-{current.trace_flags:02x}"
            told = text if current.is_valid else None
            self._told = span, told
        return told

    def measure(self, duration: str, started: float, error: BaseException | None, key: str, who: str) -> None:
        """Record how long something took that began at this time, and its error."""
        if (instruments := _instruments.get()) is not None:
            failed = {} if error is None else {names.ERROR_TYPE: error_type(error)}
            instruments.durations[duration].record(self.elapsed() - started, {key: who, **failed})

    @property
    def records_payloads(self) -> bool:
        """Whether payloads are wanted on spans."""
        return self._record_payloads or getattr(trace.get_tracer_provider(), "record_payloads", False)


_sequence = attrgetter("sequence")


def error_type(error: BaseException) -> str:
    """Return the canonical name of what was raised: low-cardinality, and without what its message says."""
    cls = type(error)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _fail(span: Span, error: BaseException) -> None:
    """Mark a span as failed. Cancellation has a type and a status but is no exception of the agent."""
    if not span.is_recording():
        return
    kind, message = error_type(error), _message(error)
    span.set_attribute(names.ERROR_TYPE, kind)
    if message is not None:
        span.record_exception(error)
    elif isinstance(error, Exception):
        frames = "".join(traceback.format_tb(error.__traceback__))
        span.add_event(names.EXCEPTION, {names.EXCEPTION_TYPE: kind, names.EXCEPTION_STACKTRACE: frames})
    span.set_status(trace.StatusCode.ERROR, kind if message is None else f"{kind}: {message}")


def _message(error: BaseException) -> str | None:
    """Return what an exception says; None when that may repeat a payload, or when saying it fails."""
    if not isinstance(error, Exception) or any(isinstance(each, ValidationError) for each in _causes(error)):
        return None
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - the guard of the user's `__str__`
        return None


def _causes(error: BaseException) -> Iterable[BaseException]:
    """Give an error, all that led to it, and all that are grouped in these."""
    pending: list[BaseException | None] = [error]
    seen: dict[int, BaseException] = {}
    while pending:
        found = pending.pop()
        if found is not None and id(found) not in seen:
            seen[id(found)] = found
            pending += [found.__cause__, found.__context__]
            if isinstance(found, BaseExceptionGroup):
                pending += cast("BaseExceptionGroup[BaseException]", found).exceptions
    return seen.values()


@lru_cache(maxsize=256)
def _context_of(text: str | None) -> Context:
    """Read a W3C traceparent; what is none gives an empty context, since a trace must never stop the work."""
    nothing = context.Context()
    try:
        _, trace_id, span_id, flags = (text or "").split("-")
        sampled = trace.TraceFlags(int(flags, 16))
        span = trace.SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=sampled)
    except ValueError:
        return nothing
    return trace.set_span_in_context(trace.NonRecordingSpan(span), nothing) if span.is_valid else nothing


def _links(trigger: str | None, inputs: Iterable[str | None]) -> list[Link]:
    """Link to what published the other inputs, each once."""
    others = dict.fromkeys(text for text in inputs if text != trigger)
    spans = [trace.get_current_span(_context_of(text)).get_span_context() for text in others]
    return [trace.Link(span) for span in spans if span.is_valid]
