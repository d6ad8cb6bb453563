"""Workflows of plain functions: steps with retry, timeout and status, in an event loop or without one."""

from flock.tasks.action import Action, action
from flock.tasks.context import Context
from flock.tasks.engine import AsyncTaskEngine, TaskEngine
from flock.tasks.keeping import InputChangedError
from flock.tasks.policy import StepTimeoutError
from flock.tasks.repeating import Firings
from flock.tasks.status import TypeStatus
from flock.tasks.storages import BoardStorage, FileStorage, StepResult, Storage
from flock.tasks.task import Config, Task, TaskError
from flock.tasks.workflow import BlockingHandle, Handle, Workflow

__all__ = [
    "Action",
    "AsyncTaskEngine",
    "BlockingHandle",
    "BoardStorage",
    "Config",
    "Context",
    "FileStorage",
    "Firings",
    "Handle",
    "InputChangedError",
    "StepResult",
    "StepTimeoutError",
    "Storage",
    "Task",
    "TaskEngine",
    "TaskError",
    "TypeStatus",
    "Workflow",
    "action",
]
