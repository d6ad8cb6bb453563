"""Workflows: every mode's order, what a failure does, groups, limits, the background, callbacks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from flock import ConfigurationError, FlockError
from flock.tasks import BlockingHandle, Config, Context, Handle, Task, Workflow, action
from flock.testing import FakeClock

MODES = ["sequential", "sequential_group", "parallel"]


class Scene:
    """A workflow whose steps note when they begin and end."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.news: list[str] = []
        self.workflow = Workflow(Config(clock=self.clock))

    def step(self, name: str, *, takes: float = 1, fails: bool = False) -> Any:
        async def body(previous_context: Context[Any]) -> str:
            self.news.append(f"{name} begins after {previous_context.storage}")
            try:
                await self.clock.sleep(takes)
                if fails:
                    raise ValueError(name)
            finally:
                self.news.append(f"{name} ends")
            return name

        return action(body)

    def add(self, *names: str, group: str = "default", **options: Any) -> None:
        for name in names:
            self.workflow.task.add(self.step(name, **options), group_name=group)

    @property
    def statuses(self) -> list[str]:
        return [str(task.status) for task in self.workflow.task]

    def results(self) -> list[Any]:
        return [task.current_context.storage for task in self.workflow.task]


def stands(of: Workflow | Handle | BlockingHandle) -> str:
    """Say how a workflow stands."""
    return str(of.status)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_making_a_workflow_runs_nothing(scene: Scene) -> None:
    scene.add("a", "b")
    assert stands(scene.workflow) == "Not started"
    assert scene.statuses == ["Not started", "Not started"]
    assert scene.workflow.task.count() == len(scene.workflow.task) == 2
    scene.workflow.task.clear()
    assert not scene.workflow.task.count()


def test_steps_are_added_one_by_one_or_as_a_list(scene: Scene) -> None:
    called: list[int] = []
    odd: Any = 3

    def callback(task: Task) -> None:
        called.append(task.task_id)

    first, second = scene.step("a"), scene.step("b")
    queue = scene.workflow.task.add([first, second], callback=callback, initial_context=5, group_name="g").add(
        lambda: 3
    )
    assert [(task.task_id, task.group_name, task.initial_context.storage) for task in queue] == [
        (0, "g", 5), (1, "g", 5), (2, "default", None),
    ]  # fmt: skip
    scene.workflow.start()
    assert called == [0, 1]
    with pytest.raises(ConfigurationError):
        scene.workflow.task.add([first, 3])
    with pytest.raises(ConfigurationError, match="callback= takes a function"):
        scene.workflow.task.add(first, callback=odd)
    assert queue.count() == 3


# ---- order


async def test_sequential_is_one_after_the_other_each_with_what_the_last_gave(scene: Scene) -> None:
    scene.add("a", "b", group="g")
    scene.add("c")
    tasks = await scene.workflow.astart()
    assert scene.news == ["a begins after None", "a ends", "b begins after a", "b ends", "c begins after b", "c ends"]
    assert scene.statuses == ["Completed"] * 3
    assert stands(scene.workflow) == "Completed"
    assert [task.duration for task in tasks] == [1, 1, 1]


async def test_groups_run_in_order_inside_and_side_by_side_outside(scene: Scene) -> None:
    scene.add("a", "b", group="g", takes=2)
    scene.add("x", "y", group="h", takes=1.5)
    began = scene.clock.now()
    await scene.workflow.astart("async_sequential_group")
    assert scene.news == [
        "a begins after None", "x begins after None", "x ends", "y begins after x",
        "a ends", "b begins after a", "y ends", "b ends",
    ]  # fmt: skip
    assert scene.clock.now() - began == 4


async def test_parallel_is_side_by_side_each_with_the_workflows_own_context(scene: Scene) -> None:
    scene.add("a", "b", "c")
    began = scene.clock.now()
    await scene.workflow.astart("async_parallel")
    assert scene.news[:3] == [f"{name} begins after None" for name in "abc"]
    assert scene.clock.now() - began == 1
    assert scene.results() == ["a", "b", "c"]


@pytest.mark.parametrize(("most", "seconds"), [(None, 1), (8, 3), (1, 20), (20, 1)])
async def test_a_limit_bounds_how_many_run_at_once(scene: Scene, most: int | None, seconds: float) -> None:
    scene.add(*[str(number) for number in range(20)])
    began = scene.clock.now()
    await scene.workflow.astart("async_parallel", max_concurrency=most)
    assert scene.clock.now() - began == seconds


@pytest.mark.parametrize(("most", "seconds"), [(None, 2), (2, 4), (1, 8)])
async def test_a_limit_bounds_how_many_groups_run_at_once(scene: Scene, most: int | None, seconds: float) -> None:
    for group in "abcd":
        scene.add("1", "2", group=group)
    began = scene.clock.now()
    await scene.workflow.astart("async_sequential_group", max_concurrency=most)
    assert scene.clock.now() - began == seconds


async def test_eight_run_at_once_unless_it_is_said_otherwise(scene: Scene) -> None:
    scene.add(*[str(number) for number in range(20)])
    began = scene.clock.now()
    await scene.workflow.astart("async_parallel")
    assert scene.clock.now() - began == 3


# ---- failure


async def test_a_failure_stops_what_follows_and_is_raised(scene: Scene) -> None:
    scene.add("a")
    scene.add("b", fails=True)
    scene.add("c")
    with pytest.raises(ValueError, match="b"):
        await scene.workflow.astart()
    assert scene.statuses == ["Completed", "Failed", "Not started"]
    assert stands(scene.workflow) == "Failed"


@pytest.mark.parametrize("mode", ["async_parallel", "async_sequential_group"])
async def test_a_failure_cancels_what_runs_beside_it(scene: Scene, mode: Any) -> None:
    scene.add("a", group="g", takes=5)
    scene.add("b", group="h", takes=2, fails=True)
    scene.add("c", group="h" if mode == "async_sequential_group" else "i", takes=1)
    began = scene.clock.now()
    with pytest.raises(ValueError, match="b") as raised:
        await scene.workflow.astart(mode)
    assert scene.clock.now() - began == 2
    assert scene.statuses[:2] == ["Cancelled", "Failed"]
    assert "a ends" in scene.news
    assert raised.value.__context__ is None


@pytest.mark.parametrize("mode", MODES)
async def test_keep_going_leaves_errors_with_their_tasks(scene: Scene, mode: str) -> None:
    scene.add("a")
    scene.add("b", fails=True)
    scene.add("c")
    chosen: Any = f"async_{mode}"
    await scene.workflow.astart(chosen, keep_going=True)
    assert scene.statuses == ["Completed", "Failed", "Completed"]
    assert [error.message for error in scene.workflow.task.queue[1].errors] == ["b"]
    assert ("c begins after a" in scene.news) == (mode != "parallel")


async def test_cancelling_cancels_and_says_so(scene: Scene) -> None:
    scene.add("a", "b", takes=100)
    running = asyncio.create_task(scene.workflow.astart("async_parallel"))
    await scene.clock.advance(1)
    assert stands(scene.workflow) == "In progress"
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert scene.statuses == ["Cancelled", "Cancelled"]
    assert stands(scene.workflow) == "Cancelled"
    assert sorted(scene.news[-2:]) == ["a ends", "b ends"]


# ---- once


async def test_what_has_completed_is_not_run_again(scene: Scene) -> None:
    scene.add("a")
    await scene.workflow.astart()
    await scene.workflow.astart()
    assert scene.news == ["a begins after None", "a ends"]
    scene.add("b")
    await scene.workflow.astart()
    assert scene.news[2:] == ["b begins after a", "b ends"]


async def test_what_has_failed_is_run_again(scene: Scene) -> None:
    luck = iter([1, 0])

    @action
    def step() -> float:
        return 1 / (1 - next(luck))

    scene.add("a")
    scene.workflow.task.add(step)
    with pytest.raises(ZeroDivisionError):
        await scene.workflow.astart()
    tasks = await scene.workflow.astart()
    assert scene.news == ["a begins after None", "a ends"]
    assert scene.statuses == ["Completed", "Completed"]
    assert tasks[1].errors == []


async def test_two_starts_at_once_are_refused(scene: Scene) -> None:
    scene.add("a")
    running = asyncio.create_task(scene.workflow.astart())
    await asyncio.sleep(0)
    with pytest.raises(FlockError, match="runs already"):
        await scene.workflow.astart()
    await running
    await scene.workflow.astart()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"mode": "async"},
            "mode= is one of async_sequential, async_sequential_group, async_parallel, async_background",
        ),
        ({"max_concurrency": 0}, "max_concurrency= takes a number from 1"),
        ({"max_concurrency": True}, "max_concurrency= takes a number from 1"),
        ({"max_concurency": 2}, "a workflow is started with max_concurrency, .*; there is no max_concurency="),
    ],
)
async def test_what_means_nothing_is_refused(scene: Scene, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        await scene.workflow.astart(**options)
    await scene.workflow.astart()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"notify": print}, r"notify= takes an object with send\(...\), not <built-in function print>"),
        ({"log": 3}, r"log= takes an object with info\(...\) and error\(...\), not 3"),
        ({"storage": "results"}, r"storage= takes an object with get\(...\) and put\(...\), not 'results'"),
        ({"tracer": object()}, r"tracer= takes an object with start_task\(...\) and end_task"),
    ],
)
def test_what_can_not_be_told_or_asked_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Config(**options)


# ---- background


async def test_the_background_gives_a_handle(scene: Scene) -> None:
    scene.add("a", "b")
    handle = await scene.workflow.astart("async_background")
    assert stands(handle) == "In progress"
    tasks = await handle.wait()
    assert stands(handle) == "Completed"
    assert [task.current_context.storage for task in tasks] == ["a", "b"]
    assert await handle.wait() is tasks


async def test_the_background_raises_what_a_step_raised(scene: Scene) -> None:
    scene.add("a", fails=True)
    scene.add("b")
    handle = await scene.workflow.astart("async_background")
    with pytest.raises(ValueError, match="a"):
        await handle.wait()
    assert scene.statuses == ["Failed", "Not started"]


async def test_the_background_keeps_going(scene: Scene) -> None:
    scene.add("a", fails=True)
    scene.add("b")
    handle = await scene.workflow.astart("async_background", keep_going=True)
    await handle.wait()
    assert scene.statuses == ["Failed", "Completed"]


async def test_the_background_can_be_cancelled(scene: Scene) -> None:
    scene.add("a", takes=100)
    handle = await scene.workflow.astart("async_background")
    await scene.clock.advance(1)
    await handle.cancel()
    assert stands(handle) == "Cancelled"
    with pytest.raises(asyncio.CancelledError):
        await handle.wait()


# ---- for code that blocks


@pytest.mark.parametrize("mode", [*MODES, *[f"async_{mode}" for mode in MODES]])
def test_start_blocks_in_every_mode(mode: Any) -> None:
    where: list[str] = []

    def step() -> str:
        where.append(threading.current_thread().name)
        return "done"

    workflow = Workflow()
    workflow.task.add([step, step])
    workflow.start(mode)
    assert [task.current_context.storage for task in workflow.task] == ["done", "done"]
    assert threading.current_thread().name not in where
    assert stands(workflow) == "Completed"


def test_start_raises_what_a_step_raised() -> None:
    workflow = Workflow()
    workflow.task.add(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        workflow.start()
    assert stands(workflow) == "Failed"


def test_the_background_of_code_that_blocks() -> None:
    release = threading.Event()
    workflow = Workflow()
    workflow.task.add(lambda: release.wait(20))
    handle = workflow.start("background")
    assert stands(handle) == "In progress"
    with pytest.raises(TimeoutError):
        handle.wait(timeout=0.05)
    release.set()
    (task,) = handle.wait(timeout=20)
    assert task.current_context.storage is True
    assert stands(handle) == "Completed"


def test_the_background_of_code_that_blocks_can_be_cancelled() -> None:
    workflow = Workflow()
    workflow.task.add(asyncio.Event().wait)
    handle = workflow.start("background")
    handle.cancel()
    assert stands(handle) == "Cancelled"


# ---- callbacks


@pytest.mark.parametrize("fails", [False, True])
async def test_callbacks_are_called_at_the_ends(scene: Scene, caplog: pytest.LogCaptureFixture, *, fails: bool) -> None:
    def noted(what: str) -> Callable[..., None]:
        def note(tasks: list[Task]) -> None:
            scene.news.append(f"{what} {len(tasks)} {scene.workflow.status}")

        return note

    async def callback(task: Task) -> None:
        scene.news.append(f"callback {task.status}")
        raise RuntimeError("deaf")

    scene.workflow.task.add(scene.step("a", fails=fails), callback=callback)
    await scene.workflow.astart(keep_going=True, on_success=noted("success"), on_failure=noted("failure"))
    assert scene.news[2:] == (
        ["callback Failed", "failure 1 Failed"] if fails else ["callback Completed", "success 1 Completed"]
    )
    assert "callback of a workflow failed" in caplog.text


async def test_a_tracer_hears_of_the_workflow_around_its_tasks(scene: Scene) -> None:
    class Tracer:
        async def start_workflow(self, workflow_id: str) -> None:
            scene.news.append(f"workflow {workflow_id}")

        def end_workflow(self, workflow_id: str) -> None:
            scene.news.append(f"workflow {workflow_id} ends")

        def start_task(self, task: Task) -> None:
            scene.news.append(f"task {task.task_id}")

        def end_task(self, task: Task) -> None:
            scene.news.append(f"task {task.task_id} ends")

    scene.workflow = Workflow(Config(clock=scene.clock, tracer=Tracer()), "etl")
    scene.workflow.task.add(lambda: 1).add(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await scene.workflow.astart()
    assert scene.news == ["workflow etl", "task 0", "task 0 ends", "task 1", "task 1 ends", "workflow etl ends"]


# ---- what is shared


async def test_steps_share_what_belongs_to_the_loop() -> None:
    at_once, most, slots = 0, 0, asyncio.Semaphore(3)

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text=request.url.path)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:

        @action
        async def step(task: Task) -> str:
            nonlocal at_once, most
            async with slots:
                at_once += 1
                most = max(most, at_once)
                response = await client.get(f"http://test/{task.task_id}")
                await asyncio.sleep(0)
                at_once -= 1
            return response.text

        workflow = Workflow()
        workflow.task.add([step] * 1_000)
        tasks = await workflow.astart("async_parallel", max_concurrency=None)
    assert [task.current_context.storage for task in tasks] == [f"/{number}" for number in range(1_000)]
    assert most == 3
