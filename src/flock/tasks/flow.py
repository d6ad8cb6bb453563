"""One start of a workflow: which of its tasks run when, and what a failure does to the others."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypedDict, get_args

from flock.model.errors import ConfigurationError
from flock.ports import Clock
from flock.tasks.context import Context
from flock.tasks.course import Course, OnLoop
from flock.tasks.keeping import Keeper, OnInputChange, fingerprint
from flock.tasks.progress import Progress, progress_of
from flock.tasks.status import TypeStatus
from flock.tasks.storages import Storage
from flock.tasks.task import Callback, Task

logger = logging.getLogger("flock")
_AT_ONCE: Final = 8


class StartOptions(TypedDict, total=False):
    """How a workflow is started, beside its mode; see `Settings`."""

    max_concurrency: int | None
    keep_going: bool
    resume: bool
    on_input_change: OnInputChange
    on_success: Callback | None
    on_failure: Callback | None
    progress: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a workflow is started.

    `max_concurrency` bounds how many tasks or groups run side by side (None: any number). `keep_going` leaves an error
    with its task. `resume` takes what the storage has, `on_input_change` says what if a step was given something else
    then. `on_success` or `on_failure` is called with `tasks=` at the end. `progress` shows it on the terminal.
    """

    max_concurrency: int | None = _AT_ONCE
    keep_going: bool = False
    resume: bool = False
    on_input_change: OnInputChange = "reuse"
    on_success: Callback | None = None
    on_failure: Callback | None = None
    progress: bool = False

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        most = self.max_concurrency
        if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
            raise ConfigurationError(f"max_concurrency= takes a number from 1, not {most!r}")
        if self.on_input_change not in get_args(OnInputChange):
            known = ", ".join(get_args(OnInputChange))
            raise ConfigurationError(f"on_input_change= is one of {known}, not {self.on_input_change!r}")

    def keeper(self, storage: Storage | None) -> Keeper | None:
        """Give what keeps results; raises ConfigurationError when there is nothing to resume from."""
        if storage is not None:
            return Keeper(storage, self.on_input_change)
        if self.resume:
            raise ConfigurationError("resume=True needs a storage: Workflow(Config(storage=FileStorage('results')))")
        return None


def settings_of(options: StartOptions) -> Settings:
    """Give the settings; raises ConfigurationError for an option that there is not."""
    odd = [name for name in options if name not in StartOptions.__annotations__]
    if odd:
        known = ", ".join(StartOptions.__annotations__)
        raise ConfigurationError(f"a workflow is started with {known}; there is no {odd[0]}=")
    return Settings(**options)


class Flow:
    """Runs the tasks of a workflow that have not completed, in one of its modes."""

    def __init__(
        self, tasks: Sequence[Task], workflow_id: str, clock: Clock, keeper: Keeper | None, settings: Settings
    ) -> None:
        """Run these."""
        self._tasks = tasks
        self._workflow_id = workflow_id
        self._way = OnLoop(clock)
        self._keeper = keeper
        self._settings = settings
        most = settings.max_concurrency
        self._slots = nullcontext() if most is None else asyncio.Semaphore(most)
        self._progress: Progress = progress_of(tasks, wanted=settings.progress)

    async def run(self, mode: str) -> None:
        """Run them in this mode; raises the first error of a task, unless errors stay with their tasks."""
        with self._progress:
            if mode == "parallel":
                nothing: Context[Any] = Context(workflow_id=self._workflow_id)
                await self._side_by_side([partial(self._one, task, nothing) for task in self._tasks if _is_open(task)])
            elif mode == "sequential_group":
                groups: dict[str, list[Task]] = {}
                for task in self._tasks:
                    groups.setdefault(task.group_name, []).append(task)
                await self._side_by_side([partial(self._in_order, group) for group in groups.values()])
            else:
                await self._in_order(self._tasks)

    async def _side_by_side(self, works: Sequence[Callable[[], Awaitable[None]]]) -> None:
        """Do these until all are done, or one raises, which cancels the others and is raised itself."""
        first: list[BaseException] = []

        async def guarded(work: Callable[[], Awaitable[None]]) -> None:
            try:
                async with self._slots:
                    await work()
            except BaseException as error:
                if first and isinstance(error, asyncio.CancelledError):
                    raise
                first.append(error)
                raise _EndedError from None  # which ends the group, whatever it was

        with suppress(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                for work in works:
                    _ = group.create_task(guarded(work))
        if first:
            raise first[0]

    async def _in_order(self, tasks: Sequence[Task]) -> None:
        previous: Context[Any] = Context(workflow_id=self._workflow_id)
        for task in tasks:
            if _is_open(task):
                await self._one(task, previous)
            if not _is_open(task):
                previous = task.current_context

    async def _one(self, task: Task, previous: Context[Any]) -> None:
        course = Course(task, self._workflow_id, previous, self._way)
        self._progress.begin(task)
        try:
            keeper = self._keeper
            await course.lead(course.execute_with_retry if keeper is None else partial(self._once, course, keeper))
        except Exception:
            if not self._settings.keep_going:
                raise
        finally:
            self._progress.end(task)
            if task.callback is not None:
                await tell(task.callback, task=task)

    async def _once(self, course: Course, keeper: Keeper) -> None:
        """Run the step, unless what it gave is known."""
        task, inputs = course.task, fingerprint(course.task)  # before the step can change them
        found = await keeper.find(task, inputs) if self._settings.resume else None
        if found is not None:
            task.current_context = found
        else:
            await keeper.keep(task, inputs, await course.execute_with_retry())


class _EndedError(Exception):
    """Something that runs side by side has raised."""


def _is_open(task: Task) -> bool:
    return task.status is not TypeStatus.COMPLETED


async def tell(who: Callback | None, **news: object) -> None:
    """Tell whoever wants to know; one who raises costs its own news and nothing else."""
    if who is None:
        return
    task = asyncio.current_task()
    before = 0 if task is None else task.cancelling()
    try:
        given = who(**news)
        if inspect.isawaitable(given):
            await given
    except (Exception, asyncio.CancelledError) as error:
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > before:
            raise  # the cancellation was not of the callback's making
        logger.exception("%s of a workflow failed", getattr(who, "__name__", who))
