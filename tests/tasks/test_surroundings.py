"""What is around workflows: spans, policies of other libraries, progress, schedules, agents."""

from __future__ import annotations

import asyncio
import datetime as dt
import importlib
import re
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import stamina
import tenacity
from opentelemetry import trace
from pydantic import BaseModel

from flock import ConfigurationError, Failure, Flock
from flock.tasks import (
    AsyncTaskEngine,
    Config,
    Context,
    FileStorage,
    Firings,
    Task,
    TaskEngine,
    Workflow,
    action,
)  # fmt: skip
from flock.testing import FakeClock
from flock.tracing import setup


class Order(BaseModel):
    number: int


class Report(BaseModel):
    text: str


class Note(BaseModel):
    text: str


# ---- spans


@pytest.fixture
def spans() -> Generator[Callable[[], list[Any]]]:
    """Gives the spans that have ended."""
    with setup(memory=True) as tracing:
        yield lambda: list(tracing.spans)


async def test_workflow_and_tasks_are_spans_and_what_steps_do_lies_inside(spans: Callable[[], list[Any]]) -> None:
    @action
    async def fetch() -> None:
        with trace.get_tracer("mine").start_as_current_span("request"):
            await asyncio.sleep(0)

    workflow = Workflow(workflow_id="wf")
    workflow.task.add([fetch, fetch])
    await workflow.astart("async_parallel")
    found = {span.name: span for span in spans()}
    assert [span.name for span in spans()].count("run_task fetch") == 2
    root, task, request = found["run_workflow"], found["run_task fetch"], found["request"]
    assert root.parent is None
    assert task.parent.span_id == root.context.span_id
    assert task.attributes["flock.task.status"] == "Completed"
    assert task.attributes["flock.workflow.id"] == "wf"
    tasks = {span.context.span_id for span in spans() if span.name == "run_task fetch"}
    assert request.parent.span_id in tasks
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_a_task_that_fails_says_so_in_its_span(spans: Callable[[], list[Any]]) -> None:
    workflow = Workflow()
    workflow.task.add(action(retry=2, retry_delay=0)(lambda: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        workflow.start()
    (task,) = [span for span in spans() if span.name.startswith("run_task")]
    assert task.attributes["flock.task.status"] == "Failed"
    assert task.attributes["flock.task.retries"] == 1
    assert task.attributes["error.type"] == "ZeroDivisionError"
    assert task.status.description == "division by zero"
    assert [event.attributes["flock.task.attempt"] for event in task.events] == [1, 2]


async def test_without_a_provider_nothing_is_kept() -> None:
    workflow = Workflow()
    workflow.task.add(lambda: trace.get_current_span().is_recording())
    (task,) = await workflow.astart()
    assert task.current_context.storage is False


# ---- policies of other libraries


class Clumsy:
    """A step that always fails, and notes when."""

    def __init__(self, policy: object) -> None:
        self.clock = FakeClock()
        self.times: list[float] = []

        @action(retry=policy)
        async def step() -> None:
            self.times.append(self.clock.now())
            raise ConnectionError

        self.task = Task(step=step, config=Config(clock=self.clock))

    def pauses(self, kind: str) -> list[float]:
        with pytest.raises(ConnectionError):
            asyncio.run(self._run()) if kind == "async" else self._block()
        return [after - before for before, after in zip(self.times, self.times[1:], strict=False)]

    def _block(self) -> None:
        engine = TaskEngine(self.task)
        with engine.start():
            engine.execute_with_retry()

    async def _run(self) -> None:
        engine = AsyncTaskEngine(self.task)
        async with engine.start():
            await engine.execute_with_retry()


@pytest.mark.parametrize("kind", ["async", "blocking"])
@pytest.mark.parametrize("retrying", [tenacity.Retrying, tenacity.AsyncRetrying])
def test_a_policy_of_tenacity_is_followed(kind: str, retrying: Callable[..., object]) -> None:
    policy = retrying(stop=tenacity.stop_after_attempt(4), wait=tenacity.wait_exponential(multiplier=2, max=5))
    clumsy = Clumsy(policy)
    assert clumsy.pauses(kind) == [2, 4, 5]
    assert clumsy.task.retry_count == 3


def test_tenacity_sees_what_was_raised_and_how_long_it_has_taken() -> None:
    other = tenacity.Retrying(retry=tenacity.retry_if_exception_type(ValueError))
    assert Clumsy(other).pauses("async") == []
    slow = tenacity.Retrying(stop=tenacity.stop_after_delay(25), wait=tenacity.wait_fixed(10))
    assert Clumsy(slow).pauses("async") == [10, 10, 10]
    idle = tenacity.Retrying(stop=lambda state: state.idle_for >= 15, wait=tenacity.wait_fixed(10))
    assert Clumsy(idle).pauses("async") == [10, 10]


@pytest.mark.parametrize("kind", ["async", "blocking"])
@pytest.mark.parametrize(
    "policy",
    [
        stamina.retry_context(on=ConnectionError, attempts=3, wait_initial=2, wait_max=10, wait_jitter=0),
        stamina.RetryingCaller(attempts=3, wait_initial=2, wait_max=10, wait_jitter=0).on(ConnectionError),
        stamina.AsyncRetryingCaller(attempts=3, wait_initial=2, wait_max=10, wait_jitter=0).on(ConnectionError),
    ],
    ids=lambda policy: type(policy).__name__,
)
def test_a_policy_of_stamina_is_followed(kind: str, policy: object) -> None:
    assert Clumsy(policy).pauses(kind) == [2, 4]


def test_a_policy_of_stamina_says_on_what_to_try_again() -> None:
    with pytest.raises(ConfigurationError, match=r"retry= takes stamina\.retry_context\(on=\.\.\.\)"):
        action(retry=stamina.RetryingCaller())


# ---- progress


def test_progress_is_shown_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    workflow = Workflow()
    workflow.task.add([lambda: 1, lambda: 1 / 0, lambda: 2])
    workflow.start(keep_going=True, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "3/3" in shown.err
    assert "1 failed" in shown.err
    workflow.start(keep_going=True)
    assert capsys.readouterr().err == ""


def test_progress_says_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def bare(name: str) -> Any:
        if name.startswith("rich"):
            raise ImportError(name)
        return real(name)

    monkeypatch.setattr(importlib, "import_module", bare)
    with pytest.raises(ConfigurationError, match=re.escape("progress=True needs rich: pip install 'flock-board[cli]'")):
        Workflow().start(progress=True)


# ---- schedules


class Repeated:
    """A workflow of one step that takes its time, which a schedule sets off."""

    def __init__(self, *, takes: float = 0, fails: bool = False) -> None:
        self.clock = FakeClock(dt.datetime(2026, 3, 1, tzinfo=dt.UTC))
        self.began = self.clock.now()
        self.news: list[str] = []
        self.workflow = Workflow(Config(clock=self.clock), "nightly")

        @action
        async def step(task: Task) -> None:
            self.news.append(f"{self.clock.now() - self.began:g} {task.workflow_id}")
            await self.clock.sleep(takes)
            if fails:
                raise ValueError("no luck")

        self.workflow.task.add(step)

    async def run(self, **schedule: Any) -> Firings:
        return await self.workflow.aschedule(**schedule)

    @property
    def times(self) -> list[float]:
        return [float(each.partition(" ")[0]) for each in self.news]


async def test_each_firing_runs_the_steps_anew_under_an_id_of_its_own() -> None:
    repeated = Repeated()
    assert await repeated.run(every=60, max_repeats=3) == Firings(done=3)
    assert repeated.news == [
        "60 nightly-20260301T000100.000000Z",
        "120 nightly-20260301T000200.000000Z",
        "180 nightly-20260301T000300.000000Z",
    ]
    assert repeated.workflow.status == "Not started"


async def test_cron_and_times_of_a_day_are_those_of_agents() -> None:
    repeated = Repeated()
    await repeated.run(cron="0 6 * * *", tz="Europe/Berlin", max_repeats=2)
    await Repeated().run(at="06:00", max_repeats=1)
    assert repeated.times == [5 * 3600, 29 * 3600]


@pytest.mark.parametrize(
    ("overlap", "times", "skipped"),
    [
        ("skip", [10, 40, 70], 4),
        ("queue", [10, 35, 60, 85, 110, 135, 160], 0),
        ("parallel", [10, 20, 30, 40, 50, 60, 70], 0),
    ],
)
async def test_overlap_says_what_happens_to_a_firing_while_a_run_goes_on(
    overlap: str, times: list[float], skipped: int
) -> None:
    repeated = Repeated(takes=25)
    came = await repeated.run(every=10, max_repeats=7, overlap=overlap)
    assert repeated.times == times
    assert came == Firings(done=len(times), skipped=skipped)


async def test_a_run_that_fails_ends_no_schedule(caplog: pytest.LogCaptureFixture) -> None:
    assert await Repeated(fails=True).run(every=1, max_repeats=2) == Firings(failed=2)
    assert "a run that a schedule has set off failed" in caplog.text


async def test_cancelling_a_schedule_cancels_its_run() -> None:
    repeated = Repeated(takes=100)
    running = asyncio.create_task(repeated.run(every=10))
    await repeated.clock.advance(15)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert repeated.times == [10]


def test_a_schedule_can_block() -> None:
    repeated = Repeated()
    assert repeated.workflow.schedule(every=5, max_repeats=2) == Firings(done=2)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({}, "a schedule needs exactly one of every=, at= and cron="),
        ({"cron": "0 0 30 2 *"}, "cron=.* is not valid"),
        ({"every": 1, "overlap": "wait"}, "overlap= is one of skip, queue, parallel"),
        ({"every": 1, "resume": True}, "resume=True needs a storage"),
    ],
)
async def test_a_schedule_that_means_nothing_is_refused(schedule: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        await Workflow().aschedule(**schedule)


# ---- agents


async def test_a_workflow_is_an_agents_engine() -> None:
    flock = Flock()

    @action
    async def fetch(initial_context: Context[Order]) -> int:
        assert initial_context.storage is not None
        await flock.publish(Note(text="fetched"))
        return initial_context.storage.number

    @action
    def report(previous_context: Context[int]) -> Report:
        return Report(text=f"order {previous_context.storage}")

    workflow = Workflow()
    workflow.task.add([fetch, report])
    flock.agent("etl").consumes(Order).publishes(Report).with_engines(workflow)
    async with flock:
        await flock.publish_many([Order(number=number) for number in range(3)])
        await flock.run_until_idle()
        assert sorted(each.text for each in await flock.store.get_by_type(Report)) == ["order 0", "order 1", "order 2"]
        (note, *_) = await flock.store.query(Note)
        assert note.produced_by == "etl"
        assert note.parents
    assert workflow.status == "Not started"


async def test_several_inputs_are_a_list_and_a_class_gives_several_outputs() -> None:
    flock = Flock()

    @action
    class Steps:
        @action
        def one(self, initial_context: Context[list[Order]]) -> Report:
            return Report(text=f"{len(initial_context.storage or [])} orders")

        @action
        def two(self) -> Note:
            return Note(text="counted")

    workflow = Workflow()
    workflow.task.add(Steps)
    flock.agent("etl").consumes(Order, Order).publishes(Report, Note).with_engines(workflow)
    async with flock:
        await flock.publish_many([Order(number=1), Order(number=2)])
        await flock.run_until_idle()
        assert await flock.store.get_by_type(Failure) == []
        assert await flock.store.get_by_type(Report) == [Report(text="2 orders")]


async def test_an_activation_that_is_tried_again_goes_on_where_it_was(tmp_path: Path) -> None:
    flock, ran, luck = Flock(), list[str](), iter([0, 1])

    @action
    def fetch() -> int:
        ran.append("fetch")
        return 3

    @action
    def report(previous_context: Context[int]) -> Report:
        ran.append("report")
        if not next(luck):
            raise ConnectionError
        return Report(text=str(previous_context.storage))

    workflow = Workflow(Config(storage=FileStorage(tmp_path)), "etl")
    workflow.task.add([fetch, report])
    flock.agent("etl").consumes(Order).publishes(Report).with_engines(workflow).retry(2, delay=0.001)
    async with flock:
        await flock.publish(Order(number=1))
        await flock.run_until_idle()
        assert await flock.store.get_by_type(Report) == [Report(text="3")]
    assert ran == ["fetch", "report", "report"]


async def test_a_step_that_fails_fails_its_activation() -> None:
    flock = Flock()
    workflow = Workflow()
    workflow.task.add(lambda: 1 / 0)
    flock.agent("etl").consumes(Order).publishes(Report).with_engines(workflow)
    async with flock:
        await flock.publish(Order(number=1))
        await flock.run_until_idle()
        (failure,) = await flock.store.get_by_type(Failure)
        assert failure.error_type == "ZeroDivisionError"


async def test_cancelling_a_task_cancels_its_step() -> None:
    cleaned = asyncio.Event()

    @action(retry=5)
    async def step() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    async def run(task: Task) -> None:
        engine = AsyncTaskEngine(task)
        async with engine.start():
            await engine.execute_with_retry()

    task = Task(step=step)
    running = asyncio.create_task(run(task))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert cleaned.is_set()
    assert task.status == "Cancelled"
    assert [each.type for each in task.errors] == ["CancelledError"]
