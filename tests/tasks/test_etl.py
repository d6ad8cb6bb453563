"""The ETL example, on real files."""

import ast
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import etl


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three files, of which one is no Python."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "a.py").write_text("def one():\n    pass\n\n\nclass A: ...\n")
    (folder / "b.py").write_text("async def two(): ...\n")
    (folder / "c.py").write_text("def (:\n")
    return folder


def rows(database: Path) -> list[tuple[object, ...]]:
    with sqlite3.connect(database) as db:
        found = db.execute("SELECT lines, functions, classes, longest FROM figures ORDER BY path").fetchall()
    db.close()
    return found


async def test_only_what_has_changed_is_measured_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[str] = []
    parse = ast.parse

    def noted(text: str) -> ast.AST:
        parsed.append(text)
        return parse(text)

    monkeypatch.setattr(ast, "parse", noted)
    out = tmp_path / "out"
    tasks, figures = await etl.run(folder, out)
    assert [str(task.status) for task in tasks] == ["Completed", "Completed", "Failed"]
    assert tasks[2].errors[-1].type == "SyntaxError"
    assert rows(out / "figures.db") == [(5, 1, 1, 2), (1, 1, 0, 1)]
    assert [Path(each.path).name for each in figures] == ["a.py", "b.py"]
    parsed.clear()
    (folder / "b.py").write_text("x = 1\n")
    (folder / "c.py").write_text("y = 2\n")
    await etl.run(folder, out)
    assert sorted(parsed) == ["x = 1\n", "y = 2\n"]
    assert rows(out / "figures.db") == [(5, 1, 1, 2), (1, 0, 0, 0), (1, 0, 0, 0)]


def test_it_runs_as_a_script_on_this_project(tmp_path: Path) -> None:
    source = Path(etl.__file__).parent.parent / "src" / "flock" / "tasks"
    command = [sys.executable, etl.__file__, str(source), "--out", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=50)  # noqa: S603
    count = len(list(source.rglob("*.py")))
    assert f"{count} files with" in ended.stdout
    assert f"{count}/{count}" in ended.stderr
    assert len(rows(tmp_path / "figures.db")) == count


def test_it_names_the_files_that_can_not_be_measured(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["etl.py", str(folder), "--out", str(tmp_path / "out")])
    etl.main()
    assert "c.py: SyntaxError: invalid syntax" in capsys.readouterr().out
