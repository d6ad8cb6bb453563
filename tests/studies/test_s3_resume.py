"""S3: a resumed study runs what is planned minus what succeeded of the same; nothing is mixed silently."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flock.studies import RunStatus, Study, StudyChangedError, ValidationError, resume_study, run_study
from flock.studies.record import reading

Agent = Callable[..., Any]


class Counting:
    """Agents that count which runs they ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def good(self, request_id: str, seed: int) -> dict[str, Any]:
        self.ran.append(request_id)
        return {"answer": seed}


@pytest.fixture
def counting() -> Counting:
    """A count that begins at nothing."""
    return Counting()


def made(folder: Path, agent: Agent, **more: Any) -> Study:
    given: dict[str, Any] = {"problems": {"p1": "one", "p2": "two"}, "replicates": 2, "output_dir": folder}
    return Study.build("again", agents={"agent": agent}, **given | more)


def exported(folder: Path) -> Iterator[dict[str, str]]:
    with (folder / "runs.csv").open(newline="") as file:
        yield from csv.DictReader(file)


def test_s3_what_succeeded_runs_no_second_time(tmp_path: Path, counting: Counting) -> None:
    first = made(tmp_path, counting.good).run(progress=False)
    again = made(tmp_path, counting.good).run(progress=False)
    assert len(counting.ran) == 4
    assert list(again) == list(first)


def test_s3_failed_skipped_and_interrupted_runs_run_again(tmp_path: Path, counting: Counting) -> None:
    ways = iter(["good", "raise", "good", "stop", "good", "good", "good", "good"])

    def agent(request_id: str, seed: int) -> dict[str, Any]:
        match next(ways):
            case "raise":
                raise RuntimeError("no")
            case "stop":
                raise KeyboardInterrupt
            case _:
                return counting.good(request_id, seed)

    with pytest.raises(KeyboardInterrupt):
        made(tmp_path, agent).run(progress=False)
    done = list(counting.ran)
    results = made(tmp_path, agent).run(progress=False)
    assert [each.status for each in results] == [RunStatus.SUCCESS] * 4
    assert len(done) == 2
    assert sorted(counting.ran) == sorted({each.run_id for each in results})


def test_s3_skipped_runs_run_again(tmp_path: Path) -> None:
    fails = [True]

    def agent() -> str:
        if fails[0]:
            raise RuntimeError("no")
        return "done"

    statuses = [each.status for each in made(tmp_path, agent).run(progress=False, fail_fast=True)]
    assert sorted(statuses) == ["failed", "skipped", "skipped", "skipped"]
    fails[0] = False
    assert [each.status for each in made(tmp_path, agent).run(progress=False)] == [RunStatus.SUCCESS] * 4


def test_s3_failed_runs_are_left_alone_when_told(tmp_path: Path, counting: Counting) -> None:
    def agent(request_id: str, problem: Any) -> str:
        counting.ran.append(request_id)
        if problem.problem_id == "p1":
            raise RuntimeError("no")
        return "done"

    made(tmp_path, agent).run(progress=False)
    results = made(tmp_path, agent).run(progress=False, retry_failed=False)
    assert len(counting.ran) == 4
    assert [each.status for each in results].count(RunStatus.FAILED) == 2


def test_s3_interrupted_runs_run_again_though_failed_ones_do_not(tmp_path: Path, counting: Counting) -> None:
    ways = iter(["raise", "stop", "good", "good", "good"])

    def agent(request_id: str, seed: int) -> dict[str, Any]:
        match next(ways):
            case "raise":
                raise RuntimeError("no")
            case "stop":
                raise KeyboardInterrupt
            case _:
                return counting.good(request_id, seed)

    with pytest.raises(KeyboardInterrupt):
        made(tmp_path, agent).run(progress=False)
    results = made(tmp_path, agent).run(progress=False, retry_failed=False)
    assert sorted(each.status for each in results) == ["failed", "success", "success", "success"]


def first(seed: int) -> dict[str, Any]:
    return {"answer": seed}


def second(seed: int) -> dict[str, Any]:
    return {"answer": seed + 1}


def prompted(prompt: str) -> Agent:
    def agent(brief: str) -> str:
        return f"{prompt} {brief}"

    return agent


CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "the agent's code": ({"agent": first}, {"agent": second}),
    "what the agent closes over": ({"agent": prompted("think")}, {"agent": prompted("think hard")}),
    "a problem": ({"agent": first}, {"agent": first, "problems": {"p1": "one", "p2": "other"}}),
    "an evaluator": (
        {"agent": first, "evaluators": lambda output: output["answer"]},
        {"agent": first, "evaluators": lambda output: output["answer"] * 2},
    ),
    "the seed": ({"agent": first}, {"agent": first, "seed": 1}),
    "the pairing": ({"agent": first}, {"agent": first, "pair_by": "problem"}),
}


@pytest.mark.parametrize("what", CHANGES)
def test_s3_what_is_another_than_before_is_refused_or_run_again_or_reused(tmp_path: Path, what: str) -> None:
    before, after = CHANGES[what]
    old = made(tmp_path, **before).run(progress=False)
    with pytest.raises(StudyChangedError, match=r"runs have succeeded with another agent.*'rerun'.*'reuse'"):
        made(tmp_path, **after).run(progress=False)
    reused = made(tmp_path, **after).run(progress=False, on_change="reuse")
    assert [each.outputs for each in reused] == [each.outputs for each in old]
    made(tmp_path, **after).run(progress=False, on_change="rerun")
    with reading(tmp_path) as record:
        attempts = [each.attempt for each in record.states().values()]
    assert 2 in attempts
    assert made(tmp_path, **after).run(progress=False).plan.errors == []


def test_s3_a_success_counts_though_another_agent_was_tried_after_it(tmp_path: Path, counting: Counting) -> None:
    def fails(seed: int) -> None:
        raise RuntimeError(f"no {seed}")

    old = made(tmp_path, counting.good).run(progress=False)
    assert len(made(tmp_path, fails).run(progress=False, on_change="rerun").failures) == 4
    again = made(tmp_path, counting.good).run(progress=False)
    assert list(again) == list(old)
    assert len(counting.ran) == 4
    assert [row["status"] for row in exported(tmp_path)] == ["success"] * 4
    assert list(made(tmp_path, counting.good).results()) == list(old)


def test_s3_runs_of_another_agent_are_not_exported_before_they_run_again(tmp_path: Path) -> None:
    made(tmp_path, first).run(progress=False)
    count = [0]

    def stops(seed: int) -> dict[str, Any]:
        count[0] += 1
        if count[0] == 2:
            raise KeyboardInterrupt
        return {"answer": seed + 1}

    with pytest.raises(KeyboardInterrupt):
        made(tmp_path, stops).run(progress=False, on_change="rerun")
    assert sorted(row["status"] for row in exported(tmp_path)) == ["failed", "success"]


def test_s3_results_of_another_agent_are_not_given_unless_told(tmp_path: Path) -> None:
    old = made(tmp_path, first).run(progress=False)
    with pytest.raises(StudyChangedError, match="4 runs have succeeded with another agent"):
        made(tmp_path, second).results()
    assert list(made(tmp_path, second).results(on_change="reuse")) == list(old)
    assert list(made(tmp_path, second).results(on_change="rerun")) == []
    assert list(made(tmp_path, first).results()) == list(old)


def test_s3_more_replicates_run_only_what_is_new(tmp_path: Path, counting: Counting) -> None:
    made(tmp_path, counting.good).run(progress=False)
    results = made(tmp_path, counting.good, replicates=3).run(progress=False)
    assert len(results) == len(counting.ran) == 6


def test_s3_only_planned_runs_are_exported_and_the_others_kept(tmp_path: Path, counting: Counting) -> None:
    made(tmp_path, counting.good).run(progress=False)
    fewer = made(tmp_path, counting.good, problems={"p2": "two"})
    assert {each.problem_id for each in fewer.plan().runs} == {"p2"}
    assert len(resume_study(fewer, show_progress=False)) == 2
    assert [row["problem_id"] for row in exported(tmp_path)] == ["p2", "p2"]
    assert len(made(tmp_path, counting.good).run(progress=False)) == 4
    assert len(counting.ran) == 4


def test_s3_anew_runs_all_again_and_keeps_what_was(tmp_path: Path, counting: Counting) -> None:
    made(tmp_path, counting.good).run(progress=False)
    run_study(made(tmp_path, counting.good), show_progress=False)
    assert len(counting.ran) == 8
    with reading(tmp_path) as record:
        assert len(list(record.attempts())) == 8


def test_s3_a_study_begun_anew_and_stopped_does_not_count_what_was_before(tmp_path: Path, counting: Counting) -> None:
    made(tmp_path, counting.good).run(progress=False)
    count = [0]

    def stops(seed: int) -> dict[str, Any]:
        count[0] += 1
        if count[0] == 2:
            raise KeyboardInterrupt
        return {"answer": seed}

    with pytest.raises(KeyboardInterrupt):
        made(tmp_path, stops).run(progress=False, resume=False)
    assert len(list(exported(tmp_path))) == 2
    results = made(tmp_path, stops).run(progress=False)
    assert count[0] == 5
    assert [each.status for each in results] == [RunStatus.SUCCESS] * 4


def test_s3_files_that_are_gone_are_written_again_though_nothing_runs(tmp_path: Path, counting: Counting) -> None:
    made(tmp_path, counting.good).run(progress=False)
    (tmp_path / "runs.csv").unlink()
    made(tmp_path, counting.good).run(progress=False)
    assert len(list(exported(tmp_path))) == len(counting.ran) == 4


def test_s3_files_say_what_the_study_is_now_though_nothing_runs(tmp_path: Path, counting: Counting) -> None:
    made(tmp_path, counting.good).run(progress=False)
    made(tmp_path, counting.good, title="Another title").run(progress=False)
    assert "Another title" in (tmp_path / "study.yaml").read_text()


def test_on_change_and_isolation_are_words_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="on_change is one of raise, rerun, reuse, not 'ask'"):
        made(tmp_path, first).run(on_change="ask")  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="isolation is one of task, thread, process, not 'host'"):
        made(tmp_path, first).run(isolation="host")  # type: ignore[arg-type]
