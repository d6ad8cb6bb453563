"""Workflows: tasks in a queue, and the ways to run them."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final, Literal, cast, get_args, overload

from typing_extensions import Unpack, override

from flock.declaring.schedule import ScheduleSpec
from flock.model.context import Context as Activation
from flock.model.errors import ConfigurationError, FlockError
from flock.model.evaluation import EvalInputs, OutputGroup
from flock.ports import AgentInfo, Engine
from flock.sync import run_sync
from flock.tasks.context import Context, is_context
from flock.tasks.flow import Flow, Settings, StartOptions, settings_of, tell
from flock.tasks.repeating import Firings, Overlap, Repeating
from flock.tasks.status import TypeStatus
from flock.tasks.task import Callback, Config, Task

Ended = Literal[
    "sequential", "sequential_group", "parallel", "async_sequential", "async_sequential_group", "async_parallel"
]
InBackground = Literal["background", "async_background"]
_background: Final[set[asyncio.Task[list[Task]]]] = set()  # which nobody else need hold
_MODES: Final = (*get_args(Ended), *get_args(InBackground))


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
        steps = cast("Sequence[object]", step) if isinstance(step, (list, tuple)) else [step]
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
        self._refuse_elsewhere()
        return await asyncio.shield(self._running)

    async def cancel(self) -> None:
        """Cancel it and wait for its clean-up; a function that is in a thread is left alone."""
        self._refuse_elsewhere()
        self._running.cancel()
        await asyncio.wait({self._running})

    def _refuse_elsewhere(self) -> None:
        if self._running.get_loop() is not asyncio.get_running_loop():
            raise FlockError("this workflow runs on another event loop: wait for it there")


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


class Workflow(Engine):
    """Steps that belong together. Making one runs nothing; a task that has completed is not run again.

    It is an agent's engine as well: `flock.agent("etl").consumes(Order).publishes(Report).with_engines(workflow)`.
    """

    def __init__(self, config: Config | None = None, workflow_id: str | None = None) -> None:
        """Have no tasks; without an id it gets one."""
        self.config = config or Config()
        self.workflow_id = workflow_id or self.config.clock.new_id()
        self._is_named = workflow_id is not None
        self.task = TaskQueue(self.workflow_id, self.config)
        self._running = threading.Lock()
        self._is_open = False  # tasks run, or will

    @property
    def status(self) -> TypeStatus:
        """How it stands: what its tasks have come to, the worst first."""
        found = {task.status for task in self.task}
        if self._is_open:
            return TypeStatus.IN_PROGRESS
        for status in (TypeStatus.FAILED, TypeStatus.CANCELLED):
            if status in found:
                return status
        if found == {TypeStatus.COMPLETED}:
            return TypeStatus.COMPLETED
        return TypeStatus.PAUSED if TypeStatus.COMPLETED in found else TypeStatus.NOT_STARTED

    @overload
    async def astart(self, mode: Ended = ..., **options: Unpack[StartOptions]) -> list[Task]: ...

    @overload
    async def astart(self, mode: InBackground, **options: Unpack[StartOptions]) -> Handle: ...

    async def astart(
        self, mode: Ended | InBackground = "async_sequential", **options: Unpack[StartOptions]
    ) -> list[Task] | Handle:
        """Run the tasks that have not completed, and give all.

        "async_sequential" runs one after the other; "async_sequential_group" does that in each group, and the groups
        side by side; "async_parallel" runs all side by side; "async_background" gives a handle at once, and runs one
        after the other. Each step gets what the last one gave, those that run side by side nothing. The first error
        ends the workflow, cancels what runs beside it, and is raised.

        The options: `max_concurrency` (8) bounds how many run side by side (None: any number); `keep_going` leaves an
        error with its task; `on_success(tasks=...)` or `on_failure(tasks=...)` is called at the end; `progress` shows
        it on the terminal. The config's storage keeps what each step gives. With `resume` a step that has completed
        under this workflow's id, in whatever process, gives that again and is not run; `on_input_change` says what if
        it was given something else then: "reuse" what it gave, "reset" it and run, or "raise".

        Raises ConfigurationError, and FlockError when it runs already.
        """
        if mode not in _MODES:
            known = ", ".join(name for name in _MODES if name.startswith("async_"))
            raise ConfigurationError(f"mode= is one of {known}, not {mode!r}")
        settings = settings_of(options)
        keeper = settings.keeper(self.config.storage)
        if settings.resume and not self._is_named:
            raise ConfigurationError("resume=True needs an id that stays: Workflow(config, workflow_id='import-42')")
        flow = Flow(self.task.queue, self.workflow_id, self.config.clock, keeper, settings)
        if not self._running.acquire(blocking=False):
            raise FlockError(f"workflow {self.workflow_id} runs already: wait for its end, or make another")
        self._is_open = True
        work = self._run(flow, mode.removeprefix("async_"), settings)
        if mode not in get_args(InBackground):
            try:
                return await work
            finally:
                self._running.release()
        running = asyncio.get_running_loop().create_task(work)
        _background.add(running)
        running.add_done_callback(self._end_in_background)
        return Handle(self, running)

    def _end_in_background(self, running: asyncio.Task[list[Task]]) -> None:
        _background.discard(running)
        self._is_open = False  # when it was cancelled before it began
        self._running.release()

    @overload
    def start(self, mode: Ended = ..., **options: Unpack[StartOptions]) -> list[Task]: ...

    @overload
    def start(self, mode: InBackground, **options: Unpack[StartOptions]) -> BlockingHandle: ...

    def start(self, mode: Any = "sequential", **options: Unpack[StartOptions]) -> list[Task] | BlockingHandle:
        """Do as `astart` does, and block meanwhile; steps run on a loop in the background, functions in threads."""

        async def go() -> list[Task] | Handle:
            chosen: Ended = mode
            return await self.astart(chosen, **options)

        given = run_sync(go)
        return BlockingHandle(given) if isinstance(given, Handle) else given

    async def aschedule(
        self,
        mode: Ended = "async_sequential",
        *,
        every: timedelta | float | None = None,
        at: datetime | time | str | None = None,
        cron: str | None = None,
        after: timedelta | float | None = None,
        max_repeats: int | None = None,
        tz: str = "UTC",
        overlap: Overlap = "skip",
        **options: Unpack[StartOptions],
    ) -> Firings:
        """Run the steps anew whenever a schedule fires, until it is over or this is cancelled; give what came of it.

        The schedule is an agent's: `every` (after `after`), `at` a moment or a time of each day, or `cron`, in `tz`;
        `max_repeats` counts firings. Where one fires while the run before still goes on, `overlap` says what happens:
        "skip" it, "queue" it, or run both in "parallel". Each run has an id of its own, this workflow's with the time
        of its firing. A run that fails is logged and ends nothing. Raises ConfigurationError.
        """
        spec = ScheduleSpec(every=every, at=at, cron=cron, after=after, max_repeats=max_repeats, tz=tz)
        if mode not in get_args(Ended):
            raise ConfigurationError(f"mode= of a schedule is one of {', '.join(get_args(Ended))}, not {mode!r}")
        settings_of(options).keeper(self.config.storage)
        return await Repeating(self.config.clock, spec, overlap, lambda when: self._fire(when, mode, options)).run()

    def schedule(self, mode: Ended = "sequential", **options: Any) -> Firings:  # noqa: ANN401 - those of `aschedule`
        """Do as `aschedule` does, and block meanwhile."""
        return run_sync(functools.partial(self.aschedule, mode, **options))

    async def _fire(self, when: float, mode: Ended, options: StartOptions) -> None:
        moment = datetime.fromtimestamp(when, UTC)
        await self._copy(f"{self.workflow_id}-{moment:%Y%m%dT%H%M%S.%fZ}").astart(mode, **options)

    def _copy(self, workflow_id: str) -> Workflow:
        """Give a workflow of the same steps that have not begun."""
        copy = Workflow(self.config, workflow_id)
        for task in self.task:
            copy.task.add(task.step, task.callback, task.initial_context, task.group_name)
        return copy

    async def _run(self, flow: Flow, mode: str, settings: Settings) -> list[Task]:
        tracer, tasks, failed = self.config.told(), self.task.queue, True
        try:
            if tracer is not None:
                await tell(tracer.start_workflow, workflow_id=self.workflow_id)
            await flow.run(mode)
            failed = any(task.status is not TypeStatus.COMPLETED for task in tasks)
        finally:
            try:
                self._is_open = False
                if tracer is not None:
                    await tell(tracer.end_workflow, workflow_id=self.workflow_id)
            finally:
                await tell(settings.on_failure if failed else settings.on_success, tasks=tasks)
        return tasks

    @override
    async def evaluate(self, agent: AgentInfo, ctx: Activation, inputs: EvalInputs, output_group: OutputGroup) -> Any:
        """Run the steps anew for an activation and give what the last one gave, for the agent to publish.

        Their `initial_context` is the input's payload, or a list of them. With a storage, an activation that is run
        again, after a crash or a failure, goes on where it was.
        """
        payloads = [artifact.payload for artifact in inputs.artifacts]
        copy = self._copy(f"{self.workflow_id}-{ctx.idempotency_key}")
        for task in copy.task:
            task.initial_context = Context(payloads[0] if len(payloads) == 1 else payloads)
        tasks = await copy.astart(resume=self.config.storage is not None)
        given = tasks[-1].current_context.storage if tasks else None
        if not isinstance(given, list):
            return given
        several = cast("list[object]", given)  # of a class, contexts
        return [each.storage if is_context(each) else each for each in several]
