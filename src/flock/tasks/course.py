"""The course of a task from its beginning to its end: one definition, whatever way it waits."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from flock.core.clock import pause, within
from flock.ports import Clock
from flock.sync import ThreadPool, run_sync
from flock.tasks.action import Action, step_of
from flock.tasks.context import Context, is_context
from flock.tasks.policy import Failed, StepTimeoutError
from flock.tasks.status import TypeStatus
from flock.tasks.task import Task, TaskError

T = TypeVar("T")
logger = logging.getLogger("flock")


class Way(Protocol):
    """How the course of a task waits."""

    def call(self, step: Action[..., Any], body: Callable[[], Any]) -> Awaitable[Any]:
        """Run a step's body to its end, within the step's time."""
        ...

    async def pause(self, seconds: float) -> None:
        """Wait on the clock."""
        ...

    async def get(self, awaitable: Awaitable[Any]) -> Any:  # noqa: ANN401 - what it gives
        """Wait for something."""
        ...

    @property
    def cancelling(self) -> int:
        """How often the cancellation of who waits was asked for."""
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

    async def get(self, awaitable: Awaitable[Any]) -> Any:  # noqa: ANN401 - what it gives
        """Wait for something."""
        return await awaitable

    @property
    def cancelling(self) -> int:
        """How often the cancellation of this task was asked for."""
        task = asyncio.current_task()
        return 0 if task is None else task.cancelling()


class Blocking:
    """Blocks: functions run in the calling thread, all else on a loop in the background. It never really awaits."""

    def __init__(self, clock: Clock) -> None:
        """Wait on a clock."""
        self._there = OnLoop(clock)

    async def call(self, step: Action[..., Any], body: Callable[[], Any]) -> Any:  # noqa: ANN401 - what it gives
        """Call a function here, unless its time is limited, which takes another thread."""
        if step.is_async or step.timeout is not None:
            return run_sync(self._there.call, step, body)
        given = body()
        return await self.get(given) if inspect.isawaitable(given) else given

    async def pause(self, seconds: float) -> None:
        """Wait on the clock."""
        run_sync(self._there.pause, seconds)

    async def get(self, awaitable: Awaitable[Any]) -> Any:  # noqa: ANN401 - what it gives
        """Wait for something."""
        return run_sync(self._there.get, awaitable)

    @property
    def cancelling(self) -> int:
        """Whoever blocks is interrupted, not cancelled."""
        return 0


async def in_thread(body: Callable[[], Any]) -> Any:  # noqa: ANN401 - what it gives
    """Run a function that blocks, and await what it gives if that can be; cancelling leaves the thread alone."""
    given = await asyncio.shield(_threads().submit(body))
    return await given if inspect.isawaitable(given) else given


@functools.cache
def _threads() -> ThreadPool:
    pool = ThreadPool("flock task")
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=pool.forget)
    return pool


class Course:
    """Leads one task from its beginning to its end."""

    def __init__(self, task: Task, workflow_id: str | None, previous: Context[Any] | None, way: Way) -> None:
        """Have not begun."""
        self.task = task
        self._way = way
        self._workflow_id = workflow_id
        self._previous = previous
        self._attempt = 1
        self._cancelling = 0
        self._tracer: object = None

    async def begin(self) -> None:
        """Say that the task is in progress."""
        task, config = self.task, self.task.config
        task.workflow_id = self._workflow_id or task.workflow_id
        if self._previous is not None:
            task.previous_context = self._previous
        task.began, task.ended = config.clock.now(), None
        task.errors, task.retry_count = [], 0
        task.status = TypeStatus.IN_PROGRESS
        self._cancelling = self._way.cancelling
        self._tracer = config.told()
        if self._tracer is not None:
            await self._tell(self._tracer, "start_task")
        if config.notify is not None or config.log is not None:
            await self._tell_turn()

    async def end(self, error: BaseException | None) -> None:
        """Say how the task has ended; it stands so before anybody is told."""
        task, config = self.task, self.task.config
        task.ended = config.clock.now()
        if error is None:
            task.status = TypeStatus.COMPLETED
        else:
            task.errors.append(TaskError.of(error, self._attempt))
            cancelled = isinstance(error, (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit))
            task.status = TypeStatus.CANCELLED if cancelled else TypeStatus.FAILED
        try:
            if error is not None and config.log is not None:
                await self._tell(config.log, "error")
            if config.notify is not None or config.log is not None:
                await self._tell_turn()
        finally:
            if self._tracer is not None:
                await self._tell(self._tracer, "end_task")

    async def lead(self, work: Callable[[], Awaitable[object]]) -> None:
        """Begin, do some work, and end as that does; raises what it raises."""
        try:
            await self.begin()
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
        task, clock, paused, attempt = self.task, self.task.config.clock, 0.0, 1
        begun = clock.now()
        while True:
            self._attempt = attempt
            try:
                return await self._once(step, previous)
            except Exception as error:
                if self._way.cancelling > self._cancelling:  # and the step's clean-up raised
                    raise asyncio.CancelledError from error
                failed = Failed(attempt, error, clock.now() - begun, paused, clock.random())
                seconds = step.policy.pause_after(failed)
                if seconds is None:
                    raise
                task.errors.append(TaskError.of(error, attempt))
            task.retry_count += 1
            task.status = TypeStatus.RETRY
            if task.config.log is not None:
                await self._tell(task.config.log, "error")
            await self._tell_turn()
            await self._way.pause(seconds)
            paused += seconds
            attempt += 1
            task.status = TypeStatus.IN_PROGRESS
            await self._tell_turn()

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
            previous = await self._tries(step_of(getattr(instance, name)), previous)
            given.append(previous)
        return given

    # ---- what is told

    async def _tell_turn(self) -> None:
        config = self.task.config
        if config.notify is not None:
            await self._tell(config.notify, "send")
        if config.log is not None:
            await self._tell(config.log, "info")

    async def _tell(self, who: object, what: str) -> None:
        """Tell an observer; one that raises costs its own news and nothing else."""
        try:
            given = getattr(who, what)(task=self.task)
            if inspect.isawaitable(given):
                await self._way.get(given)
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and self._way.cancelling > self._cancelling:
                raise  # the cancellation was not of the observer's making
            logger.exception("%s of %s failed", what, type(who).__name__)
