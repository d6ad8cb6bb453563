"""What steps are given, and what they give."""

from __future__ import annotations

import datetime as dt
from typing import Any, Generic, TypeVar, cast

from typing_extensions import override

T = TypeVar("T")


class Context(Generic[T]):
    """Any value, in `storage`, with the task that it comes from and when that made it (UTC; None for your own).

    A Context made of a Context is a copy of it.
    """

    __slots__ = ("storage", "task_id", "time", "workflow_id")

    def __init__(
        self,
        storage: T | Context[T] | None = None,
        task_id: int | None = None,
        workflow_id: str | None = None,
        time: dt.datetime | None = None,
    ) -> None:
        """Hold a value."""
        given: Context[Any] | None = storage if isinstance(storage, Context) else None
        if given is not None:
            task_id, workflow_id, time = given.task_id, given.workflow_id, given.time
        self.storage: T = cast("T", storage if given is None else given.storage)
        self.task_id: int | None = task_id
        self.workflow_id: str | None = workflow_id
        self.time: dt.datetime | None = time

    @override
    def __repr__(self) -> str:
        return f"Context(storage={self.storage!r})"
