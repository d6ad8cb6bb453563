"""Targets: what can be named, under which name it is imported, and what is said when that does not work."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flock.cli.errors import UsageError
from flock.cli.target import load
from tests.cli.conftest import Command

OTHERS = """

def make() -> Flock:
    return flock


def broken() -> Flock:
    raise LookupError("no board")


def number() -> int:
    return 3
"""
ORDER = '{"type": "Order", "number": 0}'


@pytest.fixture
def folder(command: Command, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a folder to import from in this process, which then forgets what it imported."""
    monkeypatch.chdir(command.folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield command.folder
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize("target", ["shop.py", "./shop.py", "shop", "shop:flock", "shop.py:flock", "shop:make"])
def test_files_modules_attributes_and_functions_name_a_flock(folder: Path, target: str) -> None:
    with (folder / "shop.py").open("a") as file:
        file.write(OTHERS)
    assert load(target).name == "shop"


def test_a_file_elsewhere_finds_its_neighbours(command: Command) -> None:
    folder = command.folder / "deep"
    folder.mkdir()
    (folder / "main_flow.py").write_text("from neighbour import flock\n")
    (command.folder / "shop.py").rename(folder / "neighbour.py")
    done = command("check", "deep/main_flow.py")
    assert done.returncode == 0, done.stderr


def test_a_file_is_imported_under_its_stem_even_if_an_installed_module_has_that_name(command: Command) -> None:
    (command.folder / "shop.py").rename(command.folder / "tabnanny.py")
    done = command("run", "tabnanny.py", "--json", "--drain", "--publish", ORDER)
    assert [result["type"] for result in json.loads(done.stdout)["results"]] == ["tabnanny:Summary"]


@pytest.mark.parametrize("name", ["flock", "json"])
def test_a_file_named_like_a_module_in_use_is_refused(command: Command, name: str) -> None:
    (command.folder / "sub").mkdir()
    (command.folder / "shop.py").rename(command.folder / "sub" / f"{name}.py")
    done = command("check", f"sub/{name}.py")
    assert done.returncode == 2
    assert done.stderr == (
        f"flock: {name}.py can't be imported as {name!r}, the name of a module that is in use: rename it\n"
    )


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("nowhere.py", "there is no file nowhere.py"),
        ("no.where", "there is no module 'no.where'"),
        ("shop.py:board", "shop.py has no 'board': did you mean shop.py:flock?"),
        ("shop.py:a-b", "'a-b' in 'shop.py:a-b' is no name of an attribute"),
        ("shop.py:Order", "shop.py:Order needs arguments: give a function that takes none"),
        ("shop.py:cashier", "shop.py:cashier is asynchronous: give a plain function that returns a Flock"),
        ("shop.py:number", "shop.py:number() gave 3, not a Flock"),
        ("shop.py:__doc__", "shop.py has no '__doc__': "),
        ("shop.py:__name__", "shop.py:__name__ is 'shop', not a Flock or a function that returns one"),
        ("shop.py:broken", "shop.py:broken() failed:\n"),
        ("blank.py", "blank.py has no 'flock': name a Flock, or a function that returns one, as in TARGET:name"),
        ("text/", "there is no file text"),
        ("./notes.txt", "{folder}/notes.txt is no Python source file: its name has to end in .py"),
    ],
)
def test_a_target_that_is_not_there_or_no_flock_is_said_plainly(folder: Path, target: str, said: str) -> None:
    (folder / "blank.py").write_text("")
    (folder / "notes.txt").write_text("")
    with (folder / "shop.py").open("a") as file:
        file.write(OTHERS)
    with pytest.raises(UsageError) as caught:
        load(target)
    assert str(caught.value).startswith(said.format(folder=folder))


@pytest.mark.parametrize("word", ["run", "check", "graph"])
def test_a_target_that_is_not_there_exits_with_2(command: Command, word: str) -> None:
    done = command(word, "nowhere.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("flock: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import shop\nimport not_there\n", ["line 2, in <module>", "import not_there", "No module named 'not_there'"]),
        ("def f():\n    return 1 / 0\nf()\n", ["line 3, in <module>", "line 2, in f", "ZeroDivisionError"]),
        ("flock = (\n", ["line 1", "SyntaxError: '(' was never closed"]),
        ("import sys\nsys.exit(3)\n", ["SystemExit: 3", "put what it runs under `if __name__ == '__main__':`"]),
        (
            "from flock import Flock\nflock = Flock(max_depth=0)\n",
            ["line 2, in <module>", "max_depth takes a count of 1 or more, not 0"],
        ),
    ],
    ids=["import", "error", "syntax", "exit", "declaration"],
)
@pytest.mark.parametrize("target", ["bad.py", "bad"])
def test_an_error_in_the_target_shows_its_own_lines_only(folder: Path, target: str, text: str, said: list[str]) -> None:
    (folder / "bad.py").write_text(text)
    with pytest.raises(UsageError) as caught:
        load(target)
    shown = str(caught.value)
    assert shown.startswith(f"{target} can't be imported:\n  File ")
    assert [part for part in said if part not in shown] == []
    assert "importlib" not in shown
    assert "target.py" not in shown


def test_a_target_that_can_not_be_imported_exits_with_2_and_prints_only_to_standard_error(command: Command) -> None:
    (command.folder / "bad.py").write_text("print('hello')\n1 / 0\n")
    done = command("run", "bad.py", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "ZeroDivisionError" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_failed_is_not_left_half_imported(folder: Path) -> None:
    (folder / "bad.py").write_text("1 / 0\n")
    for _ in range(2):
        with pytest.raises(UsageError, match="ZeroDivisionError"):
            load("bad.py")


def test_a_declaration_that_can_not_work_is_said_plainly(command: Command) -> None:
    (command.folder / "bad.py").write_text("from flock import Flock\nflock = Flock()\nflock.agent('mute')\n")
    for words in (("check",), ("graph",), ("run",)):
        done = command(*words, "bad.py")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("flock: agent 'mute' has no engine")


def test_the_folder_of_the_command_is_no_part_of_the_name(command: Command) -> None:
    done = command("run", "shop", "--json", "--drain", "--publish", ORDER)
    assert [result["type"] for result in json.loads(done.stdout)["results"]] == ["shop:Summary"]
