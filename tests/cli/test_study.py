"""`flock study`: plans, runs, what is left after Ctrl-C, status, reports and files, and what is said when it can't."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flock.cli.errors import UsageError
from flock.cli.target import load_study
from flock.studies import Study, ValidationError
from flock.studies import load_study as read_study
from tests.cli.conftest import Command, Finished

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and terminals of POSIX")

TRIAL = """
import asyncio
import threading
from pathlib import Path

from flock.studies import Study

print("hello from the target\\n", end="")  # in one piece


def note(name, text):
    with open(name, "a") as file:
        file.write(text + "\\n")


def solver(problem, rng, request_id):
    note("calls.txt", request_id)
    return {"output": {"answer": problem["n"] + rng.random()}, "metrics": {"cost_usd": 0.25}}


def unlucky(problem, condition):
    if condition.factor_assignments["heat"]:
        raise ValueError(f"no luck with {problem['n']}\\nat all")
    return problem["n"]


def waiter(problem, request_id):
    note("calls.txt", request_id)
    if problem["n"] == 2 and not Path("go").exists():
        print("waiting\\n", end="", flush=True)  # in one piece
        threading.Event().wait()
    note("ended.txt", request_id)
    return problem["n"]


async def stubborn(problem):
    print("waiting\\n", end="", flush=True)  # in one piece
    await asyncio.to_thread(threading.Event().wait)


def score(output, problem):
    return output["answer"] - problem["n"]


def make(name, agent, **more):
    return Study.build(
        name, agents={"it": agent}, problems=[{"n": 1}, {"n": 2}], factors={"heat": [0, 1]}, seed=7,
        outcomes=["gain"], **more,
    )


study = make("pizza", solver, evaluators=score)
bad = make("bad", unlucky)
slow = make("slow", waiter)
stuck = make("stuck", stubborn)
late = make("late", stubborn, max_runs=1)


def function():
    return study
"""
BINDINGS = """
def score(output):
    return output["answer"]


problems = {"p1": {"n": 1}, "p2": {"n": 2}}
evaluators = {"gain": score}
"""


@pytest.fixture
def trial(command: Command) -> Command:
    (command.folder / "trial.py").write_text(TRIAL)
    (command.folder / "bindings.py").write_text(BINDINGS)
    return command


def document(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found


def lines_of(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines() if path.exists() else []


def study_file(name: str, **more: Any) -> Study:
    agents = ["trial:solver"]
    return Study.build(name, agents=agents, problems={"p1": "", "p2": ""}, outcomes=["gain"], **more)


def without(trial: Command, names: list[str], *words: str) -> Finished:
    """Run the command where these libraries are not installed."""
    text = f"import sys; sys.modules.update(dict.fromkeys({names})); from flock.__main__ import main; main()"
    return subprocess.run(  # noqa: S603 - our own interpreter and our own text
        [sys.executable, "-W", "error", "-c", text, *words], cwd=trial.folder, env=trial.environment,
        capture_output=True, encoding="utf-8", check=False, timeout=120,
    )  # fmt: skip


def wait_for(process: subprocess.Popen[str], line: str, times: int = 1) -> None:
    assert process.stdout is not None
    assert process.stderr is not None
    for _ in range(times):
        while (read := process.stdout.readline()) != line:
            assert read, process.stderr.read()


# ---- plan


def test_plan_says_what_would_run_and_runs_nothing(trial: Command) -> None:
    done = trial("study", "plan", "trial.py")
    assert (done.returncode, done.stderr) == (0, "")
    told = done.stdout.splitlines()
    assert told[:2] == [
        "hello from the target",
        "4 runs (2 conditions x 2 problems x 1 agent x 1 replicate), in this order:",
    ]
    assert len(told) == 6
    assert not (trial.folder / "artifacts").exists()


def test_plan_as_json_has_every_run_in_order(trial: Command) -> None:
    done = trial("study", "plan", "trial.py", "--json")
    plan = document(done.stdout)
    assert (done.returncode, done.stderr) == (0, "hello from the target\n")
    assert (plan["study_id"], plan["planned"], plan["conditions"], plan["errors"]) == ("pizza", 4, 2, [])
    assert (plan["agents"], sorted(plan["problems"]), plan["replicates"]) == (["it"], ["p1", "p2"], 1)
    text = trial("study", "plan", "trial.py").stdout.splitlines()[2:]
    assert [each["run_id"] for each in plan["order"]] == [line.split()[0] for line in text]


def test_plan_knows_the_cost_after_a_run(trial: Command) -> None:
    assert document(trial("study", "plan", "trial.py", "--json").stdout)["estimated_cost_usd"] is None
    assert trial("study", "run", "trial.py", "--json").returncode == 0
    assert document(trial("study", "plan", "trial.py", "--json").stdout)["estimated_cost_usd"] == 1.0
    assert "about 1.00 USD" in trial("study", "plan", "trial.py").stdout


def test_a_plan_with_errors_says_them_and_exits_with_2(trial: Command) -> None:
    done = trial("study", "plan", "trial.py:late")
    assert (done.returncode, done.stdout) == (2, "hello from the target\n")
    assert done.stderr == (
        "flock: the study can't run:\n- 4 runs are planned, and max_runs is 1: plan fewer or raise it\n"
    )
    told = trial("study", "plan", "trial.py:late", "--json")
    assert (told.returncode, len(document(told.stdout)["errors"])) == (2, 1)
    ran = trial("study", "run", "trial.py:late")
    assert (ran.returncode, ran.stdout) == (2, "hello from the target\n")
    assert "max_runs is 1" in ran.stderr


# ---- run


def test_run_shows_lines_a_summary_and_where_the_files_are(trial: Command) -> None:
    done = trial("study", "run", "trial.py:function")
    assert done.returncode == 0
    shown = done.stdout.splitlines()
    assert shown[1] == "pizza: 4 success of 4 runs"
    assert shown[2].split()[:4] == ["agent_id", "heat", "outcome", "n"]
    assert [line.split()[:4] for line in shown[3:5]] == [["it", "0", "gain", "2"], ["it", "1", "gain", "2"]]
    assert shown[-1] == f"files: {Path('artifacts', 'pizza')}"
    assert done.stderr.startswith("pizza: 4 of 4 runs to do\n")
    assert (trial.folder / "artifacts" / "pizza" / "runs.csv").is_file()


def test_what_has_succeeded_is_not_run_again_unless_afresh(trial: Command) -> None:
    calls = trial.folder / "calls.txt"
    for words, expected in (((), 4), ((), 4), (("--fresh",), 8)):
        assert trial("study", "run", "trial.py", "--json", *words).returncode == 0
        assert len(lines_of(calls)) == expected


def test_run_as_json_prints_one_document(trial: Command) -> None:
    done = trial("study", "run", "trial.py", "--json", "--parallel", "2", "--isolation", "process")
    report = document(done.stdout)
    assert (done.returncode, done.stdout.count("\n")) == (0, 1)
    hello = "hello from the target"
    assert done.stderr.count(hello) > 1  # from each process, which may break into each other's lines
    assert done.stderr.replace(hello, "").strip() == ""  # and no progress
    assert (report["end"], report["exit_status"], report["planned"]) == ("complete", 0, 4)
    assert (report["counts"], report["cost_usd"], report["failures"]) == ({"success": 4}, 1.0, [])


def test_quiet_shows_no_progress(trial: Command) -> None:
    done = trial("study", "run", "trial.py", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    assert "4 success of 4 runs" in done.stdout


def test_a_study_whose_runs_fail_says_why_and_exits_with_1(trial: Command) -> None:
    done = trial("study", "run", "trial.py:bad")
    assert done.returncode == 1
    assert "bad: 2 failed, 2 success of 4 runs\n" in done.stdout
    ending = done.stdout.splitlines()[-3:]
    assert ending[0] == "failed:"
    assert sorted(ending[1:]) == ["  1 x ValueError: no luck with 1", "  1 x ValueError: no luck with 2"]
    told = trial("study", "run", "trial.py:bad", "--no-retry-failed", "--json")
    assert (told.returncode, document(told.stdout)["counts"]) == (1, {"success": 2, "failed": 2})
    assert document(trial("study", "status", "trial.py:bad", "--json").stdout)["attempts"] == 4  # none is tried again


def test_fail_fast_skips_the_rest_and_exits_with_1(trial: Command) -> None:
    done = trial("study", "run", "trial.py:bad", "--fail-fast", "--json")
    counts = document(done.stdout)["counts"]
    assert (done.returncode, counts["failed"]) == (1, 1)
    assert counts["skipped"] >= 1


def test_a_run_that_takes_too_long_fails(trial: Command) -> None:
    done = trial("study", "run", "trial.py:slow", "--timeout", "3", "--parallel", "2", "--json")
    report = document(done.stdout)
    assert (done.returncode, report["counts"]) == (1, {"success": 2, "failed": 2})
    assert report["failures"] == [{"error": "TimeoutError: it took longer than 3 s", "count": 2}]


def test_another_directory_and_the_database_can_be_asked_for(trial: Command) -> None:
    done = trial("study", "run", "trial.py", "--quiet", "--sqlite", "--output-dir", "elsewhere")
    assert done.stdout.endswith("files: elsewhere\n")
    assert (trial.folder / "elsewhere" / "study.sqlite").is_file()
    assert not (trial.folder / "artifacts").exists()
    found = document(trial("study", "status", "trial.py", "--output-dir", "elsewhere", "--json").stdout)
    assert found["counts"] == {"success": 4}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--parallel", "0"), "Invalid value for '--parallel'"),
        (("--isolation", "moon"), "isolation is one of task, thread, process, not 'moon'"),
        (("--timeout", "0"), "timeout takes seconds above zero, not 0.0"),
        (("--on-change", "shrug"), "on_change is one of raise, rerun, reuse, not 'shrug'"),
        (("--output-dir", "trial.py"), "trial.py can't be made"),
    ],
    ids=["parallel", "isolation", "timeout", "change", "directory"],
)
def test_options_that_can_not_be_are_refused_before_anything_runs(
    trial: Command, words: tuple[str, ...], said: str
) -> None:
    done = trial("study", "run", "trial.py", *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (trial.folder / "calls.txt").exists()


def test_without_pandas_a_run_shows_its_counts(trial: Command) -> None:
    done = without(trial, ["pandas"], "study", "run", "trial.py")
    assert done.returncode == 0, done.stderr
    assert "pizza: 4 success of 4 runs\nno summary: " in done.stdout
    assert "pandas" in done.stdout


def test_without_the_libraries_of_studies_all_else_works(trial: Command) -> None:
    names = ["matplotlib", "numpy", "pandas", "pyDOE3", "scipy", "yaml"]
    assert without(trial, names, "check", "shop.py").returncode == 0
    assert without(trial, names, "study", "plan", "trial.py").returncode == 0


@posix
def test_a_terminal_shows_a_bar(trial: Command) -> None:
    mine, theirs = os.openpty()
    process = subprocess.Popen(  # noqa: S603 - our own interpreter
        [*trial.words, "study", "run", "trial.py"], cwd=trial.folder, env=trial.environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    try:
        while data := os.read(mine, 4096):
            seen += data
    except OSError:  # Linux says so when the last writer is gone
        pass
    os.close(mine)
    assert process.wait(30) == 0
    assert "━" in seen.decode()
    assert "4/4 runs, 4 success" in seen.decode()


# ---- Ctrl-C and going on


@posix
@pytest.mark.parametrize(
    ("words", "waiting"),
    [((), 1), (("--parallel", "2"), 2), (("--parallel", "2", "--isolation", "process"), 2)],
    ids=["serial", "parallel", "processes"],
)
def test_ctrl_c_keeps_what_has_ended_and_resume_completes_it(
    trial: Command, words: tuple[str, ...], waiting: int
) -> None:
    process = trial.start("study", "run", "trial.py:slow", "--quiet", *words)
    wait_for(process, "waiting\n", waiting)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    ended = len(lines_of(trial.folder / "ended.txt"))
    assert (process.returncode, err) == (130, "")
    assert out.splitlines()[-3:] == [
        f"interrupted: {ended} of 4 runs have ended",
        f"files: {Path('artifacts', 'slow')}",
        "to go on: flock study resume trial.py:slow",
    ]
    assert len(lines_of(trial.folder / "artifacts" / "slow" / "runs.csv")) == 1 + ended + waiting
    (trial.folder / "go").touch()
    done = trial("study", "resume", "trial.py:slow", "--json")
    assert (done.returncode, document(done.stdout)["counts"]) == (0, {"success": 4}), done.stderr
    succeeded = Counter(lines_of(trial.folder / "ended.txt"))
    assert sorted(succeeded.values()) == [1, 1, 1, 1]
    assert len(lines_of(trial.folder / "calls.txt")) == 4 + waiting


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_still_prints_its_one_document(trial: Command, number: signal.Signals) -> None:
    process = trial.start("study", "run", "trial.py:slow", "--json", "--output-dir", "my files")
    assert process.stderr is not None
    while process.stderr.readline() != "waiting\n":
        assert process.poll() is None
    process.send_signal(number)
    out, _ = process.communicate(timeout=120)
    report = document(out)
    assert (process.returncode, report["exit_status"], report["end"]) == (130, 130, "interrupted")
    assert report["resume"] == "flock study resume trial.py:slow --output-dir 'my files'"
    assert (report["planned"], report["interrupted"], report["running"]) == (4, 1, [])


@posix
def test_a_thread_that_nobody_can_stop_does_not_hinder_ctrl_c(trial: Command) -> None:
    process = trial.start("study", "run", "trial.py:stuck", "--quiet", "--parallel", "2")
    wait_for(process, "waiting\n", 2)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "interrupted: 0 of 4 runs have ended" in out


@posix
def test_ctrl_c_before_anything_has_begun_is_quiet(trial: Command) -> None:
    (trial.folder / "endless.py").write_text(
        "import threading\nprint('importing', flush=True)\nthreading.Event().wait()\n"
    )
    process = trial.start("study", "run", "endless.py")
    wait_for(process, "importing\n")
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=120) == ("", "")
    assert process.returncode == 130


def test_resume_needs_a_record_and_takes_up_what_failed(trial: Command) -> None:
    done = trial("study", "resume", "trial.py")
    assert (done.returncode, done.stdout) == (2, "hello from the target\n")
    assert done.stderr.startswith(f"flock: there is no record of a study in {Path('artifacts', 'pizza')}: run it first")
    assert not (trial.folder / "artifacts").exists()
    assert trial("study", "run", "trial.py:bad", "--json").returncode == 1
    text = TRIAL.replace('if condition.factor_assignments["heat"]:', "if False:")
    (trial.folder / "trial.py").write_text(text)
    done = trial("study", "resume", "trial.py:bad", "--json", "--on-change", "reuse")
    assert (done.returncode, document(done.stdout)["counts"]) == (0, {"success": 4})
    assert document(trial("study", "status", "trial.py:bad", "--json").stdout)["attempts"] == 6


def test_results_of_another_agent_are_not_taken_unasked(trial: Command) -> None:
    calls = trial.folder / "calls.txt"
    assert trial("study", "run", "trial.py", "--json").returncode == 0
    (trial.folder / "trial.py").write_text(TRIAL.replace("+ rng.random()", "+ 2 * rng.random()"))
    done = trial("study", "resume", "trial.py", "--quiet")
    assert done.returncode == 2
    assert done.stderr.startswith("flock: 4 runs have succeeded with another agent")
    assert done.stderr.endswith("(here: --on-change rerun, --on-change reuse, or `run --fresh`)\n")
    assert trial("study", "resume", "trial.py", "--json", "--on-change", "reuse").returncode == 0
    assert len(lines_of(calls)) == 4
    assert trial("study", "resume", "trial.py", "--json", "--on-change", "rerun").returncode == 0
    assert len(lines_of(calls)) == 8


# ---- status


@posix
def test_status_follows_a_study_that_runs_and_one_that_was_killed(trial: Command) -> None:
    process = trial.start("study", "run", "trial.py:slow", "--quiet")
    wait_for(process, "waiting\n")
    (began,) = set(lines_of(trial.folder / "calls.txt")) - set(lines_of(trial.folder / "ended.txt"))
    found = document(trial("study", "status", "trial.py:slow", "--json").stdout)
    assert (found["study_id"], found["planned"], found["alive"]) == ("slow", 4, True)
    assert [each["run_id"] for each in found["running"]] == [began]
    assert sum(found["counts"].values()) == 4
    assert found["counts"]["running"] == 1
    shown = trial("study", "status", "trial.py:slow").stdout
    assert "a process works on it" in shown
    assert f"running:\n  {began} (it on p2, " in shown
    locked = trial("study", "run", "trial.py:slow")
    assert (locked.returncode, locked.stdout) == (2, "hello from the target\n")
    assert locked.stderr.startswith("flock: another run of this study writes to ")
    process.kill()
    assert process.wait(30) == -signal.SIGKILL
    shown = trial("study", "status", str(Path("artifacts", "slow"))).stdout
    assert shown.startswith(f"slow in {Path('artifacts', 'slow')}: no process works on it any more\n")
    assert f"cut off:\n  {began}, since " in shown


def test_status_tells_of_attempts_rate_cost_and_errors(trial: Command) -> None:
    assert trial("study", "run", "trial.py", "--json").returncode == 0
    found = document(trial("study", "status", "trial.py", "--json").stdout)
    assert (found["counts"], found["attempts"], found["cost_usd"]) == ({"success": 4}, 4, 1.0)
    assert (found["running"], found["errors"], found["alive"]) == ([], [], False)
    shown = trial("study", "status", "trial.py").stdout.splitlines()
    assert shown[1:3] == [f"pizza in {Path('artifacts', 'pizza')}: nothing runs", "4 of 4 runs have ended: 4 success"]
    assert shown[3].startswith("4 attempts, ")
    assert shown[3].endswith(" runs/s, 1.0000 USD")
    for _ in range(2):
        assert trial("study", "run", "trial.py:bad", "--json").returncode == 1
    found = document(trial("study", "status", "artifacts/bad", "--json").stdout)
    assert (found["counts"], found["attempts"], found["planned"]) == ({"success": 2, "failed": 2}, 6, None)
    assert [each["attempt"] for each in found["errors"]] == [1, 1, 2, 2]
    assert ", attempt 2: ValueError: no luck with " in trial("study", "status", "artifacts/bad").stdout


def test_status_counts_from_the_last_beginning_anew(trial: Command) -> None:
    for words in ((), ("--fresh",)):
        assert trial("study", "run", "trial.py", "--json", *words).returncode == 0
    found = document(trial("study", "status", "trial.py", "--json").stdout)
    assert (found["counts"], found["attempts"]) == ({"success": 4}, 4)


def test_status_without_a_record_or_with_a_broken_one_is_said_plainly(trial: Command) -> None:
    done = trial("study", "status", ".")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("flock: there is no record of a study in .: run it first")
    with closing(sqlite3.connect(trial.folder / "record.sqlite")) as db:
        db.execute("CREATE TABLE other (name TEXT)")
    done = trial("study", "status", ".")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("flock: the record in . is empty: run the study first")


# ---- report and export


def test_report_is_printed_or_written(trial: Command) -> None:
    assert trial("study", "run", "trial.py", "--json").returncode == 0
    printed = trial("study", "report", "trial.py")
    assert printed.returncode == 0, printed.stderr
    assert "pizza" in printed.stdout
    assert "hello" not in printed.stdout
    done = trial("study", "report", "trial.py", "--out", "report.html")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.endswith("the report is in report.html\n")
    assert "<html" in (trial.folder / "report.html").read_text("utf-8")


def test_export_writes_tables_and_prints_their_paths(trial: Command) -> None:
    assert trial("study", "run", "trial.py", "--json").returncode == 0
    done = trial("study", "export", "trial.py")
    assert done.returncode == 0, done.stderr
    assert str(Path("artifacts", "pizza", "runs.csv")) in done.stdout.splitlines()
    done = trial("study", "export", "trial.py", "--format", "jsonl, sqlite", "--out", "out")
    assert done.returncode == 0, done.stderr
    paths = [Path(line) for line in done.stdout.splitlines()]
    assert {path.suffix for path in paths} >= {".jsonl", ".sqlite"}
    assert all(path.parts[0] == "out" for path in paths)
    assert all((trial.folder / path).stat().st_size for path in paths)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("report", "trial.py"), "there is no record of a study in "),
        (("export", "trial.py"), "there is no record of a study in "),
        (("report", "trial.py", "--out", "report.pdf"), "--out takes a file that ends in .html or .md, not report.pdf"),
        (("export", "trial.py", "--format", "csv,xml"), "--format takes csv, jsonl, sqlite, parquet, not 'xml'"),
        (("frobnicate", "trial.py"), "No such command 'frobnicate'"),
    ],
    ids=["report", "export", "suffix", "format", "command"],
)
def test_reports_and_files_that_can_not_be_are_said_plainly(trial: Command, words: tuple[str, ...], said: str) -> None:
    done = trial("study", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_place_that_can_not_be_written_is_said_plainly(trial: Command) -> None:
    assert trial("study", "run", "trial.py", "--json").returncode == 0
    for words in (("report", "trial.py", "--out", "trial.py/report.md"), ("export", "trial.py", "--out", "trial.py")):
        done = trial("study", *words)
        assert done.returncode == 2
        assert "flock: trial.py" in done.stderr
        assert "can't be written: " in done.stderr


# ---- study files and targets


@pytest.mark.parametrize("name", ["trial.yaml", "trial.yml", "trial.json"])
def test_a_study_file_runs_with_what_is_bound_to_its_names(trial: Command, name: str) -> None:
    study = study_file("filed")
    path = trial.folder / name
    (study.to_json if name.endswith("json") else study.to_yaml)(path)
    done = trial("study", "run", name, "--quiet")
    assert done.returncode == 2
    assert "there is no problem 'p1'; known problems: none" in done.stderr
    done = trial("study", "run", name, "--bind", "bindings", "--json")
    assert (done.returncode, document(done.stdout)["counts"]) == (0, {"success": 2}), done.stderr
    assert "gain" in (trial.folder / "artifacts" / "filed" / "evaluations.csv").read_text("utf-8")


@posix
def test_what_is_bound_is_part_of_the_way_to_go_on(trial: Command) -> None:
    study_file("filed").to_json(trial.folder / "filed.json")
    (trial.folder / "bound.py").write_text(f"from trial import slow\n{BINDINGS}")
    text = (trial.folder / "filed.json").read_text("utf-8").replace("trial:solver", "trial:waiter")
    (trial.folder / "filed.json").write_text(text, "utf-8")
    process = trial.start("study", "run", "filed.json", "--bind", "bound.py", "--quiet")
    wait_for(process, "waiting\n")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert out.endswith("to go on: flock study resume filed.json --bind bound.py\n")


@pytest.fixture
def folder(trial: Command, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a folder to import from in this process, which then forgets what it imported."""
    monkeypatch.chdir(trial.folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield trial.folder
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    "target", ["trial.py", "./trial.py", "trial", "trial:study", "trial.py:study", "trial:function"]
)
def test_files_modules_attributes_and_functions_name_a_study(folder: Path, target: str) -> None:
    assert load_study(target).study_id == "pizza"


def test_agents_problems_and_evaluators_are_bound_from_a_file(folder: Path) -> None:
    study_file("filed").to_json("filed.json")
    with (folder / "bindings.py").open("a") as file:
        file.write("\n\ndef other(problem): ...\n\n\nagents = {'trial:solver': other}\n")
    found = load_study("filed.json", "bindings.py")
    plan = found.plan()
    assert plan.errors == []
    assert plan.bindings.agents["trial:solver"] is found.agents["trial:solver"]
    assert (found.problems["p2"].problem, list(found.evaluators)) == ({"n": 2}, ["gain"])
    assert load_study("filed.json").agents == {}


def test_a_file_that_is_imported_already_can_be_bound(folder: Path) -> None:
    with (folder / "trial.py").open("a") as file:
        file.write("\n\nagents = {'it': waiter}\n")
    assert load_study("trial.py", "trial.py").agents["it"].__name__ == "waiter"


@pytest.mark.parametrize(
    ("target", "bind", "said"),
    [
        ("nowhere.py", None, "there is no file nowhere.py"),
        ("nowhere.yaml", None, "there is no file nowhere.yaml"),
        ("no.where", None, "there is no module 'no.where'"),
        ("named.py", None, "named.py has no 'study': did you mean named.py:one or named.py:two?"),
        ("bindings.py", None, "bindings.py has no 'study': name a Study, or a function that returns one, as in "),
        ("trial.py:score", None, "trial.py:score needs arguments: give a function that takes none"),
        ("trial.py:TEXT", None, "trial.py has no 'TEXT': did you mean trial.py:study or trial.py:bad or "),
        ("named.py:number", None, "named.py:number() gave 3, not a Study"),
        ("named.py:later", None, "named.py:later is asynchronous: give a plain function that returns a Study"),
        ("named.py:broken", None, "named.py:broken() failed:\n"),
        ("named.py:problems", None, "named.py:problems is 3, not a Study or a function that returns one"),
        ("filed.json:study", None, "'filed.json:study' names an attribute, and a study file has none: name the file"),
        ("filed.json", "nowhere.py", "there is no file nowhere.py"),
        ("filed.json", "trial.py", "trial.py has nothing to bind: give it mappings named agents, problems, evaluators"),
        ("filed.json", "named.py", "named.py:problems is 3, not a mapping of names"),
    ],
)
def test_a_target_that_is_not_there_or_no_study_is_said_plainly(
    folder: Path, target: str, bind: str | None, said: str
) -> None:
    study_file("filed").to_json("filed.json")
    (folder / "named.py").write_text(
        "from trial import bad as one, slow as two\nproblems = 3\nasync def later(): ...\n"
        "def number(): return 3\ndef broken(): raise LookupError('no study')\n"
    )
    with pytest.raises(UsageError) as caught:
        load_study(target, bind)
    assert str(caught.value).startswith(said)


def test_a_study_that_can_never_work_shows_its_own_line_only(trial: Command) -> None:
    (trial.folder / "wrong.py").write_text(
        "from flock.studies import Study\nstudy = Study.build('', agents=[], problems=[])\n"
    )
    done = trial("study", "plan", "wrong.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("flock: wrong.py can't be imported:\n")
    assert 'wrong.py", line 2, in <module>' in done.stderr
    assert "Study.study_id is empty" in done.stderr
    assert "definition.py" not in done.stderr


def test_what_is_no_study_file_is_said_plainly(folder: Path) -> None:
    (folder / "list.json").write_text("[]")
    (folder / "text.json").write_text("{")
    for name, said in (("list.json", "holds no study"), ("text.json", "is no JSON")):
        with pytest.raises(ValidationError, match=said):
            load_study(name)
    study_file("filed").to_yaml("filed.yaml")
    assert load_study("filed.yaml") == read_study("filed.yaml")
