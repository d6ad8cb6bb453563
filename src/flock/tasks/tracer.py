"""Spans of OpenTelemetry for workflows and their tasks, where a tracer provider is set."""

from __future__ import annotations

import asyncio
from contextvars import Token
from typing import Any, Final

from opentelemetry import context, trace
from opentelemetry.trace import Span, Status, StatusCode

from flock.tasks.status import TypeStatus
from flock.telemetry import adapter

_Open = tuple[Span, "Token[context.Context]"]


class Spans:
    """`run_workflow` around all of it and `run_task` around each task, which is current while its step runs."""

    def __init__(self) -> None:
        """Have none open."""
        self._open: dict[object, _Open] = {}

    def start_workflow(self, workflow_id: str) -> None:
        """Begin the span of a workflow."""
        self._start((workflow_id, _here()), "run_workflow", {"flock.workflow.id": workflow_id})

    def end_workflow(self, workflow_id: str) -> None:
        """End it."""
        self._end((workflow_id, _here()))

    def start_task(self, task: Any) -> None:  # noqa: ANN401 - a Task
        """Begin the span of a task."""
        of = {"flock.task.id": task.task_id, "flock.task.name": task.name, "flock.task.group": task.group_name}
        self._start(task, f"run_task {task.name}", {**of, "flock.workflow.id": task.workflow_id or ""})

    def end_task(self, task: Any) -> None:  # noqa: ANN401 - a Task
        """End it, with how the task stands and its errors."""
        if task not in self._open:
            return
        span, _ = self._open[task]
        span.set_attributes({"flock.task.status": str(task.status), "flock.task.retries": task.retry_count})
        for error in task.errors:
            span.record_exception(error.exception, {"flock.task.attempt": error.attempt})
        if task.status is not TypeStatus.COMPLETED and task.errors:
            last = task.errors[-1]
            span.set_attribute("error.type", last.type)
            span.set_status(Status(StatusCode.ERROR, last.message))
        self._end(task)

    def _start(self, key: object, name: str, attributes: dict[str, Any]) -> None:
        span = trace.get_tracer("flock").start_span(name, attributes=attributes)
        self._open[key] = (span, context.attach(trace.set_span_in_context(span)))

    def _end(self, key: object) -> None:
        found = self._open.pop(key, None)
        if found is not None:
            span, token = found
            context.detach(token)
            span.end()


def _here() -> object:
    """Tell two workflows of one id apart."""
    return asyncio.current_task()


_SPANS: Final = Spans()


def spans() -> Spans | None:
    """Give what makes spans, None while they would go nowhere."""
    return _SPANS if adapter.enabled() else None
