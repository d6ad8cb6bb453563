"""S5: whatever agents and evaluators do, it is their run that fails and never the study."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from flock.studies import RunResult, RunStatus, Study, StudyStoppedError
from flock.studies.conduct import Conductor, Course, Keeper
from flock.studies.crew import Shift
from flock.studies.record import reading
from flock.studies.running import Options, Running
from flock.studies.ways import OwnLoop


def made(folder: Path, agent: Callable[..., Any], **more: Any) -> Study:
    given: dict[str, Any] = {"agents": {"agent": agent}, "problems": [f"problem {n}" for n in range(6)]}
    given["output_dir"] = folder
    return Study.build("trouble", **given | more)


def raises() -> None:
    raise KeyError("no such thing")


async def raises_late() -> None:
    await asyncio.sleep(0)
    raise ValueError("late")


def leaves() -> None:
    sys.exit(3)


async def leaves_late() -> None:
    await asyncio.sleep(0)
    sys.exit(4)


async def cancels_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


class SilentError(Exception):
    @override
    def __str__(self) -> str:
        raise RuntimeError("no words")


def raises_silently() -> None:
    raise SilentError


def dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


TROUBLE = {
    "KeyError: 'no such thing'": raises,
    "ValueError: late": raises_late,
    "SystemExit: 3": leaves,
    "SystemExit: 4": leaves_late,
    "CancelledError: ": cancels_itself,
    "SilentError: its message can't be read": raises_silently,
}


@pytest.mark.parametrize(("parallel", "isolation"), [(1, "task"), (3, "task"), (3, "thread")])
@pytest.mark.parametrize("said", TROUBLE)
def test_s5_an_agent_that_raises_fails_its_run(tmp_path: Path, said: str, parallel: int, isolation: Any) -> None:
    results = made(tmp_path, TROUBLE[said]).run(parallel=parallel, isolation=isolation, progress=False)
    assert [each.error_info for each in results] == [said] * 6
    assert {each.status for each in results} == {RunStatus.FAILED}
    assert results.failures == list(results)


@pytest.mark.parametrize("said", TROUBLE)
async def test_s5_an_agent_that_raises_fails_its_run_on_an_event_loop(tmp_path: Path, said: str) -> None:
    results = await made(tmp_path, TROUBLE[said]).arun(parallel=2, progress=False)
    assert [each.error_info for each in results] == [said] * 6


def test_s5_an_agent_that_kills_its_process_fails_its_run_and_the_next_gets_another(tmp_path: Path) -> None:
    results = made(tmp_path, dies, problems=["one", "two"]).run(isolation="process", progress=False)
    assert [each.error_info for each in results] == ["ProcessDied: the run ended its process with exit code -9"] * 2


@pytest.mark.parametrize("parallel", [1, 3])
def test_s5_an_evaluator_that_raises_fails_its_run(tmp_path: Path, parallel: int) -> None:
    def evaluator(output: dict[str, Any], problem: Any) -> float:
        if problem.problem_id == "p2":
            raise ZeroDivisionError("of nothing")
        return 1.0

    results = made(tmp_path, lambda: "done", evaluators=evaluator).run(parallel=parallel, progress=False)
    assert [each.error_info for each in results] == [None, "ZeroDivisionError: of nothing", None, None, None, None]


@pytest.mark.parametrize("gives", ["text", object(), {1, 2}])
def test_s5_an_evaluator_that_gives_no_number_fails_its_run(tmp_path: Path, gives: Any) -> None:
    results = made(tmp_path, lambda: "done", evaluators=lambda output: (gives, output)[0]).run(progress=False)
    assert all("give a number or a mapping of numbers" in str(each.error_info) for each in results)


def test_s5_the_first_failure_ends_intake_and_keeps_what_ended(tmp_path: Path) -> None:
    ran: list[str] = []

    def agent(request_id: str) -> str:
        ran.append(request_id)
        if len(ran) == 3:
            raise RuntimeError("third")
        return "done"

    study = made(tmp_path, agent)
    results = study.run(fail_fast=True, progress=False)
    by_order = {each.run_id: each for each in results}
    statuses = [by_order[run_id].status.value for run_id in study.plan().order]
    assert statuses == ["success", "success", "failed", "skipped", "skipped", "skipped"]
    assert len(ran) == 3
    skipped = by_order[study.plan().order[-1]]
    assert (skipped.status_reason, skipped.error_info) == ("fail_fast_after_failed_run", None)


def test_s5_what_runs_beside_the_first_failure_ends_and_is_kept(tmp_path: Path) -> None:
    beside, failed = threading.Event(), threading.Event()

    def agent(problem: Any) -> str:
        if problem.problem_id == "p1":
            assert beside.wait(10)
            failed.set()
            raise RuntimeError("first")
        beside.set()
        assert failed.wait(10)
        return "done"

    results = made(tmp_path, agent, problems=["one", "two"]).run(parallel=2, fail_fast=True, progress=False)
    assert [each.status for each in results] == [RunStatus.FAILED, RunStatus.SUCCESS]


@pytest.mark.parametrize("isolation", ["task", "thread"])
def test_s5_the_first_failure_of_several_at_a_time_skips_what_has_not_begun(tmp_path: Path, isolation: Any) -> None:
    study = made(tmp_path, raises_late, problems=[f"problem {n}" for n in range(50)])
    results = study.run(parallel=2, fail_fast=True, isolation=isolation, progress=False)
    statuses = [each.status.value for each in results]
    assert len(statuses) == 50
    assert statuses.count("skipped") >= 48
    assert statuses.count("failed") + statuses.count("skipped") == 50


async def endless() -> None:
    await asyncio.Event().wait()


def blocks() -> None:
    threading.Event().wait(30)


SLOW = [(endless, "task"), (endless, "thread"), (blocks, "task"), (blocks, "process")]


@pytest.mark.parametrize(("agent", "isolation"), SLOW)
def test_s5_a_run_that_takes_too_long_fails_and_the_others_go_on(tmp_path: Path, agent: Any, isolation: Any) -> None:
    agents = {"slow": agent, "quick": quick}
    study = made(tmp_path, agent, agents=agents, problems=["one", "two"])
    results = study.run(parallel=2, timeout=5 if isolation == "process" else 1, isolation=isolation, progress=False)
    said = {(each.run_spec.agent_id, each.status_reason) for each in results if each.run_spec is not None}
    assert said == {("slow", "timeout"), ("quick", None)}
    assert all("TimeoutError: it took longer than" in str(each.error_info) for each in results.failures)


def quick() -> str:
    return "done"


def test_s5_what_an_agent_awaits_is_cancelled_when_its_time_is_over(tmp_path: Path) -> None:
    cancelled: list[str] = []

    async def agent(request_id: str) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(request_id)
            raise

    results = made(tmp_path, agent).run(parallel=6, timeout=2, progress=False)
    assert len(results.failures) == 6
    assert sorted(cancelled) == sorted(each.run_id for each in results)


async def sleeps_in_a_thread() -> None:
    await asyncio.to_thread(threading.Event().wait, 20)


@pytest.mark.timeout(15)
@pytest.mark.parametrize("isolation", ["task", "thread"])
def test_s5_a_thread_that_nobody_can_stop_holds_no_study_up(tmp_path: Path, isolation: Any) -> None:
    study = made(tmp_path, sleeps_in_a_thread, problems=["one"])
    results = study.run(timeout=0.1, isolation=isolation, progress=False)
    assert [each.status_reason for each in results] == ["timeout"]


class Nap:
    """Takes its time, and does not mind when nobody awaits it after all."""

    def __await__(self) -> Generator[Any, None, None]:
        yield from asyncio.sleep(20).__await__()


def test_s5_a_cancellation_just_before_the_wait_begins_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    begin, loop = asyncio.run_coroutine_threadsafe, OwnLoop()

    def cancelled_meanwhile(*given: Any) -> Any:
        future = begin(*given)
        loop.cancel()
        return future

    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", cancelled_meanwhile)
    with pytest.raises(concurrent.futures.CancelledError):
        loop.wait(Nap())
    loop.close()


def test_s5_a_loop_ends_though_a_thread_that_it_waited_for_goes_on() -> None:
    go_on, at_work, over = threading.Event(), threading.Event(), threading.Event()

    def blocks_on() -> None:
        at_work.set()
        go_on.wait(20)
        over.set()

    def cancel() -> None:
        at_work.wait(20)
        loop.cancel()

    loop = OwnLoop()
    threading.Thread(target=cancel).start()
    with pytest.raises(concurrent.futures.CancelledError):
        loop.wait(asyncio.to_thread(blocks_on))
    loop.close()
    assert not over.is_set()
    go_on.set()


SEEN: contextvars.ContextVar[str] = contextvars.ContextVar("SEEN", default="nothing")


def leaves_a_trace(request_id: str) -> str:
    before = SEEN.get()
    SEEN.set(request_id)
    return before


async def leaves_a_trace_later(request_id: str) -> str:
    await asyncio.sleep(0)
    return leaves_a_trace(request_id)


@pytest.mark.parametrize("agent", [leaves_a_trace, leaves_a_trace_later])
@pytest.mark.parametrize(("parallel", "isolation"), [(1, "task"), (2, "task"), (2, "thread")])
def test_s5_no_run_sees_the_context_variables_of_another(
    tmp_path: Path, agent: Any, parallel: int, isolation: Any
) -> None:
    results = made(tmp_path, agent).run(parallel=parallel, isolation=isolation, progress=False)
    assert {each.outputs["text"] for each in results} == {"nothing"}


async def test_s5_cancelling_a_study_keeps_what_ended_and_says_what_ran(tmp_path: Path) -> None:
    waiting, cleaned_up = asyncio.Event(), asyncio.Event()
    count = [0]

    async def agent() -> str:
        count[0] += 1
        if count[0] > 2:
            waiting.set()
            try:
                await asyncio.Event().wait()
            finally:
                cleaned_up.set()
        return "done"

    task = asyncio.create_task(made(tmp_path, agent).arun(progress=False))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(cleaned_up.wait(), 5)
    with reading(tmp_path) as record:
        found = sorted((each.status.value, each.status_reason) for each in record.attempts())
    assert found == [("failed", "interrupted"), ("success", None), ("success", None)]
    assert len((tmp_path / "runs.csv").read_text().splitlines()) == 4


def test_s5_a_study_that_is_told_to_stop_before_it_begins_runs_nothing(tmp_path: Path) -> None:
    running = Running(made(tmp_path, quick).plan(), Options(parallel=2, progress=False))
    running.stop()
    with pytest.raises(StudyStoppedError):
        list(running.results())


def test_a_conductor_keeps_nothing_without_a_record() -> None:
    results: list[RunResult] = list(Conductor(Course(), Keeper(None, {})).results([]))
    assert results == []


UNGUARDED = """
import sys
from flock.studies import Study
def agent():
    return "done"
study = Study.build("script", agents={"agent": agent}, problems=["one"], output_dir=sys.argv[1])
print(study.run(isolation="process", progress=False)[0].error_info)
"""


def test_s5_a_script_that_runs_whatever_imports_it_is_told_what_to_do(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    said = subprocess.run(  # noqa: S603 - our own interpreter and our own text
        [sys.executable, str(script), str(tmp_path / "out")], capture_output=True, text=True, check=True
    ).stdout
    assert "ProcessDied: no process can be started: put what a script runs under `if __name__ == '__main__':`" in said


def test_s5_what_ended_while_nobody_looked_is_kept_when_a_study_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell, told = Shift.tell, threading.Semaphore(0)

    def telling(*given: Any) -> None:
        tell(*given)
        told.release()

    monkeypatch.setattr(Shift, "tell", telling)
    results = Running(made(tmp_path, quick).plan(), Options(parallel=2, progress=False)).results()
    next(results)
    for _ in range(6):
        assert told.acquire(timeout=10)
    results.close()
    with reading(tmp_path) as record:
        assert [each.status for each in record.attempts()] == [RunStatus.SUCCESS] * 6
