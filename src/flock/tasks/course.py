"""The course of a task from its beginning to its end: one definition, whatever way it waits."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from flock.core.clock import pause, within
from flock.ports import Clock
from flock.sync import ThreadPool, run_sync
from flock.tasks.action import Action
from flock.tasks.context import Context, is_context
from flock.tasks.policy import StepTimeoutError
from flock.tasks.status import TypeStatus
from flock.tasks.task import Task, TaskError

T = TypeVar("T")
logger = logging.getLogger("flock")
_threads = ThreadPool("flock task")


class Way(Protocol):
    """How the course of a task waits."""

    def call(self, step: Action[..., Any], body: Callable[[], Any]) -> Awaitable[Any]:
        """Run a step's body to its end, within the step's time."""
        ...

    async def pause(self, seconds: float) -> None:
        """Wait on the clock."""
        ...

    async def get(self, awaitable: Awaitable[Any]) -> None:
        """Wait for something."""
        ...


class OnLoop:
    """Waits on the running loop; functions that block go to a thread."""

    def __init__(self, clock: Clock) -> None:
        """Wait on a clock."""
        self._clock = clock

    def call(self, step: Action[..., Any], body: Callable[[], Any]) -> Awaitable[Any]:
        """Await a coroutine function here; a thread whose time is over is left alone (P16)."""
        work: Awaitable[Any] = body() if step.is_async else in_thread(body)
        return work if step.timeout is None else self._within(step, work, step.timeout)

    async def _within(self, step: Action[..., Any], work: Awaitable[T], timeout: float) -> T:
        late = StepTimeoutError(f"step {step.name!r} took longer than {timeout:g} s")
        return await within(self._clock, timeout, work, late)

    async def pause(self, seconds: float) -> None:
        """Wait on the clock."""
        await pause(self._clock, seconds)

    async def get(self, awaitable: Awaitable[Any]) -> None:
        """Wait for something."""
        await awaitable


class Blocking:
    """Blocks: functions run in the calling thread, all else on a loop in the background. It never really awaits."""

    def __init__(self, clock: Clock) -> None:
        """Wait on a clock."""
        self._there = OnLoop(clock)

    async def call(self, step: Action[..., Any], body: Callable[[], Any]) -> Any:  # noqa: ANN401 - what it gives
        """Call a function here, unless its time is limited, which takes another thread."""
        return run_sync(self._there.call, step, body) if step.is_async or step.timeout is not None else body()

    async def pause(self, seconds: float) -> None:
        """Wait on the clock."""
        run_sync(self._there.pause, seconds)

    async def get(self, awaitable: Awaitable[Any]) -> None:
        """Wait for something."""
        run_sync(self._there.get, awaitable)


async def in_thread(body: Callable[[], T]) -> T:
    """Run a function that blocks; cancelling the wait leaves its thread alone."""
    given: T = await asyncio.shield(_threads.submit(body))
    return given


@dataclass(slots=True)
class Trouble:
    """What is known of a step that has failed so often; see `flock.tasks.policy.Failed`."""

    attempt: int
    error: Exception
    elapsed: float
    paused: float
    chance: float


class Course:
    """Leads one task from its beginning to its end."""

    def __init__(self, task: Task, workflow_id: str | None, previous: Context[Any] | None, way: Way) -> None:
        """Have not begun."""
        self.task = task
        self._way = way
        self._workflow_id = workflow_id
        self._previous = previous
        self._attempt = 1
        self._tracer: object = None

    async def begin(self) -> None:
        """Say that the task is in progress."""
        task, config = self.task, self.task.config
        task.workflow_id = self._workflow_id or task.workflow_id
        if self._previous is not None:
            task.previous_context = self._previous
        task.began, task.ended = config.clock.now(), None
        task.errors, task.retry_count = [], 0
        self._tracer = config.told()
        await self._turn(TypeStatus.IN_PROGRESS, self._tracer, "start_task")

    async def end(self, error: BaseException | None) -> None:
        """Say how the task has ended."""
        task = self.task
        task.ended = task.config.clock.now()
        if error is None:
            status = TypeStatus.COMPLETED
        elif isinstance(error, (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit)):
            status = TypeStatus.CANCELLED
        else:
            status = TypeStatus.FAILED
        if error is not None:
            await self._take_note(error)
        await self._turn(status, self._tracer, "end_task")

    async def lead(self, work: Callable[[], Awaitable[object]]) -> None:
        """Begin, do some work, and end as that does; raises what it raises."""
        await self.begin()
        try:
            await work()
        except BaseException as error:
            await self.end(error)
            raise
        await self.end(None)

    async def execute(self) -> Context[Any]:
        """Try once."""
        given = await self._once(self.task.step, self.task.previous_context)
        self.task.current_context = given
        return given

    async def execute_with_retry(self) -> Context[Any]:
        """Try as often as the step's policy says."""
        given = await self._tries(self.task.step, self.task.previous_context)
        self.task.current_context = given
        return given

    # ---- tries

    async def _tries(self, step: Action[..., Any], previous: Context[Any]) -> Context[Any]:
        clock, policy, paused = self.task.config.clock, step.policy, 0.0
        begun, self._attempt = clock.now(), 1
        while True:
            try:
                return await self._once(step, previous)
            except Exception as error:
                trouble = Trouble(self._attempt, error, clock.now() - begun, paused, clock.random())
                seconds = policy.pause_after(trouble)
                if seconds is None:
                    raise
                await self._take_note(error)
            self.task.retry_count += 1
            await self._turn(TypeStatus.RETRY)
            await self._way.pause(seconds)
            paused += seconds
            self._attempt += 1
            await self._turn(TypeStatus.IN_PROGRESS)

    async def _once(self, step: Action[..., Any], previous: Context[Any]) -> Context[Any]:
        task = self.task
        body: Callable[[], Any] = step.func
        if step.injected:
            values = {"initial_context": task.initial_context, "previous_context": previous, "task": task}
            body = functools.partial(step.func, **{name: values[name] for name in step.injected})
        given = await self._way.call(step, body)
        if step.methods:
            given = await self._in_order(given, step.methods, previous)
        if is_context(given):
            return given
        return Context(given, task.task_id, task.workflow_id, task.config.clock.now())

    async def _in_order(self, instance: object, methods: tuple[str, ...], previous: Context[Any]) -> list[Context[Any]]:
        """Run the steps of a class, each with what the one before gave."""
        given: list[Context[Any]] = []
        for name in methods:
            previous = await self._tries(getattr(instance, name), previous)
            given.append(previous)
        return given

    # ---- what is told

    async def _take_note(self, error: BaseException) -> None:
        self.task.errors.append(TaskError.of(error, self._attempt))
        await self._tell(self.task.config.log, "error")

    async def _turn(self, status: TypeStatus, tracer: object = None, what: str = "") -> None:
        config = self.task.config
        self.task.status = status
        if tracer is not None:
            await self._tell(tracer, what)
        if config.notify is not None:
            await self._tell(config.notify, "send")
        if config.log is not None:
            await self._tell(config.log, "info")

    async def _tell(self, who: object, what: str) -> None:
        """Tell an observer; one that raises costs its own news and nothing else."""
        if who is None:
            return
        try:
            given = getattr(who, what)(task=self.task)
            if inspect.isawaitable(given):
                await self._way.get(given)
        except Exception:
            logger.exception("%s of %s failed", what, type(who).__name__)
