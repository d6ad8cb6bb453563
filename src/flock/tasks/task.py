"""A task: one step of a workflow, how it stands and what came of it."""

from __future__ import annotations

import datetime as dt
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

from typing_extensions import override

from flock.core.clock import SystemClock
from flock.core.publish import said
from flock.model.errors import ConfigurationError
from flock.ports import Clock
from flock.tasks.action import Action, step_of
from flock.tasks.context import Context
from flock.tasks.status import TypeStatus
from flock.tasks.storages import Storage
from flock.tasks.tracer import spans

Callback = Callable[..., object]
_METHODS: Final = {
    "storage": ("get", "put"),
    "tracer": ("start_task", "end_task", "start_workflow", "end_workflow"),
    "notify": ("send",),
    "log": ("info", "error"),
}


class Tracer(Protocol):
    """Is told of beginnings and ends; each of these may be a coroutine function."""

    def start_task(self, task: Any) -> object:  # noqa: ANN401 - a Task
        """Take note of a task that begins."""
        ...

    def end_task(self, task: Any) -> object:  # noqa: ANN401 - a Task
        """Take note of a task that has ended, in whatever way."""
        ...

    def start_workflow(self, workflow_id: str) -> object:
        """Take note of a workflow that begins."""
        ...

    def end_workflow(self, workflow_id: str) -> object:
        """Take note of a workflow that has ended."""
        ...


class Notify(Protocol):
    """Is told whenever a task stands otherwise; `send` may be a coroutine function."""

    def send(self, task: Any) -> object:  # noqa: ANN401 - a Task
        """Tell."""
        ...


class Log(Protocol):
    """Is told whenever a task stands otherwise, and of its errors; both may be coroutine functions."""

    def info(self, task: Any) -> object:  # noqa: ANN401 - a Task
        """Take note of how a task stands."""
        ...

    def error(self, task: Any) -> object:  # noqa: ANN401 - a Task
        """Take note of the last of a task's errors."""
        ...


@dataclass(slots=True, kw_only=True)
class Config:
    """What is around tasks: where results are kept, who is told of them, and the clock that they wait on.

    Without a tracer, workflows and tasks are spans of OpenTelemetry where a tracer provider is set.
    """

    storage: Storage | None = None
    tracer: Tracer | None = None
    notify: Notify | None = None
    log: Log | None = None
    clock: Clock = field(default_factory=SystemClock)

    def __post_init__(self) -> None:
        """Refuse what can't be told or asked. Raises ConfigurationError."""
        for name, methods in _METHODS.items():
            given = getattr(self, name)
            if given is not None and not all(callable(getattr(given, method, None)) for method in methods):
                wanted = " and ".join(f"{method}(...)" for method in methods)
                raise ConfigurationError(f"{name}= takes an object with {wanted}, not {given!r}")

    def told(self) -> Tracer | None:
        """Give the tracer that is told of what begins now."""
        return spans() if self.tracer is None else self.tracer


class TaskError(NamedTuple):
    """An error of a task: its type's name, its message and traceback as text, which try it ended, and itself."""

    type: str
    message: str
    traceback: str
    attempt: int
    exception: BaseException

    @classmethod
    def of(cls, error: BaseException, attempt: int) -> TaskError:
        """Take note of an error."""
        text = "".join(traceback.format_exception(error))
        return cls(type(error).__name__, said(error), text, attempt, error)


class Task:
    """One step of a workflow. An engine runs it and says how it stands; `began` and `ended` are UTC seconds."""

    def __init__(
        self,
        task_id: int = 0,
        step: object = None,
        callback: Callback | None = None,
        initial_context: object = None,
        workflow_id: str | None = None,
        config: Config | None = None,
        group_name: str = "default",
    ) -> None:
        """Have not begun. Raises ConfigurationError for what is no step, and for a callback that can't be called."""
        if callback is not None and not callable(callback):
            raise ConfigurationError(f"callback= takes a function that takes the task, not {callback!r}")
        self.task_id = task_id
        self.step: Action[..., Any] = step_of(step)
        _ = self.step.injected  # which refuses parameters that nobody fills
        self.callback = callback
        self.initial_context: Context[Any] = Context(initial_context)
        self.previous_context: Context[Any] = Context()
        self.current_context: Context[Any] = Context()
        self.workflow_id = workflow_id
        self.config = config or Config()
        self.group_name = group_name
        self.status = TypeStatus.NOT_STARTED
        self.errors: list[TaskError] = []
        self.retry_count = 0
        self.began: float | None = None
        self.ended: float | None = None

    @property
    def started_at(self) -> dt.datetime | None:
        """When it began (UTC)."""
        return None if self.began is None else dt.datetime.fromtimestamp(self.began, dt.UTC)

    @property
    def finished_at(self) -> dt.datetime | None:
        """When it ended (UTC)."""
        return None if self.ended is None else dt.datetime.fromtimestamp(self.ended, dt.UTC)

    @property
    def duration(self) -> float | None:
        """How long it took (s)."""
        return None if self.began is None or self.ended is None else self.ended - self.began

    @property
    def name(self) -> str:
        """The name of its step."""
        return self.step.name

    @override
    def __repr__(self) -> str:
        return f"<task {self.task_id} {self.name!r}: {self.status}>"
