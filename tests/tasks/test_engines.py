"""What both engines of a task do alike: one suite, run by each."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest
from typing_extensions import override

from flock import ConfigurationError
from flock.tasks import AsyncTaskEngine, Config, Context, StepTimeoutError, Task, TaskEngine, TypeStatus, action
from flock.testing import FakeClock


class Told:
    """Is told of everything, in order."""

    def __init__(self) -> None:
        self.news: list[str] = []

    def start_task(self, task: Task) -> None:
        self.news.append(f"start {task.status}")

    async def end_task(self, task: Task) -> None:
        self.news.append(f"end {task.status}")

    def start_workflow(self, workflow_id: str) -> None:
        self.news.append(f"start {workflow_id}")

    def end_workflow(self, workflow_id: str) -> None:
        self.news.append(f"end {workflow_id}")

    def send(self, task: Task) -> None:
        self.news.append(f"notify {task.status}")

    async def info(self, task: Task) -> None:
        self.news.append(f"info {task.status}")

    def error(self, task: Task) -> None:
        self.news.append(f"error {task.errors[-1].type}")


class Engine:
    """Runs a task with one of the engines, from a test that waits for nothing."""

    def __init__(self, kind: str, clock: FakeClock) -> None:
        self.kind = kind
        self.clock = clock
        self.told = Told()
        self.seen: list[TypeStatus] = []

    def task(self, step: object, **options: Any) -> Task:
        config = Config(clock=self.clock, tracer=self.told)
        return Task(step=step, config=config, **options)

    def run(self, task: Task, *, retry: bool = False, previous: Context[Any] | None = None) -> Any:
        """Run it to its end; gives the value that came of it."""
        if self.kind == "async":
            return asyncio.run(self._run(task, retry=retry, previous=previous))
        engine = TaskEngine(task, "wf", previous)
        with engine.start():
            self.seen.append(task.status)
            given = engine.execute_with_retry() if retry else engine.execute()
        return given.storage

    async def _run(self, task: Task, *, retry: bool, previous: Context[Any] | None) -> Any:
        engine = AsyncTaskEngine(task, "wf", previous)
        async with engine.start():
            self.seen.append(task.status)
            given = await (engine.execute_with_retry() if retry else engine.execute())
        return given.storage

    def fails(self, task: Task, kind: type[BaseException], *, retry: bool = False) -> BaseException:
        """Run it to the end that it must not come to; gives what it raised."""
        with pytest.raises(kind) as raised:
            self.run(task, retry=retry)
        return raised.value

    @contextmanager
    def no_step(self, task: Task) -> Generator[None]:
        """Start and end it without running its step."""
        if self.kind == "blocking":
            with TaskEngine(task).start():
                yield
            return

        async def begin() -> Any:
            scope = AsyncTaskEngine(task).start()
            await scope.__aenter__()
            return scope

        with asyncio.Runner() as runner:
            scope = runner.run(begin())
            yield
            runner.run(scope.__aexit__(None, None, None))


def stands(task: Task) -> str:
    """Say how a task stands."""
    return str(task.status)


@pytest.fixture(params=["async", "blocking"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return Engine(request.param, FakeClock())


@pytest.fixture(params=["function", "coroutine function"])
def made(request: pytest.FixtureRequest) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Makes a step's body a coroutine function in one of two turns."""

    def make(body: Callable[..., Any]) -> Callable[..., Any]:
        if request.param == "function":
            return body

        async def coroutine_function(initial_context: object, previous_context: object, task: object) -> Any:
            await asyncio.sleep(0)
            return body(initial_context, previous_context, task)

        return coroutine_function

    return make


Made = Callable[[Callable[..., Any]], Callable[..., Any]]


def flaky(failures: int, error: type[Exception] = ConnectionError) -> Callable[..., str]:
    """Give the body of a step that fails so often before it succeeds."""
    left = [failures]

    def body(initial_context: object, previous_context: object, task: object) -> str:
        if left[0]:
            left[0] -= 1
            raise error("no luck")
        return "done"

    return body


# ---- how a task stands


def test_a_task_stands_in_progress_while_it_runs_and_completed_afterwards(engine: Engine, made: Made) -> None:
    task = engine.task(action(made(flaky(0))))
    assert stands(task) == "Not started"
    assert engine.run(task) == "done"
    assert engine.seen == [TypeStatus.IN_PROGRESS]
    assert stands(task) == "Completed"
    assert task.errors == []
    assert task.retry_count == 0
    assert task.workflow_id == "wf"


def test_a_task_may_end_without_having_run_its_step(engine: Engine) -> None:
    task = engine.task(action(flaky(0)))
    with engine.no_step(task):
        assert stands(task) == "In progress"
    assert stands(task) == "Completed"
    assert task.current_context.storage is None
    assert task.duration == 0.0


def test_the_duration_is_what_the_clock_says(engine: Engine) -> None:
    clock = engine.clock

    @action
    async def slow() -> None:
        await clock.sleep(90)

    task = engine.task(slow)
    engine.run(task)
    assert task.duration == 90
    assert task.started_at is not None
    assert task.finished_at is not None
    assert (task.finished_at - task.started_at).total_seconds() == 90


@pytest.mark.parametrize("kind", [ValueError, AssertionError, StopAsyncIteration, ZeroDivisionError])
def test_a_task_that_raises_has_failed_and_the_error_goes_on(engine: Engine, made: Made, kind: type[Exception]) -> None:
    task = engine.task(action(made(flaky(1, kind))))
    error = engine.fails(task, kind)
    assert stands(task) == "Failed"
    (told,) = task.errors
    assert told.exception is error
    assert (told.type, told.message, told.attempt) == (kind.__name__, "no luck", 1)
    assert 'raise error("no luck")' in told.traceback
    assert error.__cause__ is not error
    assert error.__context__ is not error
    assert task.duration == 0.0


def test_what_looks_like_an_error_of_the_call_is_the_steps_own(engine: Engine) -> None:
    @action(retry=3, retry_delay=0)
    def step(initial_context: Context[Any]) -> None:
        raise TypeError("missing 1 required positional argument: 'self' initial_context")

    task = engine.task(step)
    engine.fails(task, TypeError, retry=True)
    assert len(task.errors) == 3


@pytest.mark.parametrize("kind", [asyncio.CancelledError, KeyboardInterrupt])
def test_a_task_that_is_cancelled_says_so(engine: Engine, kind: type[BaseException]) -> None:
    @action(retry=3)
    def step() -> None:
        raise kind

    task = engine.task(step)
    if engine.kind == "async":  # where a thread's end by such an error is the awaiting task's
        step = action(_raising(kind))
        task = engine.task(step)
    engine.fails(task, kind, retry=True)
    assert stands(task) == "Cancelled"
    assert [each.type for each in task.errors] == [kind.__name__]


def _raising(kind: type[BaseException]) -> Callable[[], Any]:
    async def step() -> None:
        raise kind

    return step


# ---- what a step gets and gives


def test_arguments_are_filled_by_name_in_any_order(engine: Engine) -> None:
    @action
    def step(previous_context: Context[int], *, more: int = 1, initial_context: Context[int]) -> int:
        assert previous_context.storage is not None
        assert initial_context.storage is not None
        return previous_context.storage * 10 + initial_context.storage + more

    assert engine.run(engine.task(step, initial_context=3), previous=Context(4)) == 44
    assert step(Context(1), initial_context=Context(1)) == 12


def test_a_step_may_take_nothing_or_everything(engine: Engine) -> None:
    assert engine.run(engine.task(action(lambda: 1))) == 1
    task = engine.task(action(lambda **given: sorted(given)))
    assert engine.run(task) == ["initial_context", "previous_context", "task"]
    other = engine.task(action(lambda task: task))
    assert engine.run(other) is other


def test_a_context_that_a_step_gives_is_kept(engine: Engine) -> None:
    given = Context({"rows": 3})
    task = engine.task(action(lambda: given))
    engine.run(task)
    assert task.current_context is given


def test_any_value_is_wrapped(engine: Engine) -> None:
    task = engine.task(action(lambda: None), task_id=7)
    engine.run(task)
    assert task.current_context.storage is None
    assert task.current_context.task_id == 7
    assert task.current_context.workflow_id == "wf"
    assert task.current_context.time is not None


def test_a_class_is_a_step_whose_methods_run_in_the_order_of_their_writing(engine: Engine) -> None:
    @action
    class Steps:
        def __init__(self, initial_context: Context[int]) -> None:
            self.start = initial_context.storage

        @action
        def zebra(self, previous_context: Context[int]) -> str:
            return f"{self.start} {previous_context.storage}"

        def helper(self) -> str:
            return "no step"

        @action(retry=2, retry_delay=0)
        async def aardvark(self, previous_context: Context[str], task: Task) -> str:
            if not task.retry_count:
                raise ConnectionError
            return f"{previous_context.storage}!"

    task = engine.task(Steps, initial_context=1)
    given = engine.run(task, previous=Context(0), retry=True)
    assert [each.storage for each in given] == ["1 0", "1 0!"]
    assert task.retry_count == 1


def test_a_class_without_steps_is_refused(engine: Engine) -> None:
    class Plain:
        def method(self) -> None: ...

    with pytest.raises(ConfigurationError, match="class Plain has no step: mark each method"):
        engine.task(Plain)


def test_a_class_of_a_class_has_the_steps_of_both(engine: Engine) -> None:
    @action
    class Base:
        @action
        def first(self) -> str:
            return "base"

        @action
        def second(self) -> str:
            return "base"

    class Derived(Base.func):  # type: ignore[name-defined,misc]
        @action
        def second(self) -> str:
            return "derived"

        @action
        def third(self, previous_context: Context[str]) -> str:
            return f"after {previous_context.storage}"

    given = engine.run(engine.task(Derived))
    assert [each.storage for each in given] == ["base", "derived", "after derived"]


def test_a_parameter_that_nobody_fills_is_refused_when_the_task_is_made(engine: Engine) -> None:
    @action
    def step(order: int) -> None: ...

    with pytest.raises(ConfigurationError, match=r"step 'step' takes 'order', which nobody fills"):
        engine.task(step)


def test_a_parameter_of_a_method_that_nobody_fills_is_refused_as_well(engine: Engine) -> None:
    class Steps:
        @action
        def step(self, order: int) -> None: ...

    with pytest.raises(ConfigurationError, match=r"step 'Steps\.step' takes 'order', which nobody fills"):
        engine.task(Steps)


@pytest.mark.parametrize("step", [3, None, "module.step"])
def test_what_is_no_step_is_refused(engine: Engine, step: object) -> None:
    with pytest.raises(ConfigurationError, match="a step is a function or a class"):
        engine.task(step)


def test_context_variables_reach_a_step_and_those_of_a_coroutine_function_come_back(engine: Engine) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    @action(timeout=5)
    async def step() -> str:
        before = variable.get()
        variable.set("by the step")
        return before

    def outside() -> tuple[Any, str]:
        variable.set("by the caller")
        return engine.run(engine.task(step)), variable.get()

    given, after = contextvars.copy_context().run(outside)
    assert given == "by the caller"
    assert after == ("by the step" if engine.kind == "blocking" else "by the caller")  # `asyncio.run` has its own


# ---- tries


def test_retry_is_the_number_of_tries(engine: Engine, made: Made) -> None:
    task = engine.task(action(retry=3, retry_delay=2)(made(flaky(2))))
    before = engine.clock.now()
    assert engine.run(task, retry=True) == "done"
    assert engine.clock.now() - before == 4
    assert task.retry_count == 2
    assert [(each.type, each.attempt) for each in task.errors] == [("ConnectionError", 1), ("ConnectionError", 2)]
    assert stands(task) == "Completed"


@pytest.mark.parametrize("retry", [0, 1, -1])
def test_there_is_at_least_one_try_and_no_more_than_were_asked_for(engine: Engine, made: Made, retry: int) -> None:
    assert engine.run(engine.task(action(retry=retry)(made(flaky(0)))), retry=True) == "done"
    task = engine.task(action(retry=retry)(made(flaky(1))))
    engine.fails(task, ConnectionError, retry=True)
    assert task.retry_count == 0
    assert len(task.errors) == 1


def test_one_try_is_one_try(engine: Engine, made: Made) -> None:
    task = engine.task(action(retry=5)(made(flaky(1))))
    engine.fails(task, ConnectionError)
    assert task.retry_count == 0


def test_backoff_doubles_the_delay_up_to_a_limit(engine: Engine) -> None:
    times: list[float] = []

    @action(retry=6, retry_delay=1, backoff=True, max_delay=5)
    def step() -> None:
        times.append(engine.clock.now())
        raise ConnectionError

    engine.fails(engine.task(step), ConnectionError, retry=True)
    assert [after - before for before, after in itertools.pairwise(times)] == [1, 2, 4, 5, 5]


def test_jitter_takes_half_the_delay_or_more(engine: Engine) -> None:
    times: list[float] = []

    @action(retry=40, retry_delay=10, jitter=True)
    def step() -> None:
        times.append(engine.clock.now())
        raise ConnectionError

    engine.fails(engine.task(step), ConnectionError, retry=True)
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert all(5 <= pause <= 10 for pause in pauses)
    assert max(pauses) - min(pauses) > 2


def test_only_errors_of_the_kinds_named_are_tried_again(engine: Engine, made: Made) -> None:
    step = action(retry=3, retry_delay=0, retry_on=(ConnectionError,))
    assert engine.run(engine.task(step(made(flaky(2)))), retry=True) == "done"
    task = engine.task(step(made(flaky(2, ValueError))))
    engine.fails(task, ValueError, retry=True)
    assert len(task.errors) == 1


def test_a_step_keeps_its_name_and_options() -> None:
    @action(retry=4, timeout=3, retry_delay=0.5, backoff=True)
    def step() -> int:
        """Do it."""
        return 5

    assert (step.retry, step.timeout, step.retry_delay, step.backoff, step.jitter) == (4, 3, 0.5, True, False)
    assert (step.name, step.__name__, step.__doc__) == ("step", "step", "Do it.")
    assert step() == 5
    with pytest.raises(AttributeError, match="a step has no 'retries'"):
        _ = step.retries


def test_the_options_of_a_step_can_be_replaced() -> None:
    step = action(retry=4, timeout=3)(flaky(0))
    other = action(retry=2)(step)
    assert (other.retry, other.timeout) == (2, None)
    assert (step.retry, step.timeout) == (4, 3)
    assert action(other).retry == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"retry": "3"}, "retry= takes a number of tries or a policy"),
        ({"retry": True}, "retry= takes a number of tries or a policy"),
        ({"timeout": -1}, "timeout= takes seconds"),
        ({"retry_delay": "1"}, "retry_delay= takes seconds"),
        ({"max_delay": float("nan")}, "max_delay= takes seconds"),
        ({"retry_on": (ValueError, "x")}, "retry_on= takes kinds of Exception"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        action(**options)


# ---- timeouts


def test_a_timeout_ends_a_coroutine_function_with_its_clean_up(engine: Engine) -> None:
    clock, ticks, cleaned = engine.clock, 0, False

    @action(timeout=5)
    async def step() -> None:
        nonlocal ticks, cleaned
        try:
            while True:
                ticks += 1
                await clock.sleep(1)
        finally:
            cleaned = True

    task = engine.task(step)
    error = engine.fails(task, StepTimeoutError)
    assert isinstance(error, TimeoutError)
    assert str(error) == "step 'step' took longer than 5 s"
    assert (ticks, cleaned) == (5, True)
    assert (stands(task), task.duration) == ("Failed", 5)


def test_a_timeout_leaves_a_thread_alone(engine: Engine) -> None:
    release = threading.Event()

    @action(timeout=0.05)
    def step() -> None:
        release.wait(20)

    engine.clock = FakeClock(threshold=0.01)
    task = engine.task(step)
    engine.fails(task, StepTimeoutError)
    release.set()
    assert stands(task) == "Failed"


@pytest.mark.parametrize(("again", "tries"), [(True, 3), (False, 1)])
def test_a_timeout_is_tried_again_unless_it_is_not_wanted(engine: Engine, *, again: bool, tries: int) -> None:
    clock = engine.clock

    @action(retry=3, timeout=5, retry_delay=1, retry_on=(ValueError,), retry_timeouts=again)
    async def step() -> None:
        await clock.sleep(60)

    task = engine.task(step)
    engine.fails(task, StepTimeoutError, retry=True)
    assert [each.type for each in task.errors] == ["StepTimeoutError"] * tries


def test_a_steps_own_timeout_error_is_an_error_like_others(engine: Engine, made: Made) -> None:
    task = engine.task(action(retry=2, retry_delay=0, retry_timeouts=False)(made(flaky(1, TimeoutError))))
    assert engine.run(task, retry=True) == "done"


# ---- who is told


def test_a_tracer_is_told_in_order_sync_or_async(engine: Engine, made: Made) -> None:
    engine.run(engine.task(action(made(flaky(0)))))
    engine.fails(engine.task(action(made(flaky(1)))), ConnectionError)
    assert engine.told.news == ["start In progress", "end Completed", "start In progress", "end Failed"]


def test_notify_and_log_hear_of_every_turn(engine: Engine, made: Made) -> None:
    told = engine.told
    config = Config(clock=engine.clock, notify=told, log=told)
    engine.run(Task(step=action(retry=2, retry_delay=0)(made(flaky(1))), config=config), retry=True)
    turns = ["In progress", "Retry", "In progress", "Completed"]
    assert [each for each in told.news if each.startswith("notify")] == [f"notify {turn}" for turn in turns]
    assert [each for each in told.news if not each.startswith("notify")] == [
        "info In progress", "error ConnectionError", "info Retry", "info In progress", "info Completed",
    ]  # fmt: skip


def test_who_raises_when_told_costs_the_task_nothing(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Told):
        @override
        def start_task(self, task: Task) -> None:
            raise RuntimeError(f"deaf to {task}")

    task = Task(step=action(lambda: 3), config=Config(clock=engine.clock, tracer=Broken()))
    assert engine.run(task) == 3
    assert stands(task) == "Completed"
    assert "start_task of Broken failed" in caplog.text
