"""S2: the store of record is one file with every attempt, written by one process at a time; exports are whole."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from scenes import study, what

from flock.model.errors import StoreError
from flock.studies import (
    RunResult,
    RunStatus,
    Study,
    StudyLockedError,
    ValidationError,
    checkpoint_run_result,
    export_canonical_artifacts,
    load_checkpointed_run_results,
    resume_study,
    run_study,
)
from flock.studies.record import FILE, reading, writing

CANONICAL = {
    "study.yaml", "manifest.json", "conditions.csv", "runs.csv", "events.csv", "evaluations.csv", "hypotheses.json",
    "analysis_plan.json",
}  # fmt: skip


def small(folder: Path, agent: object = lambda seed: {"answer": seed}, **more: object) -> Study:
    given = {"agents": {"agent": agent}, "problems": ["one", "two"], "output_dir": folder, "replicates": 2}
    return Study.build("small", **given | more)  # type: ignore[arg-type]


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """The record that a study of four runs leaves, as any program reads it."""
    small(tmp_path).run(progress=False)
    with closing(sqlite3.connect(tmp_path / FILE)) as db:
        yield db


def test_s2_the_record_is_sqlite_in_wal_mode_with_typed_columns(rows: sqlite3.Connection) -> None:
    assert rows.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    kinds = {name: kind for _, name, kind, *_ in rows.execute("PRAGMA table_info(attempts)")}
    assert (kinds["seed"], kinds["latency_s"], kinds["status"]) == ("INTEGER", "REAL", "TEXT")
    with pytest.raises(sqlite3.IntegrityError, match="cannot store TEXT value in INTEGER column"):
        rows.execute("UPDATE attempts SET seed = 'many'")


def test_s2_the_record_has_the_numbers_of_each_run_in_columns(rows: sqlite3.Connection) -> None:
    found = rows.execute("SELECT status, attempt, seed, latency_s > 0, error_info FROM attempts").fetchall()
    assert len(found) == 4
    assert all(row[0] == "success" and row[1] == 1 and row[3] == 1 and row[4] is None for row in found)
    assert len({row[2] for row in found}) == 4


def test_s2_every_attempt_is_kept(tmp_path: Path) -> None:
    fails = [True]

    def agent() -> str:
        if fails[0]:
            raise RuntimeError("not yet")
        return "done"

    small(tmp_path, agent).run(progress=False)
    fails[0] = False
    small(tmp_path, agent).run(progress=False)
    with reading(tmp_path) as record:
        found = [(each.attempt, each.status, each.error_info) for each in record.attempts()]
    assert found == [(1, "failed", "RuntimeError: not yet"), (2, "success", None)] * 4


def test_s2_what_ran_when_its_process_ended_is_interrupted(tmp_path: Path) -> None:
    made = small(tmp_path)
    with writing(tmp_path, "small") as record:
        record.advance([], [(each, "") for each in made.plan().runs[:2]])
    with writing(tmp_path, "small"), reading(tmp_path) as found:
        said = {(each.status, each.status_reason, each.error_info) for each in found.attempts()}
    assert said == {("failed", "interrupted", "Interrupted: the process ended while this ran")}
    assert [each.status for each in made.run(progress=False)] == [RunStatus.SUCCESS] * 4


def test_s2_what_can_not_be_kept_leaves_the_record_as_it_was(tmp_path: Path) -> None:
    good, bad = RunResult("good", RunStatus.SUCCESS), RunResult("bad", RunStatus.SUCCESS, outputs={"it": object()})
    with writing(tmp_path, "small") as record:
        with pytest.raises(TypeError, match="not JSON serializable"):
            record.advance([(good, ""), (bad, "")])
        record.advance([(good, "")])
        with reading(tmp_path) as found:
            assert [each.run_id for each in found.attempts()] == ["good"]


def test_s2_a_second_writer_is_refused_and_a_reader_is_not(tmp_path: Path) -> None:
    small(tmp_path).run(progress=False)
    with writing(tmp_path, "small") as record:
        with reading(tmp_path) as found:
            assert len(found.states()) == 4
        with pytest.raises(StudyLockedError, match="another run of this study writes to"):
            small(tmp_path).run(progress=False)
        record.put("note", "still open")
    assert len(small(tmp_path).run(progress=False)) == 4


def test_s2_whoever_copies_the_directory_leaves_the_lock_alone(tmp_path: Path) -> None:
    small(tmp_path / "out").run(progress=False)
    with writing(tmp_path / "out", "small"):
        shutil.copytree(tmp_path / "out", tmp_path / "copy")
        said = subprocess.run(  # noqa: S603 - our own interpreter and our own text
            [sys.executable, "-c", SECOND, str(tmp_path / "out")], capture_output=True, text=True, check=False
        )
    assert "StudyLockedError: another run of this study writes to" in said.stderr


SECOND = """
import sys
from pathlib import Path
from flock.studies.record import writing
with writing(Path(sys.argv[1]), "small"):
    print("wrote")
"""


def test_s2_the_directory_of_another_study_is_refused(tmp_path: Path) -> None:
    small(tmp_path).run(progress=False)
    with pytest.raises(ValidationError, match="has the record of study 'small': give 'pizza' an output_dir"):
        study(tmp_path).run(progress=False)


def test_s2_a_file_that_is_no_record_is_told(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("this is no database, however long it is" * 100)
    with pytest.raises(StoreError, match=r"record.sqlite can't be opened: file is not a database"):
        small(tmp_path).run(progress=False)


def test_s2_a_record_of_a_later_version_is_told(tmp_path: Path) -> None:
    small(tmp_path).run(progress=False)
    with writing(tmp_path, "small") as record:
        record.put("version", "2")
    with pytest.raises(StoreError, match="has version 2, this Flock writes version 1"):
        small(tmp_path).run(progress=False)


def test_s2_files_are_written_when_the_first_failure_ends_intake(tmp_path: Path) -> None:
    def agent() -> None:
        raise RuntimeError("no")

    small(tmp_path, agent).run(fail_fast=True, progress=False)
    statuses = [line.split(",")[11] for line in (tmp_path / "runs.csv").read_text().splitlines()[1:]]
    assert sorted(statuses) == ["failed", "skipped", "skipped", "skipped"]


def test_s2_files_are_written_after_ctrl_c_and_the_rest_runs_later(tmp_path: Path) -> None:
    count = [0]

    def agent() -> str:
        count[0] += 1
        if count[0] == 3:
            raise KeyboardInterrupt
        return "done"

    with pytest.raises(KeyboardInterrupt):
        small(tmp_path, agent).run(progress=False)
    statuses = [line.split(",")[11] for line in (tmp_path / "runs.csv").read_text().splitlines()[1:]]
    assert sorted(statuses) == ["failed", "success", "success"]
    with reading(tmp_path) as record:
        (stopped,) = [each for each in record.attempts() if each.status is RunStatus.FAILED]
    assert stopped.error_info == "Interrupted: the study was stopped while this ran"
    assert [each.status for each in small(tmp_path, agent).run(progress=False)] == [RunStatus.SUCCESS] * 4
    assert count[0] == 5


def test_s2_a_failing_replacement_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = small(tmp_path)
    results = list(made.run(progress=False))
    before = {name: (tmp_path / name).read_bytes() for name in CANONICAL}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            export_canonical_artifacts(study=made, conditions=[], run_results=results)
    assert {name: (tmp_path / name).read_bytes() for name in CANONICAL} == before
    assert not list(tmp_path.glob("*.part"))


def test_s2_study_sqlite_has_the_tables_of_the_files(tmp_path: Path) -> None:
    small(tmp_path).run(progress=False, include_sqlite=True)
    with closing(sqlite3.connect(tmp_path / "study.sqlite")) as db:
        counts = {name: db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ("runs", "events")}  # noqa: S608
    assert counts == {"runs": 4, "events": 4}


def test_a_directory_of_results_has_the_canonical_files(tmp_path: Path) -> None:
    small(tmp_path).run(progress=False)
    assert {each.name for each in tmp_path.iterdir()} >= CANONICAL
    assert not (tmp_path / "study.sqlite").exists()


def test_without_a_checkpoint_there_is_no_record(tmp_path: Path) -> None:
    made = small(tmp_path)
    assert len(run_study(made, checkpoint=False, show_progress=False)) == 4
    assert not (tmp_path / FILE).exists()
    assert (tmp_path / "runs.csv").exists()


def test_a_result_that_was_checkpointed_by_hand_is_loaded_and_not_run_again(tmp_path: Path) -> None:
    made = small(tmp_path / "out")
    (first, *_) = run_study(small(tmp_path / "elsewhere"), show_progress=False)
    path = checkpoint_run_result(first, output_dir=tmp_path / "out")
    assert path == tmp_path / "out" / FILE
    assert load_checkpointed_run_results(tmp_path / "out") == {first.run_id: first}
    ran: list[RunResult] = resume_study(made, show_progress=False)
    assert ran[0] == first
    assert [what(each)["status"] for each in ran] == ["success"] * 4


def test_a_result_without_a_spec_is_kept_too(tmp_path: Path) -> None:
    result = RunResult("run-1", RunStatus.SUCCESS, outputs={"answer": 1})
    checkpoint_run_result(result, output_dir=tmp_path)
    assert load_checkpointed_run_results(tmp_path) == {"run-1": result}


def test_a_study_that_names_nobody_has_the_agents_and_problems_that_it_is_given(tmp_path: Path) -> None:
    results = run_study(
        Study("bare", output_dir=tmp_path),
        agent_bindings={"a": lambda seed: {"answer": seed}, "b": lambda brief: brief},
        problem_registry={"p1": "one", "p2": {"brief": "two"}},
        show_progress=False,
    )
    assert [(each.run_spec.agent_id, each.run_spec.problem_id) for each in results if each.run_spec is not None] == [
        ("a", "p1"), ("a", "p2"), ("b", "p1"), ("b", "p2"),
    ]  # fmt: skip


def test_a_directory_without_a_record_has_no_results(tmp_path: Path) -> None:
    assert load_checkpointed_run_results(tmp_path) == {}
    with pytest.raises(ValidationError, match="there is no record of a study in"):
        small(tmp_path).results()


FULL_DISK = """
import resource, sys
from flock.model.errors import StoreError
from flock.studies import Study
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))  # the system refuses to write beyond
def agent(seed): return {"answer": "x" * 2_000}
study = Study.build("small", agents={"agent": agent}, problems=["one"], output_dir=sys.argv[1], replicates=500)
try:
    study.run(progress=False)
except StoreError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="this system limits no file's size")
def test_s2_a_disk_that_is_full_says_so_and_nothing_that_was_kept_is_lost(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", FULL_DISK, str(tmp_path)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - ours
    assert "can't be written" in printed
    assert "What was kept until now is safe" in printed
    with reading(tmp_path) as record:
        kept = [state for state in record.states().values() if state.status is RunStatus.SUCCESS]
    assert 0 < len(kept) < 500


def test_s2_a_folder_that_can_not_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "record.lock").mkdir()  # what even the administrator can't write
    with pytest.raises(StoreError, match="can't be written to"):
        small(tmp_path).run(progress=False)
