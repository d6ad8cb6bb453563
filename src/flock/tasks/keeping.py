"""Results that outlive their process: what a step gave, and what it was given."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from collections.abc import Callable
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

from pydantic import BaseModel

from flock.model.errors import FlockError, StoreError
from flock.tasks.context import Context, is_context
from flock.tasks.course import in_thread
from flock.tasks.nodes import from_node, to_node
from flock.tasks.storages import Storage
from flock.tasks.task import Task

_LONGEST, _BEGINNING = 150, 60  # characters
OnInputChange = Literal["reuse", "reset", "raise"]


class InputChangedError(FlockError):
    """A step has completed in an earlier process, with other inputs than it would get now."""


class _Kept(BaseModel):
    """A result as it is kept."""

    step: str
    inputs: str
    result: Any


class Keeper(NamedTuple):
    """Keeps the results of a workflow's tasks by the workflow's id, their position and their step's name."""

    storage: Storage
    on_input_change: OnInputChange

    async def find(self, task: Task, inputs: str) -> Context[Any] | None:
        """Give what the task's step gave in an earlier process, None when it has to run.

        Raises InputChangedError when that is wanted, and StoreError for a result that can't be read.
        """
        try:
            text = await _ask(self.storage.get, _key(task))
            kept = None if text is None else _Kept.model_validate_json(text)
        except ValueError as error:  # of pydantic's, or of text that is none
            raise StoreError(f"what was kept of {task.name!r} can't be read: {error}") from error
        if kept is None:
            return None
        if kept.inputs != inputs and self.on_input_change != "reuse":
            if self.on_input_change == "raise":
                raise InputChangedError(
                    f"step {task.name!r} has completed before, with other inputs: on_input_change='reset' runs it "
                    "again, 'reuse' takes what it gave then"
                )
            return None
        given = from_node(kept.result)
        if not is_context(given):
            raise StoreError(f"what was kept of {task.name!r} can't be read: it is no result of a step")
        return given

    async def keep(self, task: Task, inputs: str, given: Context[Any]) -> None:
        """Keep what a step gave; raises StoreError for what text does not give back."""
        kept = _Kept(step=task.name, inputs=inputs, result=to_node(given))
        await _ask(self.storage.put, _key(task), kept.model_dump_json())


def fingerprint(task: Task) -> str:
    """Say in short what a step is given; raises StoreError for what text does not give back."""
    inputs = to_node([task.initial_context.storage, task.previous_context.storage])
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _key(task: Task) -> str:
    return "/".join([_part(str(part)) for part in (task.workflow_id, task.task_id, task.name)])


def _part(text: str) -> str:
    """Give a part of a key, short enough to be a file's name."""
    quoted = quote(text, safe="")
    return quoted if len(quoted) <= _LONGEST else f"{quoted[:_BEGINNING]}-{hashlib.sha256(text.encode()).hexdigest()}"


async def _ask(method: Callable[..., Any], *args: str) -> Any:  # noqa: ANN401 - what a storage gives
    """Ask a storage: here if it awaits, else in a thread."""
    if inspect.iscoroutinefunction(method):
        return await method(*args)
    return await in_thread(functools.partial(method, *args))  # and awaited, should it give what can be
