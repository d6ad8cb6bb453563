"""The large boards of the benchmarks can be made and measured: their rows are written past the store."""

import json
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parent.parent / "benchmarks" / "bench_durable.py"
BOARDS = ("small", "large", "crashed-small", "crashed")


def run(*words: str) -> str:
    """Run the script with small boards; gives its last line."""
    child = subprocess.run(  # noqa: S603
        [sys.executable, str(SCRIPT), *words, "--smoke"], capture_output=True, text=True, timeout=120, check=False
    )
    assert child.returncode == 0, child.stderr
    return child.stdout.strip().rpartition("\n")[2]


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("boards"))
    run("build", *BOARDS, "--folder", folder)
    return folder


@pytest.mark.parametrize(("what", "board"), [("recover", "crashed"), ("query", "large"), ("weigh", "large")])
def test_a_large_board_can_be_measured(boards: str, what: str, board: str) -> None:
    assert json.loads(run(what, board, "--folder", boards))["faults"] == []
