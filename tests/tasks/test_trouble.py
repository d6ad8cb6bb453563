"""What could go wrong around steps: cancellation in odd moments, odd callables, forks, observers that misbehave."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import signal
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
import tenacity
from typing_extensions import override

from flock import ConfigurationError, FlockError, StoreError
from flock.sync import ThreadPool
from flock.tasks import Config, Context, FileStorage, Task, Workflow, action
from flock.testing import FakeClock


def statuses(workflow: Workflow) -> list[str]:
    """Say how a workflow's tasks stand."""
    return [str(task.status) for task in workflow.task]


async def cancelled(work: Any, there: asyncio.Event) -> asyncio.Task[Any]:
    """Start some work and cancel it when it is there; gives it when it has ended."""
    running = asyncio.create_task(work)
    await there.wait()
    running.cancel()
    await asyncio.wait({running})
    return running


def noted(news: list[str], what: str) -> Any:
    """Give a callback that takes note."""

    def note(tasks: list[Task]) -> None:
        news.append(f"{what} of {len(tasks)}")

    return note


# ---- cancellation


async def test_a_background_that_is_cancelled_before_it_begins_can_be_started_again() -> None:
    workflow = Workflow()
    workflow.task.add(lambda: 1)
    handle = await workflow.astart("async_background")
    await handle.cancel()
    assert str(workflow.status) == "Not started"
    await workflow.astart()
    assert statuses(workflow) == ["Completed"]


@pytest.mark.parametrize("keep_going", [True, False])
async def test_after_a_cancellation_nothing_is_tried_again_and_nothing_follows(*, keep_going: bool) -> None:
    ran, there = 0, asyncio.Event()

    @action(retry=3, retry_delay=0)
    async def step() -> None:
        nonlocal ran
        ran += 1
        there.set()
        try:
            await asyncio.sleep(20)
        finally:
            raise ConnectionError("the clean-up failed")

    workflow = Workflow()
    workflow.task.add([step, lambda: 1])
    running = await cancelled(workflow.astart(keep_going=keep_going), there)
    assert running.cancelled()
    assert ran == 1
    assert statuses(workflow) == ["Cancelled", "Not started"]


@pytest.mark.parametrize("error", [asyncio.CancelledError, type("Odd", (BaseException,), {})])
@pytest.mark.parametrize("mode", ["async_sequential", "async_parallel", "async_sequential_group"])
async def test_what_is_no_exception_is_raised_in_every_mode(mode: Any, error: type[BaseException]) -> None:
    async def step() -> None:
        raise error

    workflow = Workflow()
    workflow.task.add(step).add(asyncio.Event().wait, group_name="other")
    with pytest.raises(error):
        await workflow.astart(mode)
    assert statuses(workflow)[0] == ("Cancelled" if error is asyncio.CancelledError else "Failed")


class Slow:
    """Takes its time when it is told, and notes what it was told in the end."""

    def __init__(self, *slow: str) -> None:
        self.slow = slow
        self.there = asyncio.Event()  # where it takes its time
        self.news: list[str] = []

    async def send(self, task: Task) -> None:
        if str(task.status) in self.slow:
            self.there.set()
            await asyncio.sleep(0.2)

    def start_task(self, task: Task) -> None:
        self.news.append(f"start {task.name}")

    def end_task(self, task: Task) -> None:
        self.news.append(f"end {task.status}")

    async def start_workflow(self, workflow_id: str) -> None:
        if "workflow" in self.slow:
            self.there.set()
            await asyncio.sleep(0.2)
        self.news.append(f"start {workflow_id}")

    def end_workflow(self, workflow_id: str) -> None:
        self.news.append(f"end {workflow_id}")


@pytest.mark.parametrize(
    ("slow", "status", "told"),
    [
        ("In progress", "Cancelled", ["start wf", "start step", "end Cancelled", "end wf"]),
        ("Completed", "Completed", ["start wf", "start step", "end Completed", "end wf"]),
        ("workflow", "Not started", ["end wf"]),
    ],
)
async def test_a_cancellation_while_somebody_is_told_loses_no_ending(slow: str, status: str, told: list[str]) -> None:
    ends: list[str] = []
    observer = Slow(slow)
    workflow = Workflow(Config(notify=observer, tracer=observer), "wf")

    @action
    def step() -> None: ...

    workflow.task.add(step)
    work = workflow.astart(on_success=noted(ends, "success"), on_failure=noted(ends, "failure"))
    running = await cancelled(work, observer.there)
    assert running.cancelled()
    assert statuses(workflow) == [status]
    assert observer.news == told
    assert ends == ["failure of 1"]


async def test_an_observer_that_ends_by_a_cancellation_of_its_own_costs_only_its_news(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def callback(task: Task) -> None:
        assert task.current_context.storage == 1
        raise asyncio.CancelledError

    class Odd:
        async def send(self, task: Task) -> None:
            raise asyncio.CancelledError(task.name)

    workflow = Workflow(Config(notify=Odd()))
    workflow.task.add(lambda: 1, callback=callback)
    await workflow.astart()
    assert statuses(workflow) == ["Completed"]
    assert "send of Odd failed" in caplog.text
    assert "callback of a workflow failed" in caplog.text


async def test_a_background_that_nobody_holds_goes_on() -> None:
    async def step() -> None:
        await asyncio.get_running_loop().create_future()  # which nobody holds either

    async def start() -> None:
        workflow = Workflow()
        workflow.task.add(step)
        await workflow.astart("async_background")

    before = asyncio.all_tasks()
    await start()
    await asyncio.sleep(0.01)
    gc.collect()
    (running,) = asyncio.all_tasks() - before
    running.cancel()
    await asyncio.wait({running})


async def test_a_handle_belongs_to_its_loop() -> None:
    workflow = Workflow()
    workflow.task.add(asyncio.Event().wait)
    handle = await workflow.astart("async_background")
    for call in (handle.wait, handle.cancel):
        with pytest.raises(FlockError, match="this workflow runs on another event loop"):
            await asyncio.to_thread(asyncio.run, call())
    await handle.cancel()


# ---- odd steps


class Callable:
    """Can be called, and has attributes that a step has as well."""

    def __init__(self) -> None:
        self.timeout = 0.01
        self.policy = self.func = self.options = "mine"

    def __call__(self) -> int:
        threading.Event().wait(0.05)
        return 1


class AsyncCallable:
    async def __call__(self) -> int:
        await asyncio.sleep(0)
        return 1


async def coroutine_function() -> int:
    return await AsyncCallable()()


@functools.wraps(coroutine_function)
def wrapper() -> int:
    return asyncio.run(coroutine_function())


@pytest.mark.parametrize(
    "step",
    [
        Callable(),
        AsyncCallable(),
        lambda task: coroutine_function() if task else None,
        wrapper,
        functools.partial(coroutine_function),
        AsyncCallable().__call__,
    ],
    ids=["object", "async object", "lambda", "wrapper", "partial", "method"],
)
def test_whatever_can_be_called_is_a_step(step: object) -> None:
    workflow = Workflow()
    workflow.task.add(step)
    (task,) = workflow.start()
    assert task.current_context.storage == 1


def test_an_argument_that_is_bound_already_stays() -> None:
    def step(initial_context: Context[str], previous_context: Context[str]) -> list[Any]:
        return [initial_context.storage, previous_context.storage]

    workflow = Workflow()
    workflow.task.add(functools.partial(step, initial_context=Context("mine")), initial_context="theirs")
    assert workflow.start()[0].current_context.storage == ["mine", None]


def test_a_class_may_have_steps_of_every_kind() -> None:
    class Base:
        @action
        def one(self) -> str:
            return "base"

        @staticmethod
        @action
        def two() -> str:
            return "static"

        three = action(functools.partial(str, "bound"))

    class Derived(Base):
        @override
        def one(self) -> str:  # type: ignore[override] # pyright: ignore[reportIncompatibleMethodOverride]
            return "derived"

    workflow = Workflow()
    workflow.task.add(Derived)
    (task,) = workflow.start()
    assert [each.storage for each in task.current_context.storage] == ["derived", "static", "bound"]


def test_a_class_is_tried_as_often_as_it_says() -> None:
    tries: list[str] = []

    @action(retry=3, retry_delay=0)
    class Steps:
        def __init__(self) -> None:
            tries.append("made")

        @action(retry=2, retry_delay=0)
        def step(self) -> None:
            tries.append("tried")
            raise ValueError("no luck")

    workflow = Workflow()
    workflow.task.add(Steps)
    with pytest.raises(ValueError, match="no luck"):
        workflow.start()
    assert tries == ["made", "tried", "tried"] * 3
    with pytest.raises(ConfigurationError, match="timeout= belongs to the methods of class"):
        action(timeout=1)(vars(Steps)["func"])


def test_an_error_that_can_not_be_read_is_an_error() -> None:
    class UnreadableError(Exception):
        @override
        def __str__(self) -> str:
            raise IndexError

    def step() -> None:
        raise UnreadableError

    workflow = Workflow()
    workflow.task.add(step)
    with pytest.raises(UnreadableError):
        workflow.start()
    assert statuses(workflow) == ["Failed"]
    assert workflow.task.queue[0].errors[0].message == "its message can't be read: __str__ raised"


def test_a_step_may_be_tried_for_ever() -> None:
    tries = 0

    @action(retry=1_500, retry_delay=1, backoff=True, max_delay=0)
    async def step() -> None:
        nonlocal tries
        tries += 1
        raise ConnectionError

    workflow = Workflow(Config(clock=FakeClock()))
    workflow.task.add(step)
    with pytest.raises(ConnectionError):
        workflow.start()
    assert tries == 1_500


async def test_a_policy_that_has_to_be_awaited_is_refused() -> None:
    async def never(_: BaseException) -> bool:
        return False

    retrying = tenacity.AsyncRetrying(retry=tenacity.retry_if_exception(never))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]

    def step() -> None:
        raise ValueError

    workflow = Workflow()
    workflow.task.add(action(retry=retrying)(step))
    with pytest.raises(ConfigurationError, match="asked without await"):
        await workflow.astart()


async def test_modes_of_a_schedule_end() -> None:
    mode: Any = "async_background"
    with pytest.raises(ConfigurationError, match="mode= of a schedule is one of sequential"):
        await Workflow().aschedule(mode, every=1)


# ---- what is kept


def test_inputs_are_those_from_before_the_step(tmp_path: Path) -> None:
    def step(initial_context: Context[list[int]]) -> list[int]:
        initial_context.storage.sort()
        return initial_context.storage

    for _ in range(2):
        workflow = Workflow(Config(storage=FileStorage(tmp_path)), "wf")
        workflow.task.add(step, initial_context=[3, 1, 2])
        (task,) = workflow.start(resume=True, on_input_change="raise")
        assert task.current_context.storage == [1, 2, 3]


def test_inputs_that_can_not_be_kept_are_refused_before_the_step(tmp_path: Path) -> None:
    ran: list[int] = []
    workflow = Workflow(Config(storage=FileStorage(tmp_path)), "wf")
    workflow.task.add(lambda: ran.append(1), initial_context=object())
    with pytest.raises(StoreError, match="can't be kept"):
        workflow.start()
    assert ran == []


@pytest.mark.parametrize(
    "damage",
    [
        b"\xff\xfe",
        b'{"step":"s","inputs":"x","result":5}',
        b'{"step":"s","inputs":"x","result":{"dict":5}}',
        b"{}",
    ],
)
def test_damage_is_told(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "wf" / "0").mkdir(parents=True)
    (tmp_path / "wf" / "0" / "getpid.json").write_bytes(damage)
    workflow = Workflow(Config(storage=FileStorage(tmp_path)), "wf")
    workflow.task.add(os.getpid)
    with pytest.raises(StoreError, match="can't be read"):
        workflow.start(resume=True)


def test_names_of_any_length_can_be_kept(tmp_path: Path) -> None:
    workflow = Workflow(Config(storage=FileStorage(tmp_path)), "я" * 300)
    workflow.task.add(lambda: 1)
    workflow.start()
    assert len(list(tmp_path.rglob("*.json"))) == 1


# ---- threads and processes


async def test_a_job_that_comes_as_the_pool_is_closed_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, loop = ThreadPool("test"), asyncio.get_running_loop()
    deliver = loop.call_soon_threadsafe

    def slowly(*what: Any) -> Any:
        deliver(*what)
        threading.Event().wait(0.1)

    monkeypatch.setattr(loop, "call_soon_threadsafe", slowly)
    assert await pool.submit(lambda: 1) == 1
    last = pool.submit(lambda: 2)
    pool.close()
    assert await asyncio.wait_for(last, 5) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_has_threads_of_its_own() -> None:
    def go() -> int:
        workflow = Workflow()
        workflow.task.add(lambda: 1)
        return int(workflow.start()[0].current_context.storage)

    assert go() == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(go() - 1)
    assert os.waitpid(child, 0)[1] == 0


def test_two_threads_start_a_workflow_once() -> None:
    for _ in range(30):
        ran: list[int] = []
        gate = threading.Barrier(2)
        workflow = Workflow()
        workflow.task.add(functools.partial(ran.append, 1))

        def start(workflow: Workflow = workflow, gate: threading.Barrier = gate) -> None:
            gate.wait()
            try:
                asyncio.run(workflow.astart())
            except FlockError:
                return

        threads = [threading.Thread(target=start) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ran == [1]
