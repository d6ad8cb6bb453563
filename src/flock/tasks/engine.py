"""The two engines of a task: one is awaited, one blocks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

from flock.sync.driving import at_once
from flock.tasks.context import Context
from flock.tasks.course import Blocking, Course, OnLoop
from flock.tasks.task import Task

T = TypeVar("T")


class AsyncTaskEngine:
    """Runs one task on the running event loop."""

    def __init__(
        self, task: Task, workflow_id: str | None = None, previous_context: Context[Any] | None = None
    ) -> None:
        """Have not begun."""
        self.task = task
        self._course = Course(task, workflow_id, previous_context, OnLoop(task.config.clock))

    @asynccontextmanager
    async def start(self) -> AsyncGenerator[AsyncTaskEngine, None]:
        """Keep account of how the task stands, how long it takes, and how it ends; what is raised inside goes on."""
        try:
            await self._course.begin()
            yield self
        except BaseException as error:
            await self._course.end(error)
            raise
        await self._course.end(None)

    async def execute(self) -> Context[Any]:
        """Run the step once and give what came of it; raises what it raised, and TimeoutError."""
        return await self._course.execute()

    async def execute_with_retry(self) -> Context[Any]:
        """Run the step as often as its policy says and give what came of it; raises what the last try raised."""
        return await self._course.execute_with_retry()


class TaskEngine:
    """Runs one task and blocks meanwhile: functions in the calling thread, coroutines on a loop in the background."""

    def __init__(
        self, task: Task, workflow_id: str | None = None, previous_context: Context[Any] | None = None
    ) -> None:
        """Have not begun."""
        self.task = task
        self._course = Course(task, workflow_id, previous_context, Blocking(task.config.clock))

    @contextmanager
    def start(self) -> Generator[TaskEngine]:
        """Keep account of how the task stands, how long it takes, and how it ends; what is raised inside goes on."""
        try:
            at_once(self._course.begin())
            yield self
        except BaseException as error:
            at_once(self._course.end(error))
            raise
        at_once(self._course.end(None))

    def execute(self) -> Context[Any]:
        """Run the step once and give what came of it; raises what it raised, and TimeoutError."""
        return at_once(self._course.execute())

    def execute_with_retry(self) -> Context[Any]:
        """Run the step as often as its policy says and give what came of it; raises what the last try raised."""
        return at_once(self._course.execute_with_retry())
