"""What a Flock tells OpenTelemetry, by its API package alone.

The hot path asks `active()` once per activation and skips the rest while nobody listens.
"""

from __future__ import annotations

import json
import time
import traceback
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeVar, cast

from opentelemetry import context, metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, StatusCode, TraceFlags
from pydantic import ValidationError
from pydantic_core import to_json

from flock.core import names
from flock.core.names import Counter

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from contextvars import Token

    from flock.model.ledger import Trigger

T = TypeVar("T")
Outcome = Literal["succeeded", "failed", "cancelled", "retried", "skipped"]

# The getters look into the environment on every call while no provider is set, which costs more than all else here.
_globals = trace.get_tracer_provider.__globals__
_tracer_provider: Callable[[], object] = (
    partial(_globals.get, "_TRACER_PROVIDER") if "_TRACER_PROVIDER" in _globals else trace.get_tracer_provider
)
_globals = metrics.get_meter_provider.__globals__
_meter_provider: Callable[[], object] = (
    partial(_globals.get, "_METER_PROVIDER") if "_METER_PROVIDER" in _globals else metrics.get_meter_provider
)
_UNSEEN: Final[object] = object()


def _watch(
    get: Callable[[], object], make: Callable[[object], T | None]
) -> tuple[Callable[[], T | None], Callable[[], None]]:
    """Give a function for what is made of the provider that is set at this moment, and one that makes it anew."""
    provider = _UNSEEN
    made: T | None = None

    def current() -> T | None:
        nonlocal provider, made
        found = get()
        if found is not provider:
            made = None if getattr(found, "silent", False) else make(found)
            provider = found
        return made

    def forget() -> None:
        nonlocal provider
        provider = _UNSEEN

    return current, forget


class _Instruments:
    """The histograms and counters of one meter."""

    __slots__ = ("agents", "counters", "workflows")

    def __init__(self, meter: metrics.Meter) -> None:
        self.workflows = meter.create_histogram(
            names.WORKFLOW_DURATION,
            unit="s",
            description="Duration of a workflow, from its start until its caller left it.",
            explicit_bucket_boundaries_advisory=names.WORKFLOW_BUCKETS,
        )
        self.agents = meter.create_histogram(
            names.AGENT_DURATION,
            unit="s",
            description="Duration of one attempt at an activation.",
            explicit_bucket_boundaries_advisory=names.AGENT_BUCKETS,
        )
        self.counters = {
            counter: meter.create_counter(counter.value, unit=unit, description=description)
            for counter, (unit, description) in names.COUNTED.items()
        }


def _tracer_of(provider: object) -> trace.Tracer | None:
    tracer = provider.get_tracer(names.SCOPE) if isinstance(provider, trace.TracerProvider) else None
    return None if isinstance(tracer, trace.NoOpTracer) else tracer


def _instruments_of(provider: object) -> _Instruments | None:
    meter = provider.get_meter(names.SCOPE) if isinstance(provider, metrics.MeterProvider) else None
    return None if meter is None or isinstance(meter, metrics.NoOpMeter) else _Instruments(meter)


_tracer, _forget_tracer = _watch(_tracer_provider, _tracer_of)
_instruments, _forget_instruments = _watch(_meter_provider, _instruments_of)


def enabled() -> bool:
    """Tell whether spans go anywhere: a real tracer provider is set at this moment."""
    return _tracer() is not None


def metering() -> bool:
    """Tell whether metrics go anywhere: a real meter provider is set at this moment."""
    return _instruments() is not None


def active() -> bool:
    """Tell whether anybody listens, to spans or to metrics."""
    return _tracer() is not None or _instruments() is not None


def refresh() -> None:
    """Look at the providers anew; for a set-up that changes whether its providers are `silent`."""
    _forget_tracer()
    _forget_instruments()


class Firing(NamedTuple):
    """What is known of an attempt at an activation when it starts.

    `parent` and `links` are the `trace_context` of the artifact that triggered it and of its other inputs.
    """

    agent: str
    correlation_id: str
    activation_id: str
    description: str | None = None
    attempt: int = 1
    choice_count: int = 1
    trigger: Trigger = "artifact"
    parent: str | None = None
    links: Sequence[str | None] = ()


class ActivationSpan:
    """An attempt that is under way; `span` is current for the task that started it and does nothing when off."""

    __slots__ = ("agent", "span", "started", "token")

    def __init__(self, agent: str, span: Span, token: Token[Context] | None, started: float) -> None:
        """Keep what `end_activation` needs."""
        self.agent = agent
        self.span = span
        self.token = token
        self.started = started


class Telemetry:
    """The spans and metrics of one Flock; each call is next to free while nobody listens."""

    __slots__ = ("_elapsed", "_name", "_orchestrator_id", "_record_payloads")

    def __init__(
        self,
        orchestrator_id: str,
        name: str,
        *,
        record_payloads: bool = False,
        elapsed: Callable[[], float] = time.perf_counter,  # noqa: TID251 - spans are stamped with real time, too
    ) -> None:
        """Speak for one Flock. `elapsed` (s) is what durations are measured with."""
        self._orchestrator_id = orchestrator_id
        self._name = name
        self._record_payloads = record_payloads
        self._elapsed = elapsed
        # The getters load the providers that OpenTelemetry's own environment variables name, should there be any.
        trace.get_tracer_provider()
        metrics.get_meter_provider()

    @contextmanager
    def workflow(self, name: str, correlation_id: str) -> Generator[Span]:
        """Make the body a span `invoke_workflow {name}`, below the current one if there is one, and time it."""
        if not active():
            yield trace.INVALID_SPAN
            return
        attributes = {
            names.OPERATION_NAME: names.INVOKE_WORKFLOW,
            names.WORKFLOW_NAME: name,
            names.CONVERSATION_ID: correlation_id,
            names.WORKFLOW: name,
            names.ORCHESTRATOR_ID: self._orchestrator_id,
        }
        started = self._elapsed()
        with _span(f"{names.INVOKE_WORKFLOW} {name}", attributes) as span:
            measured = {names.WORKFLOW_NAME: name}
            try:
                yield span
            except BaseException as error:
                measured[names.ERROR_TYPE] = error_type(error)
                raise
            finally:
                if (instruments := _instruments()) is not None:
                    instruments.workflows.record(self._elapsed() - started, measured)

    def engine(self, agent: str, name: str, *, candidate: int | None = None) -> AbstractContextManager[Span]:
        """Make the body a span `evaluate {name}` below the current one: one evaluation by one engine."""
        attributes: dict[str, str | int] = {names.AGENT_NAME: agent, names.ENGINE: name}
        if candidate is not None:
            attributes[names.CANDIDATE] = candidate
        return _span(f"{names.EVALUATE} {name}", attributes)

    def start_activation(self, firing: Firing) -> ActivationSpan | None:
        """Start the span of an attempt and make it current for this task; None when nobody listens.

        It is a child of `firing.parent` alone, whatever is current where the task was made: that may be another run.
        """
        tracer = _tracer()
        if tracer is None:
            if _instruments() is None:
                return None
            return ActivationSpan(firing.agent, trace.INVALID_SPAN, None, self._elapsed())
        parent = _span_context(firing.parent)
        span = tracer.start_span(
            f"{names.INVOKE_AGENT} {firing.agent}",
            Context() if parent is None else trace.set_span_in_context(NonRecordingSpan(parent), Context()),
            attributes=self._activation_attributes(firing, root=parent is None),
            links=_links(firing) if firing.links else None,
        )
        token = context.attach(trace.set_span_in_context(span, Context()))
        return ActivationSpan(firing.agent, span, token, self._elapsed())

    def end_activation(self, started: ActivationSpan, error: BaseException | None = None) -> None:
        """End the span of an attempt, in the task that started it, with what it raised if it did."""
        if error is not None:
            _fail(started.span, error)
        if (instruments := _instruments()) is not None:
            measured = {names.AGENT_NAME: started.agent}
            if error is not None:
                measured[names.ERROR_TYPE] = error_type(error)
            instruments.agents.record(self._elapsed() - started.started, measured)
        if started.token is not None:
            context.detach(started.token)
            started.span.end()

    def record_inputs(self, started: ActivationSpan, payloads: Iterable[object]) -> None:
        """Put the payloads that an agent got on its span; does nothing unless payloads were asked for."""
        if self._payloads_wanted(started.span):
            messages = [{"role": "user", "parts": [_part(payload)]} for payload in payloads]
            started.span.set_attribute(names.INPUT_MESSAGES, json.dumps(messages))

    def record_outputs(self, started: ActivationSpan, payloads: Iterable[object]) -> None:
        """Put the payloads that an agent made on its span; does nothing unless payloads were asked for."""
        if self._payloads_wanted(started.span):
            parts = [_part(payload) for payload in payloads]
            messages = [{"role": "assistant", "parts": [part], "finish_reason": "stop"} for part in parts]
            started.span.set_attribute(names.OUTPUT_MESSAGES, json.dumps(messages))

    def count(
        self,
        counter: Counter,
        amount: int = 1,
        *,
        agent: str | None = None,
        outcome: Outcome | None = None,
        reason: str | None = None,
        hook: str | None = None,
    ) -> None:
        """Add to a counter, under what is given of agent, outcome, reason and hook: names, never ids."""
        if (instruments := _instruments()) is None:
            return
        given = ((names.AGENT_NAME, agent), (names.OUTCOME, outcome), (names.REASON, reason), (names.HOOK, hook))
        attributes = {key: value for key, value in given if value is not None}
        instruments.counters[counter].add(amount, attributes)

    def traceparent(self) -> str | None:
        """Return the current span as a W3C traceparent, to be kept on artifacts; None when off or outside any span.

        A span that is not sampled has one too, so that all of a trace is sampled or none of it.
        """
        if _tracer() is None:
            return None
        current = trace.get_current_span().get_span_context()
        if not current.is_valid:
            return None
        return f"00-{current.trace_id:032x}-{current.span_id:016x}-{current.trace_flags:02x}"

    def _activation_attributes(self, firing: Firing, *, root: bool) -> dict[str, str | int]:
        attributes: dict[str, str | int] = {
            names.OPERATION_NAME: names.INVOKE_AGENT,
            names.AGENT_NAME: firing.agent,
            names.CONVERSATION_ID: firing.correlation_id,
            names.ACTIVATION_ID: firing.activation_id,
            names.ATTEMPT: firing.attempt,
            names.TRIGGER: firing.trigger,
        }
        if firing.description:
            attributes[names.AGENT_DESCRIPTION] = firing.description
        if firing.choice_count > 1:
            attributes[names.CHOICE_COUNT] = firing.choice_count
        if root:
            attributes[names.WORKFLOW] = self._name
            attributes[names.ORCHESTRATOR_ID] = self._orchestrator_id
        return attributes

    def _payloads_wanted(self, span: Span) -> bool:
        if not span.is_recording():
            return False
        return self._record_payloads or bool(getattr(_tracer_provider(), "record_payloads", False))


def error_type(error: BaseException) -> str:
    """Return the canonical name of what was raised: low-cardinality, and without what its message says."""
    cls = type(error)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


@contextmanager
def _span(name: str, attributes: Mapping[str, str | int]) -> Generator[Span]:
    tracer = _tracer()
    if tracer is None:
        yield trace.INVALID_SPAN
        return
    span = tracer.start_span(name, attributes=attributes)
    token = context.attach(trace.set_span_in_context(span))
    try:
        yield span
    except BaseException as error:
        _fail(span, error)
        raise
    finally:
        context.detach(token)
        span.end()


def _fail(span: Span, error: BaseException) -> None:
    """Mark a span as failed. Cancellation has a type and a status but is no exception of the agent."""
    if not span.is_recording():
        return
    kind = error_type(error)
    span.set_attribute(names.ERROR_TYPE, kind)
    if not isinstance(error, Exception):
        span.set_status(StatusCode.ERROR, kind)
    elif (message := _message(error)) is None:
        frames = "".join(traceback.format_tb(error.__traceback__))
        span.add_event(names.EXCEPTION, {names.EXCEPTION_TYPE: kind, names.EXCEPTION_STACKTRACE: frames})
        span.set_status(StatusCode.ERROR, kind)
    else:
        span.record_exception(error)
        span.set_status(StatusCode.ERROR, f"{kind}: {message}")


def _message(error: Exception) -> str | None:
    """Return what an error says; None when that may repeat a payload, or when saying it fails."""
    if any(isinstance(each, ValidationError) for each in _causes(error)):
        return None
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - the guard of the user's `__str__`
        return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Give an error, all that led to it, and all that are grouped in these."""
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()
    while pending:
        found = pending.pop()
        if found is None or id(found) in seen:
            continue
        yield found
        seen.add(id(found))
        pending += [found.__cause__, found.__context__]
        if isinstance(found, BaseExceptionGroup):
            pending += cast("BaseExceptionGroup[BaseException]", found).exceptions


def _span_context(text: str | None) -> SpanContext | None:
    """Read a W3C traceparent; what is none counts as absent, since a trace must never stop the work."""
    if text is None:
        return None
    try:
        _, trace_id, span_id, flags = text.split("-")
        found = SpanContext(
            int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=TraceFlags(int(flags, 16))
        )
    except ValueError:
        return None
    return found if found.is_valid else None


def _links(firing: Firing) -> list[Link]:
    """Link to the spans of the other inputs, each once."""
    others = dict.fromkeys(text for text in firing.links if text != firing.parent)
    return [Link(found) for found in map(_span_context, others) if found is not None]


def _part(payload: object) -> dict[str, str]:
    return {"type": "text", "content": to_json(payload, serialize_unknown=True).decode()}
