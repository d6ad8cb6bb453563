"""What happens between processes: one that is stopped past its lease, and one that its own work kills."""

import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import ordering
import poison
import pytest
from sweep import damage, result, start

ENDLESS = 20  # crashes


@pytest.fixture
def board(tmp_path: Path) -> Path:
    return tmp_path / "board.db"


def test_what_a_process_does_after_it_was_stopped_past_its_lease_is_fenced(board: Path) -> None:
    url = f"sqlite:///{board}?lease=0.5"
    stopped = start("stopping", url)
    try:
        _, status = os.waitpid(stopped.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        receipts, lines, late = result(start("stopping", url)).answer
        assert (receipts, lines, late) == ([2], [[1, 1], [2, 2]], 0)
        stopped.send_signal(signal.SIGCONT)
        assert result(stopped).answer[:2] == [[2], [[1, 1], [2, 2]]]
    finally:
        stopped.kill()
        stopped.communicate()
    assert not damage(board)


@pytest.mark.timeout(120)
def test_an_activation_that_kills_its_process_again_and_again_ends_as_a_failure_and_other_work_goes_on(
    board: Path,
) -> None:
    url, crashes = f"sqlite:///{board}", 0
    while (process := start("poison", url)).wait(60) == -signal.SIGKILL and crashes < ENDLESS:
        process.communicate()
        crashes += 1
    assert 1 < crashes < ENDLESS  # one crash alone proves nothing
    assert result(process).answer == [[*poison.HARMLESS], [["taster", "ObstructedError"]]]


def test_a_failure_says_how_often_an_activation_has_taken_its_process_with_it(board: Path) -> None:
    url = f"sqlite:///{board}?poison=1"
    for _ in range(2):
        start("poison", url).communicate()
    with closing(sqlite3.connect(board)) as db:
        errors = {error for (error,) in db.execute("SELECT error FROM activation WHERE state = 'failed'")}
    assert errors == {"ObstructedError: 'taster' can't run: its process has died once while it ran"}


def test_agents_that_work_one_by_one_keep_their_order_when_their_process_dies(board: Path) -> None:
    url = f"sqlite:///{board}"
    first = start("ordering", url)
    first.communicate(timeout=60)
    assert first.returncode == -signal.SIGKILL
    expected = list(range(1, ordering.COUNT + 1))
    assert result(start("ordering", url)).answer == [expected, expected]
