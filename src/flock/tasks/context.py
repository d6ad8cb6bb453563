"""What steps are given, and what they give."""

from __future__ import annotations

import datetime as dt
from typing import Any, Generic, TypeGuard, TypeVar, cast

from typing_extensions import override

T = TypeVar("T")


class Context(Generic[T]):
    """Any value, in `storage`, with the task that it comes from and when that made it (UTC; None for your own).

    A Context made of a Context is a copy of it. `made` is the same time in seconds.
    """

    __slots__ = ("made", "storage", "task_id", "workflow_id")

    def __init__(
        self,
        storage: T | Context[T] | None = None,
        task_id: int | None = None,
        workflow_id: str | None = None,
        made: float | None = None,
    ) -> None:
        """Hold a value."""
        if isinstance(storage, Context):
            of = cast("Context[Any]", storage)
            task_id, workflow_id, made = of.task_id, of.workflow_id, of.made
            storage = of.storage
        self.storage: T = cast("T", storage)
        self.task_id: int | None = task_id
        self.workflow_id: str | None = workflow_id
        self.made: float | None = made

    @property
    def time(self) -> dt.datetime | None:
        """When the task made it."""
        return None if self.made is None else dt.datetime.fromtimestamp(self.made, dt.UTC)

    @override
    def __repr__(self) -> str:
        return f"Context(storage={self.storage!r})"


def is_context(value: object) -> TypeGuard[Context[Any]]:
    """Say whether something is a Context."""
    return isinstance(value, Context)
