"""S3: wherever Ctrl-C comes, no result is lost that a run has given, and none is kept twice."""

from __future__ import annotations

import signal
import sys
from collections.abc import Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from flock.studies import RunResult, RunStatus, Study, conduct, interrupts
from flock.studies.attempt import Job, attempt
from flock.studies.crew import Shift, Worker
from flock.studies.record import reading
from flock.studies.ways import Way

_WATCHED = {str(each.__file__) for each in (conduct, interrupts)}


@contextmanager
def interrupted_at(line: int) -> Generator[list[str]]:
    """Have Ctrl-C come when this thread reaches the so-many-th line of the course of a study; gives where that was."""
    left, places = [line], list[str]()

    def look(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename not in _WATCHED:
            return None
        if event == "line":
            left[0] -= 1
            if not left[0]:
                sys.settrace(None)
                places.append(f"{frame.f_code.co_name}, line {frame.f_lineno}")
                signal.raise_signal(signal.SIGINT)
        return look

    before = sys.gettrace()
    sys.settrace(look)
    try:
        yield places
    finally:
        sys.settrace(before)


def attempts(folder: Path) -> list[tuple[str, RunStatus]]:
    with reading(folder) as reader:
        return [(each.run_id, each.status) for each in reader.attempts()]


@pytest.mark.timeout(600)  # a study for each line
@pytest.mark.parametrize("parallel", [1, 2])
def test_s3_ctrl_c_at_any_line_loses_no_result_and_keeps_none_twice(
    tmp_path: Path, parallel: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = set[str]()

    def telling(self: Shift, worker: Worker, job: Job, result: RunResult) -> None:
        """Tell, and note what was told."""
        tell(self, worker, job, result)
        if not worker.given_up:
            told.add(result.run_id)

    def one_by_one(job: Job, way: Way, *, alone: bool) -> Coroutine[None, None, RunResult]:
        """Run a job in this thread, and note which have run before it."""
        told.update(ran)
        ran.append(job.spec.run_id)
        return attempt(job, way, alone=alone)

    tell, ran = Shift.tell, list[str]()
    monkeypatch.setattr(Shift, "tell", telling)
    monkeypatch.setattr(conduct, "attempt", one_by_one)
    line, places = 0, ["nowhere yet"]
    while places:
        line += 1
        told.clear()
        ran.clear()
        folder = tmp_path / str(line)
        agents = {"agent": lambda: "done"}
        study = Study.build(f"again {line}", agents=agents, problems={"p": ""}, replicates=6, output_dir=folder)
        with interrupted_at(line) as places, suppress(KeyboardInterrupt):
            study.run(progress=False, parallel=parallel)
        kept = attempts(study.directory)
        mine = {each.run_id for each in study.plan().runs}  # a thread may tell late of a study before
        assert {run_id for run_id, status in kept if status is RunStatus.SUCCESS} >= told & mine, places
        assert len(kept) == len({run_id for run_id, _ in kept}), places
    assert line > 100
    assert len(told) >= 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_s3_a_signal_wakes_what_waits_and_is_handled_once_that_has_ended(number: signal.Signals) -> None:
    seen: list[str] = []
    before = signal.signal(number, lambda *_: seen.append("handled"))
    try:
        with interrupts.uninterrupted(lambda: seen.append("woken")):
            signal.raise_signal(number)
            seen.append("ended")
        assert seen == ["woken", "ended", "handled"]
        signal.raise_signal(number)
        assert seen[3:] == ["handled"]
        signal.signal(number, signal.SIG_IGN)
        with interrupts.uninterrupted(lambda: seen.append("woken")):
            signal.raise_signal(number)
        assert len(seen) == 4
    finally:
        signal.signal(number, before)


def test_s3_a_thread_that_gets_no_signals_runs_a_study_all_the_same(tmp_path: Path) -> None:
    study = Study.build("apart", agents={"agent": lambda: "done"}, problems={"p": ""}, output_dir=tmp_path)
    with ThreadPoolExecutor(1) as threads:
        results = threads.submit(study.run, progress=False).result()
    assert [each.status for each in results] == [RunStatus.SUCCESS]
