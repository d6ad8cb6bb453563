"""Results that outlive their process: what is kept, what runs again, and what a kill leaves behind."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, field_validator

from flock import ConfigurationError, Flock, StoreError
from flock.tasks import (
    BlockingHandle,
    BoardStorage,
    Config,
    Context,
    FileStorage,
    InputChangedError,
    Storage,
    Task,
    Workflow,
    action,
)  # fmt: skip
from flock.tasks.nodes import from_node, to_node

PROGRAM = """
import asyncio, os, sys
from pathlib import Path
from flock import Flock
from flock.tasks import BoardStorage, Config, FileStorage, Workflow, action

kind, where, die, mode = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
log = Path(where, "log")

def step(number):
    @action
    def body(initial_context, previous_context):
        with log.open("a") as file:
            file.write(f"{number}\\n")
        if number == die:
            os.kill(os.getpid(), 9)
        return [*(previous_context.storage or []), number]
    return body

async def start(workflow):
    given = await workflow.astart(mode, resume=True, max_concurrency=1)
    return await given.wait() if mode == "async_background" else given

async def main():
    flock = None if kind == "files" else Flock(store=f"sqlite:///{where}/board.db")
    storage = FileStorage(Path(where, "results")) if flock is None else BoardStorage(flock)
    workflow = Workflow(Config(storage=storage), "etl")
    for number in range(5):
        workflow.task.add(step(number), initial_context={"of": "today"}, group_name="a" if number < 3 else "b")
    tasks = await start(workflow)
    print(*[task.current_context.storage[-2:] for task in tasks])
    if flock is not None:
        await flock.shutdown()

asyncio.run(main())
"""


class Row(BaseModel):
    number: int
    tags: list[str] = []


class Picky(BaseModel):
    """Reads back as another."""

    text: str

    @field_validator("text")
    @classmethod
    def shout(cls, value: str) -> str:
        return f"{value}!"


class Dict:
    """A storage in memory."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    async def get(self, key: str) -> str | None:
        return self.texts.get(key)

    async def put(self, key: str, text: str) -> None:
        self.texts[key] = text


def finish(given: object) -> None:
    """Wait for the end of what was started, if it runs in the background."""
    if isinstance(given, BlockingHandle):
        given.wait()


class Scene:
    """Starts a workflow of three steps anew, as another process would."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.ran: list[str] = []

    def start(self, factor: int = 1, fails: str = "", **options: Any) -> list[Any]:
        def step(name: str) -> Any:
            @action
            def body(previous_context: Context[int], initial_context: Context[int]) -> int:
                self.ran.append(name)
                if name == fails:
                    raise ValueError(name)
                return (previous_context.storage or 0) + (initial_context.storage or 0)

            return body

        workflow = Workflow(Config(storage=self.storage), "wf")
        for name in "abc":
            workflow.task.add(step(name), initial_context=factor if name == "b" else 1)
        finish(workflow.start(**options))
        return [task.current_context.storage for task in workflow.task]


@pytest.fixture(params=["files", "memory"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    return Scene(FileStorage(tmp_path / "results") if request.param == "files" else Dict())


def test_what_has_completed_is_not_run_again(scene: Scene) -> None:
    assert scene.start(resume=True) == [1, 2, 3]
    assert scene.start(resume=True) == [1, 2, 3]
    assert scene.ran == ["a", "b", "c"]


def test_what_has_failed_runs_again_and_what_follows(scene: Scene) -> None:
    with pytest.raises(ValueError, match="b"):
        scene.start(fails="b")
    assert scene.start(resume=True) == [1, 2, 3]
    assert scene.ran == ["a", "b", "b", "c"]


def test_without_resume_all_of_it_runs(scene: Scene) -> None:
    scene.start()
    scene.start()
    assert scene.ran == [*"abcabc"]


MODES = ["sequential", "sequential_group", "parallel", "background"]


@pytest.mark.parametrize("mode", MODES)
def test_other_inputs_reuse_what_was_given(scene: Scene, mode: str) -> None:
    before = scene.start(mode=mode)
    assert before == ([1, 1, 1] if mode == "parallel" else [1, 2, 3])
    assert scene.start(5, mode=mode, resume=True) == before
    assert sorted(scene.ran) == [*"abc"]


@pytest.mark.parametrize("mode", MODES)
def test_other_inputs_reset_the_step_and_what_it_leads_to(scene: Scene, mode: str) -> None:
    scene.start(mode=mode)
    came, again = ([1, 5, 1], "b") if mode == "parallel" else ([1, 6, 7], "bc")
    assert scene.start(5, mode=mode, resume=True, on_input_change="reset") == came
    assert sorted(scene.ran) == sorted("abc" + again)
    assert scene.start(5, mode=mode, resume=True, on_input_change="raise") == came
    assert sorted(scene.ran) == sorted("abc" + again)


@pytest.mark.parametrize("mode", MODES)
def test_other_inputs_raise(scene: Scene, mode: str) -> None:
    scene.start(mode=mode)
    with pytest.raises(InputChangedError, match="step 'body' has completed before, with other inputs"):
        scene.start(5, mode=mode, resume=True, on_input_change="raise")
    assert sorted(scene.ran) == [*"abc"]


def test_resuming_needs_a_storage() -> None:
    with pytest.raises(ConfigurationError, match="resume=True needs a storage"):
        Workflow().start(resume=True)


def test_resuming_needs_an_id_that_stays(scene: Scene) -> None:
    with pytest.raises(ConfigurationError, match="resume=True needs an id that stays"):
        Workflow(Config(storage=scene.storage)).start(resume=True)


def test_what_means_nothing_is_refused(scene: Scene) -> None:
    with pytest.raises(ConfigurationError, match="on_input_change= is one of reuse, reset, raise"):
        scene.start(on_input_change="ask")


def test_a_result_that_cannot_be_kept_fails_its_task(scene: Scene) -> None:
    workflow = Workflow(Config(storage=scene.storage))
    workflow.task.add(lambda: {"x": object()})
    with pytest.raises(StoreError, match="a result of type object can't be kept"):
        workflow.start()
    assert workflow.status == "Failed"


def test_steps_of_a_class_are_kept_as_one(scene: Scene) -> None:
    @action
    class Steps:
        @action
        def one(self) -> Row:
            scene.ran.append("one")
            return Row(number=1, tags=["x"])

        @action
        def two(self, previous_context: Context[Row]) -> dict[str, Row | None]:
            return {"row": previous_context.storage}

    def start() -> Context[list[Context[Any]]]:
        workflow = Workflow(Config(storage=scene.storage), "classes")
        workflow.task.add(Steps)
        return workflow.start(resume=True)[0].current_context

    for found in (start(), start()):
        assert [each.storage for each in found.storage] == [
            Row(number=1, tags=["x"]),
            {"row": Row(number=1, tags=["x"])},
        ]
        assert found.time is not None
        assert found.workflow_id == "classes"
    assert scene.ran == ["one"]


def test_a_file_that_is_damaged_is_told(tmp_path: Path) -> None:
    scene = Scene(FileStorage(tmp_path))
    scene.start()
    (first,) = tmp_path.glob("wf/0/*.json")
    first.write_text("{")
    with pytest.raises(StoreError, match="what was kept of 'body' can't be read"):
        scene.start(resume=True)


@pytest.mark.parametrize("name", ["../../../etc/passwd", "..", ".", "/etc/passwd"])
def test_files_stay_in_their_directory_whatever_a_workflow_is_called(tmp_path: Path, name: str) -> None:
    workflow = Workflow(Config(storage=FileStorage(tmp_path / "results" / "inner")), name)
    workflow.task.add(lambda: 1)
    workflow.start()
    (found,) = tmp_path.rglob("*.json")
    assert found.is_relative_to(tmp_path / "results" / "inner")
    assert found.parent.parent.parent == tmp_path / "results" / "inner"


def test_what_can_not_be_written_leaves_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = FileStorage(tmp_path)
    storage.put("a/0/b", "one")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        storage.put("a/0/b", "two")
    monkeypatch.undo()
    assert storage.get("a/0/b") == "one"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["b.json"]


IN_ORDER = "[0] [0, 1] [1, 2] [2, 3] [3, 4]"
SHOWN = {
    "async_sequential": IN_ORDER,
    "async_background": IN_ORDER,
    "async_sequential_group": "[0] [0, 1] [1, 2] [3] [3, 4]",
    "async_parallel": "[0] [1] [2] [3] [4]",
}


@pytest.mark.parametrize("kind", ["files", "board"])
@pytest.mark.parametrize("die", [0, 2, 4])
@pytest.mark.parametrize("mode", SHOWN)
def test_after_a_kill_another_process_goes_on(tmp_path: Path, kind: str, die: int, mode: str) -> None:
    def run(die: int) -> tuple[int, str]:
        command = [sys.executable, "-c", PROGRAM, kind, str(tmp_path), str(die), mode]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)  # noqa: S603
        return ended.returncode, ended.stdout.strip() or ended.stderr

    assert run(die)[0] == -signal.SIGKILL
    assert run(-1) == (0, SHOWN[mode])
    assert run(-1) == (0, SHOWN[mode])
    log = (tmp_path / "log").read_text().split()
    assert log == [str(number) for number in [*range(die + 1), *range(die, 5)]]


async def test_a_flock_that_has_a_workflow_can_keep_its_results() -> None:
    async with Flock() as flock:
        for _ in range(2):
            workflow = Workflow(Config(storage=BoardStorage(flock)), "wf")
            workflow.task.add(lambda: [1, 2])
            (task,) = await workflow.astart(resume=True)
            assert task.current_context.storage == [1, 2]
        assert len(await flock.store.query("flock.StepResult", correlation_id="wf")) == 1


# ---- what is written

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    leaves | st.builds(Row, number=st.integers(), tags=st.lists(st.text())),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(values)
def test_what_is_written_is_what_is_read(value: Any) -> None:
    read = from_node(to_node(value))
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    "value", [(1, 2), {1}, b"x", {1: 2}, math.nan, math.inf, object(), Picky(text="x"), [{"a": (1,)}]]
)
def test_what_would_read_back_as_another_is_refused(value: Any) -> None:
    with pytest.raises(StoreError, match=r"can't be kept"):
        to_node(value)


def test_a_class_that_is_not_loaded_is_told() -> None:
    with pytest.raises(StoreError, match="shop:Order can't be read: no such class is loaded"):
        from_node({"model": "shop:Order", "of": {}})


def test_a_class_that_has_changed_is_told() -> None:
    with pytest.raises(StoreError, match="can't be read back"):
        from_node({**to_node(Row(number=1)), "of": {"number": "many"}})


async def test_a_storage_that_blocks_does_not_block_the_loop() -> None:
    loop_thread = asyncio.get_running_loop()
    seen: list[tuple[str, bool]] = []

    class Slow:
        def get(self, key: str) -> None:
            seen.append((key, _running() is loop_thread))

        def put(self, key: str, text: str) -> None:
            seen.append((key, _running() is loop_thread and not text))

    workflow = Workflow(Config(storage=Slow()), "w")
    workflow.task.add(lambda: 1)
    await workflow.astart(resume=True)
    assert seen == [("w/0/%3Clambda%3E", False)] * 2


def _running() -> Any:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def test_a_task_can_be_looked_at() -> None:
    assert repr(Task(3, action(os.getpid))) == "<task 3 'getpid': Not started>"
    assert repr(action(os.getpid)) == "<step getpid>"
    assert repr(Context(3)) == "Context(storage=3)"
