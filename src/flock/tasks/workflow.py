"""Workflows: tasks in a queue, run one after the other, in groups, side by side or in the background."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from typing import Any, Final, Literal, get_args, overload

from flock.model.errors import ConfigurationError, FlockError
from flock.sync import run_sync
from flock.tasks.context import Context
from flock.tasks.engine import AsyncTaskEngine
from flock.tasks.keeping import Keeper, OnInputChange
from flock.tasks.status import TypeStatus
from flock.tasks.task import Callback, Config, Task

logger = logging.getLogger("flock")
Ended = Literal["sequential", "sequential_group", "parallel"]
AsyncEnded = Literal["async_sequential", "async_sequential_group", "async_parallel"]
Background = Literal["background"]
AsyncBackground = Literal["async_background"]
_MODES: Final = (*get_args(Ended), *get_args(Background))
_AT_ONCE: Final = 8
_OVER: Final = (TypeStatus.FAILED, TypeStatus.CANCELLED)


class TaskQueue:
    """The tasks of a workflow, in order."""

    def __init__(self, workflow_id: str, config: Config) -> None:
        """Have none."""
        self.queue: list[Task] = []
        self._workflow_id = workflow_id
        self._config = config

    def add(
        self,
        step: object,
        callback: Callback | None = None,
        initial_context: object = None,
        group_name: str = "default",
    ) -> TaskQueue:
        """Add a step, or each of a list of steps.

        `callback(task=...)` is called when its task has ended, in whatever way; it may be a coroutine function. Raises
        ConfigurationError and adds nothing.
        """
        steps: Sequence[object] = step if isinstance(step, (list, tuple)) else [step]
        first = len(self.queue)
        made = [
            Task(first + number, each, callback, initial_context, self._workflow_id, self._config, group_name)
            for number, each in enumerate(steps)
        ]
        self.queue += made
        return self

    def clear(self) -> None:
        """Have none any more."""
        self.queue.clear()

    def count(self) -> int:
        """Say how many there are."""
        return len(self.queue)

    __len__ = count

    def __iter__(self) -> Iterator[Task]:
        """Go through them."""
        return iter(self.queue)


class Handle:
    """A workflow that runs in the background of an event loop."""

    def __init__(self, workflow: Workflow, running: asyncio.Task[list[Task]]) -> None:
        """Wait for this."""
        self._workflow = workflow
        self._running = running

    @property
    def status(self) -> TypeStatus:
        """How the workflow stands."""
        return self._workflow.status

    async def wait(self) -> list[Task]:
        """Wait for its end and give its tasks; raises what ended it. Cancelling the wait leaves it running."""
        return await asyncio.shield(self._running)

    async def cancel(self) -> None:
        """Cancel it and wait for its clean-up."""
        self._running.cancel()
        await asyncio.wait({self._running})


class BlockingHandle:
    """A workflow that runs in the background, for code that blocks."""

    def __init__(self, handle: Handle) -> None:
        """Wait for this."""
        self._handle = handle

    @property
    def status(self) -> TypeStatus:
        """How the workflow stands."""
        return self._handle.status

    def wait(self, timeout: float | None = None) -> list[Task]:
        """Wait for its end and give its tasks; raises what ended it, and TimeoutError, which leaves it running."""
        return run_sync(self._handle.wait, timeout=timeout)

    def cancel(self) -> None:
        """Cancel it and wait for its clean-up."""
        run_sync(self._handle.cancel)


class Workflow:
    """Steps that belong together. Making one runs nothing; a task that has completed is not run again."""

    def __init__(self, config: Config | None = None, workflow_id: str | None = None) -> None:
        """Have no tasks; without an id it gets one."""
        self.config = config or Config()
        self.workflow_id = workflow_id or self.config.clock.new_id()
        self.task = TaskQueue(self.workflow_id, self.config)
        self._running = False
        self._background: asyncio.Task[list[Task]] | None = None

    @property
    def status(self) -> TypeStatus:
        """How it stands: what its tasks have come to, the worst first."""
        found = {task.status for task in self.task}
        if self._running:
            return TypeStatus.IN_PROGRESS
        for status in (TypeStatus.FAILED, TypeStatus.CANCELLED, TypeStatus.PAUSED):
            if status in found:
                return status
        return TypeStatus.COMPLETED if found == {TypeStatus.COMPLETED} else TypeStatus.NOT_STARTED

    @overload
    async def astart(
        self,
        mode: AsyncEnded | Ended = ...,
        *,
        max_concurrency: int | None = ...,
        keep_going: bool = ...,
        resume: bool = ...,
        on_input_change: OnInputChange = ...,
        on_success: Callback | None = ...,
        on_failure: Callback | None = ...,
    ) -> list[Task]: ...

    @overload
    async def astart(
        self,
        mode: AsyncBackground | Background,
        *,
        max_concurrency: int | None = ...,
        keep_going: bool = ...,
        resume: bool = ...,
        on_input_change: OnInputChange = ...,
        on_success: Callback | None = ...,
        on_failure: Callback | None = ...,
    ) -> Handle: ...

    async def astart(
        self,
        mode: AsyncEnded | Ended | AsyncBackground | Background = "async_sequential",
        *,
        max_concurrency: int | None = _AT_ONCE,
        keep_going: bool = False,
        resume: bool = False,
        on_input_change: OnInputChange = "reuse",
        on_success: Callback | None = None,
        on_failure: Callback | None = None,
    ) -> list[Task] | Handle:
        """Run the tasks that have not completed, and give all.

        "async_sequential" runs one after the other; "async_sequential_group" does that in each group, and the groups
        side by side; "async_parallel" runs all side by side, at most `max_concurrency` at once; "async_background"
        gives a handle at once, and runs one after the other. The first error ends the workflow, cancels what runs
        beside it, and is raised; with `keep_going` it stays with its task. `on_success(tasks=...)` or
        `on_failure(tasks=...)` is called at the end.

        A storage keeps what each step gives. With `resume` a step that has completed under this workflow's id, in
        whatever process, gives that again and is not run; `on_input_change` says what if it was given something else
        then: "reuse" what it gave, "reset" it and run, or "raise". Raises ConfigurationError, and FlockError when it
        runs already.
        """
        name = mode.removeprefix("async_")
        if name not in _MODES:
            known = ", ".join(f"async_{each}" for each in _MODES)
            raise ConfigurationError(f"mode= is one of {known}, not {mode!r}")
        if max_concurrency is not None and (isinstance(max_concurrency, bool) or max_concurrency < 1):
            raise ConfigurationError(f"max_concurrency= takes a number from 1, not {max_concurrency!r}")
        if self._running:
            raise FlockError(f"workflow {self.workflow_id} runs already: wait for its end, or make another")
        keeper = self._keeper(on_input_change, resume=resume)
        self._running = True
        slots = nullcontext() if max_concurrency is None else asyncio.Semaphore(max_concurrency)
        flow = _Flow(self.task.queue, self.workflow_id, slots, keeper, keep_going=keep_going, resume=resume)
        work = self._run(flow, name, on_success, on_failure)
        if name == "background":
            self._background = asyncio.get_running_loop().create_task(work)
            return Handle(self, self._background)
        return await work

    @overload
    def start(
        self,
        mode: Ended | AsyncEnded = ...,
        *,
        max_concurrency: int | None = ...,
        keep_going: bool = ...,
        resume: bool = ...,
        on_input_change: OnInputChange = ...,
        on_success: Callback | None = ...,
        on_failure: Callback | None = ...,
    ) -> list[Task]: ...

    @overload
    def start(
        self,
        mode: Background | AsyncBackground,
        *,
        max_concurrency: int | None = ...,
        keep_going: bool = ...,
        resume: bool = ...,
        on_input_change: OnInputChange = ...,
        on_success: Callback | None = ...,
        on_failure: Callback | None = ...,
    ) -> BlockingHandle: ...

    def start(self, mode: Any = "sequential", **options: Any) -> list[Task] | BlockingHandle:
        """Do as `astart` does, and block meanwhile; steps run on a loop in the background, functions in threads."""

        async def go() -> list[Task] | Handle:
            given: list[Task] | Handle = await self.astart(mode, **options)
            return given

        given = run_sync(go)
        return BlockingHandle(given) if isinstance(given, Handle) else given

    def _keeper(self, on_input_change: OnInputChange, *, resume: bool) -> Keeper | None:
        if on_input_change not in get_args(OnInputChange):
            known = ", ".join(get_args(OnInputChange))
            raise ConfigurationError(f"on_input_change= is one of {known}, not {on_input_change!r}")
        if self.config.storage is not None:
            return Keeper(self.config.storage, on_input_change)
        if resume:
            raise ConfigurationError("resume=True needs a storage: Workflow(Config(storage=FileStorage('results')))")
        return None

    async def _run(
        self, flow: _Flow, mode: str, on_success: Callback | None, on_failure: Callback | None
    ) -> list[Task]:
        tracer = self.config.tracer
        try:
            await _tell(None if tracer is None else tracer.start_workflow, workflow_id=self.workflow_id)
            try:
                await getattr(flow, mode)()
            finally:
                self._running = False
                await _tell(None if tracer is None else tracer.end_workflow, workflow_id=self.workflow_id)
                failed = any(task.status in _OVER for task in self.task)
                await _tell(on_failure if failed else on_success, tasks=self.task.queue)
        finally:
            self._running = False
        return self.task.queue


class _Flow:
    """One start of a workflow."""

    def __init__(
        self,
        tasks: Sequence[Task],
        workflow_id: str,
        slots: AbstractAsyncContextManager[None],
        keeper: Keeper | None,
        *,
        keep_going: bool,
        resume: bool,
    ) -> None:
        """Run these, each stretch of them in one of the slots."""
        self._tasks = tasks
        self._workflow_id = workflow_id
        self._slots = slots
        self._keeper = keeper
        self._keep_going = keep_going
        self._resume = resume

    async def sequential(self) -> None:
        """Run one after the other."""
        await self._in_order(self._tasks)

    background = sequential

    async def sequential_group(self) -> None:
        """Run one after the other in each group, and the groups side by side."""
        groups: dict[str, list[Task]] = {}
        for task in self._tasks:
            groups.setdefault(task.group_name, []).append(task)
        await self._side_by_side(list(groups.values()))

    async def parallel(self) -> None:
        """Run all side by side."""
        await self._side_by_side([[task] for task in self._tasks])

    async def _side_by_side(self, stretches: Sequence[Sequence[Task]]) -> None:
        """Run these until all are done, or one raises, which cancels the others and is raised itself."""
        first: list[Exception] = []

        async def run(stretch: Sequence[Task]) -> None:
            try:
                async with self._slots:
                    await self._in_order(stretch)
            except Exception as error:
                first.append(error)
                raise

        with suppress(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                for stretch in stretches:
                    _ = group.create_task(run(stretch))
        if first:
            raise first[0]

    async def _in_order(self, tasks: Sequence[Task]) -> None:
        previous: Context[Any] = Context(workflow_id=self._workflow_id)
        for task in tasks:
            if task.status is not TypeStatus.COMPLETED:
                await self._one(task, previous)
            if task.status is TypeStatus.COMPLETED:
                previous = task.current_context

    async def _one(self, task: Task, previous: Context[Any]) -> None:
        engine = AsyncTaskEngine(task, self._workflow_id, previous)
        try:
            async with engine.start():
                await self._do(engine, task, previous)
        except Exception:
            if not self._keep_going:
                raise
        finally:
            await _tell(task.callback, task=task)

    async def _do(self, engine: AsyncTaskEngine, task: Task, previous: Context[Any]) -> None:
        """Run the step, unless what it gave is known."""
        keeper = self._keeper
        if keeper is None:
            await engine.execute_with_retry()
            return
        found = await keeper.find(task, previous) if self._resume else None
        if found is not None:
            task.current_context = found
            return
        given = await engine.execute_with_retry()
        await keeper.keep(task, previous, given)


async def _tell(who: Callback | None, **news: object) -> None:
    """Tell whoever wants to know; one who raises costs its own news and nothing else."""
    if who is None:
        return
    try:
        given = who(**news)
        if inspect.isawaitable(given):
            await given
    except Exception:
        logger.exception("%s of a workflow failed", getattr(who, "__name__", who))
