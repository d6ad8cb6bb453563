"""What happens between processes: one that is stopped past its lease, and one that its own work kills."""

import os
import signal
from pathlib import Path

import poison
import pytest
from sweep import damage, result, start


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
    statuses: list[int] = []
    for _ in range(12):
        process = start("poison", f"sqlite:///{board}")
        printed, said = process.communicate(timeout=60)
        statuses.append(process.returncode)
        if process.returncode == 0:
            break
    else:
        pytest.fail(f"it goes on for ever: {statuses}, {said}")
    assert set(statuses[:-1]) == {-signal.SIGKILL}
    assert len(statuses) > 2, "one crash alone is no proof"
    assert f'"answer": [{[*poison.HARMLESS]}, [["taster", "ObstructedError"]]]' in printed
