"""S5: no run reaches another one, its loop, its data, or the study around it."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from flock.studies import Condition, RunStatus, Study, conduct
from flock.studies.crew import TaskWorker


def made(folder: Path, agent: Any, **more: Any) -> Study:
    given: dict[str, Any] = {"agents": {"agent": agent}, "problems": [f"problem {n}" for n in range(6)]}
    given["output_dir"] = folder
    return Study.build("beside", **given | more)


class Odd(BaseException):
    pass


def raises_odd() -> None:
    raise Odd("sync")


async def raises_odd_later() -> None:
    await asyncio.sleep(0)
    raise Odd("async")


def raises_cancelled() -> None:
    raise asyncio.CancelledError


def raises_exit() -> None:
    raise GeneratorExit


WAYS = [(1, "task"), (2, "task"), (2, "thread")]


@pytest.mark.parametrize(("parallel", "isolation"), WAYS)
@pytest.mark.parametrize("agent", [raises_odd, raises_odd_later, raises_cancelled, raises_exit])
def test_s5_whatever_is_raised_fails_its_run(tmp_path: Path, agent: Any, parallel: int, isolation: Any) -> None:
    results = made(tmp_path, agent).run(parallel=parallel, isolation=isolation, progress=False)
    assert [each.status for each in results] == [RunStatus.FAILED] * 6


async def test_s5_whatever_is_raised_fails_its_run_on_an_event_loop(tmp_path: Path) -> None:
    results = await made(tmp_path, raises_odd_later).arun(parallel=2, progress=False)
    assert [each.error_info for each in results] == ["Odd: async"] * 6


async def stops_its_loop(problem: Any) -> str:
    if problem.problem_id == "p1":
        asyncio.get_running_loop().stop()
    await asyncio.sleep(0.001)
    return "done"


async def cancels_all(problem: Any) -> str:
    if problem.problem_id == "p1":
        for task in asyncio.all_tasks():
            task.cancel()
    await asyncio.sleep(0.001)
    return "done"


@pytest.mark.parametrize(("parallel", "isolation"), WAYS)
def test_s5_an_agent_that_stops_its_loop_stops_no_study(tmp_path: Path, parallel: int, isolation: Any) -> None:
    results = made(tmp_path, stops_its_loop).run(parallel=parallel, isolation=isolation, progress=False)
    assert [each.status for each in results] == [RunStatus.SUCCESS] * 6


def test_s5_an_agent_that_cancels_all_tasks_of_its_loop_ends_no_study(tmp_path: Path) -> None:
    results = made(tmp_path, cancels_all).run(parallel=2, progress=False)
    said = {each.error_info for each in results.failures}
    assert len(results) == 6
    assert len(results.failures) <= 2
    assert said <= {"CancelledError: the run ended the loop that it was on", "CancelledError: "}


def test_s5_a_worker_that_is_cancelled_before_it_begins_holds_no_study_up(tmp_path: Path) -> None:
    begins, hired, number = threading.Event(), threading.Event(), itertools.count(1)

    class Late(TaskWorker):
        """Hires the second while the first begins, whose agent cancels them both."""

        def __init__(self, *given: Any) -> None:
            first = next(number) == 1
            if not first:
                begins.wait(10)
            super().__init__(*given)
            if not first:
                hired.set()

        @override
        async def _work(self) -> None:
            if not begins.is_set():
                begins.set()
                hired.wait(10)
            await super()._work()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conduct, "TaskWorker", Late)
        results = made(tmp_path, cancels_all).run(parallel=2, progress=False)
    assert len(results) == 6


@pytest.mark.parametrize("agent", [Any, None])
def test_s5_no_run_is_lost_between_the_end_of_its_time_and_the_next(tmp_path: Path, agent: Any) -> None:
    async def late(seed: int) -> str:
        await asyncio.sleep(0.02 + seed % 7 / 1000)
        return "done"

    def late_in_thread(seed: int) -> str:
        time.sleep(0.02 + seed % 7 / 1000)  # noqa: TID251 - a function that blocks
        return "done"

    study = made(tmp_path, late if agent is None else late_in_thread, replicates=20)
    results = study.run(parallel=8, timeout=0.0235, progress=False)
    assert len(results) == 120
    assert {each.status for each in results} <= {RunStatus.SUCCESS, RunStatus.FAILED}


def changes(problem: dict[str, Any], condition: Condition) -> dict[str, Any]:
    before = {"items": list(problem["items"]), "heat": condition.factor_assignments["heat"]}
    problem["items"].append("mine")
    condition.factor_assignments["heat"] = 99
    return {"output": before}


@pytest.mark.parametrize("parallel", [1, 3])
def test_s5_what_a_run_changes_of_its_problem_and_condition_is_its_own(tmp_path: Path, parallel: int) -> None:
    problems = {"p1": {"items": ["ours"]}}
    study = made(tmp_path, changes, problems=problems, factors={"heat": [1]}, replicates=3)
    results = study.run(parallel=parallel, progress=False)
    assert [each.outputs for each in results] == [{"items": ["ours"], "heat": 1}] * 3
    assert problems == {"p1": {"items": ["ours"]}}
    assert len(study.run(progress=False)) == 3


ALIVE: list[int] = []


class Heavy:
    def __init__(self) -> None:
        ALIVE.append(1)

    def __del__(self) -> None:
        ALIVE.pop()

    def run(self, seed: int) -> dict[str, Any]:
        return {"answer": seed}


def test_s5_agents_that_are_made_for_a_run_go_with_it(tmp_path: Path) -> None:
    made(tmp_path, Heavy, replicates=5).run(progress=False)
    gc.collect()
    assert ALIVE == []


def test_s5_an_agent_that_changes_the_working_directory_moves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)

    def agent() -> None:
        os.chdir(tmp_path / "elsewhere")

    results = made(Path("out"), agent).run(progress=False)
    assert len(results) == 6
    assert (tmp_path / "out" / "runs.csv").exists()
    assert not list((tmp_path / "elsewhere").iterdir())


PARENT = """
import os, sys
from flock.studies import Study
if __name__ == "__main__":
    study = Study.build("parent", agents={"a": "orphans:waits"}, problems=["one"], output_dir=sys.argv[1])
    study.run(isolation="process", progress=False)
"""
WAITS = """
import os, sys, threading
def waits():
    with open(os.environ["CHILD"], "w") as file:
        file.write(str(os.getpid()))
    threading.Event().wait(60)
"""


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
        stat = Path(f"/proc/{process}/stat").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False
    return "Z" not in stat.split(")")[1].split()[0]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at processes as Linux shows them")
def test_s5_no_process_outlives_the_one_that_started_it(tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(PARENT)
    (tmp_path / "orphans.py").write_text(WAITS)
    child = tmp_path / "child"
    with subprocess.Popen(  # noqa: S603 - our own interpreter and our own text
        [sys.executable, str(tmp_path / "parent.py"), str(tmp_path / "out")], env={**os.environ, "CHILD": str(child)}
    ) as parent:
        wait_until(lambda: child.exists() and child.read_text() != "")
        parent.send_signal(signal.SIGKILL)
    process = int(child.read_text())
    wait_until(lambda: not is_alive(process))


def wait_until(holds: Any) -> None:
    deadline = time.monotonic() + 60  # noqa: TID251 - of processes
    while not holds():
        assert time.monotonic() < deadline  # noqa: TID251
        time.sleep(0.05)  # noqa: TID251
