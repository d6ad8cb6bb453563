"""The study in examples/: its numbers are always the same, its report is whole, and what has run is not run again."""

import json
import runpy
import shutil
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import best_of_n_study
from best_of_n_study import Knapsack, Packing
from flock.studies import RunStatus, StudyResults
from flock.studies.record import reading

FILE = Path(best_of_n_study.__file__)
MEANS = {
    1: {"quality": 0.9284058871239399, "solved": 0.1},
    4: {"quality": 0.9825026860658609, "solved": 0.5},
    16: {"quality": 0.9947314568206511, "solved": 0.75},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run it once, for all that look at what it leaves."""
    made = tmp_path_factory.mktemp("serial")
    best_of_n_study.main(made)
    return made


def results_in(folder: Path) -> StudyResults:
    return replace(best_of_n_study.study, output_dir=folder).results()


def attempts_in(folder: Path) -> int:
    with reading(folder) as record:
        return len(list(record.attempts()))


def means(found: dict[int, dict[str, float]]) -> dict[int, Any]:
    return {number: pytest.approx(each, rel=1e-12) for number, each in found.items()}


def flock(*words: str, where: Path) -> dict[str, Any]:
    """Give the document that the command prints."""
    done = subprocess.run(  # noqa: S603 - our own interpreter and our own words
        [sys.executable, "-W", "error", "-m", "flock", "study", *words, "--json"],
        cwd=where, capture_output=True, encoding="utf-8", check=True, timeout=50,
    )  # fmt: skip
    document: dict[str, Any] = json.loads(done.stdout)
    return document


# ---- what it measures by


def test_the_optimum_is_the_best_of_all_packings() -> None:
    for knapsack in best_of_n_study.study.problems.values():
        problem: Knapsack = knapsack.problem
        sums = [(0, 0)]
        for item in problem.items:
            sums += [(weight + item.weight, value + item.value) for weight, value in sums]
        best = max(value for weight, value in sums if weight <= problem.capacity)
        assert best_of_n_study.optimum(problem) == best


def test_a_packing_is_measured_by_its_items() -> None:
    problem = best_of_n_study.parse("two 10 5:6 5:2 9:7")

    def measured(*packed: int) -> dict[str, float]:
        return best_of_n_study.measure(Packing(packed=[*packed], value=99).model_dump(), problem)

    assert measured(0, 1) == {"quality": 1.0, "solved": 1.0}
    assert measured(2) == {"quality": 0.875, "solved": 0.0}
    assert measured(1, 1, -1, 3) == {"quality": 0.25, "solved": 0.0}
    assert measured(0, 2) == {"quality": 0.0, "solved": 0.0}


# ---- what it gives


def test_main_returns_the_mean_outcomes_of_results_that_are_there(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = attempts_in(folder)
    assert best_of_n_study.main(folder) == means(MEANS)
    assert (before, attempts_in(folder)) == (180, 180)
    assert str(folder / "report.html") in capsys.readouterr().out


def test_of_runs_with_the_same_chance_more_candidates_never_do_worse(folder: Path) -> None:
    pairs: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
    for row in results_in(folder).df().sort_values("candidates").to_dict("records"):
        pairs[row["problem_id"], row["seed"]].append(row["quality"])
    assert {len(each) for each in pairs.values()} == {3}
    assert all(less <= more for each in pairs.values() for less, more in pairwise(each))


def test_the_solved_are_those_of_the_best_quality(folder: Path) -> None:
    frame = results_in(folder).df()
    assert ((frame["quality"] == 1) == (frame["solved"] == 1)).all()
    assert frame["quality"].between(0.5, 1).all()


def test_the_report_says_what_was_asked_how_and_what_came_out(folder: Path) -> None:
    report = (folder / "report.html").read_text("utf-8")
    for part in (
        "More candidates, better packings", "3 conditions, 12 problems, 1 agent (packer) and 5 replicates",
        "common random numbers", "Liang and Zeger 1986", "Holm 1979", "<svg", "solved, compared by candidates",
        "pass@k", "No run failed.",
    ):  # fmt: skip
        assert part in report, part
    assert {"study.yaml", "manifest.json", "runs.csv", "evaluations.csv"} < {each.name for each in folder.iterdir()}


# ---- how it runs


def test_the_command_side_by_side_gives_the_same_and_runs_nothing_twice(folder: Path, tmp_path: Path) -> None:
    ran = flock("run", str(FILE), "--parallel", "2", "--output-dir", "here", where=tmp_path)
    assert (ran["counts"], ran["exit_status"]) == ({"success": 180}, 0)
    one, two = results_in(folder), results_in(tmp_path / "here")
    assert [(each.run_id, each.outputs, each.evaluator_outputs) for each in one] == [
        (each.run_id, each.outputs, each.evaluator_outputs) for each in two
    ]
    assert {each.status for each in two} == {RunStatus.SUCCESS}
    again = flock("resume", str(FILE), "--output-dir", "here", where=tmp_path)
    assert (again["counts"], attempts_in(tmp_path / "here")) == ({"success": 180}, 180)


def test_the_script_takes_what_the_module_has_run_for_its_own(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder, best_of_n_study.study.directory)
    runpy.run_path(str(FILE), run_name="__main__")
    assert "The report is in " in capsys.readouterr().out
    assert attempts_in(best_of_n_study.study.directory) == 180
