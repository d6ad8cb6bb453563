"""Ctrl-C, SIGTERM and a terminal: the command stops in good order and shows what goes on."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.cli.conftest import Command

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and terminals of POSIX")

TASK = '{"type": "Task"}'
STUBBORN = '{"type": "Task", "stubborn": true}'

GATED = """
import os

from pydantic import BaseModel

from flock import Flock


class Task(BaseModel):
    number: int = 0


class Done(BaseModel):
    pass


flock = Flock()


@(flock.agent("worker").max_concurrency(2))
def worker(task: Task) -> Done:
    print(f"working on {task.number}", flush=True)
    os.read(int(os.environ["GO"]), 1)
    return Done()
"""


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def said(process: subprocess.Popen[str]) -> tuple[str, str]:
    out, err = process.communicate(timeout=30)
    return out, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_what_runs_says_how_far_it_got_and_exits_with_130(
    command: Command, number: signal.Signals
) -> None:
    process = command.start("run", "slow.py", "--publish", TASK)
    assert first_line(process) == "started\n"
    process.send_signal(number)
    out, err = said(process)
    assert process.returncode == 130
    assert out.startswith("cancelled\ninterrupted after ")
    assert "worker: ready (1 artifact)" in out
    assert err == "stopping; once more stops at once\n"


def test_an_interrupted_run_still_prints_its_one_json_report(command: Command) -> None:
    process = command.start("run", "clockwork.py:endless", "--json")
    assert process.stderr is not None
    assert process.stderr.readline() == "tick\n"
    process.send_signal(signal.SIGINT)
    out, _ = said(process)
    report = json.loads(out)
    assert (process.returncode, report["exit_status"], report["end"]) == (130, 130, "interrupted")
    assert report["succeeded"] >= 1
    assert [each["reason"] for each in report["waiting"]] == ["schedule"]


def test_a_body_that_swallows_cancellation_does_not_hinder_ctrl_c(command: Command) -> None:
    process = command.start("run", "slow.py", "--publish", STUBBORN)
    assert first_line(process) == "started\n"
    process.send_signal(signal.SIGINT)
    out, _ = said(process)
    assert process.returncode == 130
    assert "did not stop and were left behind: worker" in out


def test_a_second_ctrl_c_stops_at_once(command: Command) -> None:
    process = command.start("run", "slow.py", "--publish", STUBBORN)
    assert first_line(process) == "started\n"
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert process.stderr.readline() == "stopping; once more stops at once\n"
    process.send_signal(signal.SIGINT)
    out, err = said(process)
    assert process.returncode == 130
    assert "interrupted" not in out
    assert err == "stopped at once\n"


def test_ctrl_c_while_the_target_is_imported_is_quiet(command: Command) -> None:
    (command.folder / "endless.py").write_text(
        "import time\nprint('importing', flush=True)\nwhile True:\n    time.sleep(0.01)\n"  # never deaf to a signal
    )
    process = command.start("run", "endless.py")
    assert first_line(process) == "importing\n"
    process.send_signal(signal.SIGINT)
    assert said(process) == ("", "")
    assert process.returncode == 130


class Terminal:
    """The other end of a pseudo-terminal."""

    def __init__(self) -> None:
        self.mine, self.theirs = os.openpty()
        self.seen = ""

    def read_until(self, pattern: str) -> None:
        """Read what is shown until it matches."""
        while re.search(pattern, self.seen) is None:
            self.seen += os.read(self.mine, 4096).decode()

    def read_all(self) -> str:
        """Read to the end and give all that was shown."""
        os.close(self.theirs)
        try:
            while data := os.read(self.mine, 4096):
                self.seen += data.decode()
        except OSError:  # Linux says so when the last writer is gone
            pass
        return self.seen


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    os.close(terminal.mine)


def test_a_terminal_shows_what_runs_waits_and_is_done(command: Command, terminal: Terminal) -> None:
    go, let = os.pipe()
    os.set_inheritable(go, True)  # noqa: FBT003 - positional only
    (command.folder / "gated.py").write_text(GATED)
    process = subprocess.Popen(  # noqa: S603 - our own interpreter
        [*command.words, "run", "gated.py", "--publish", "[" + ", ".join([TASK] * 3) + "]"],
        cwd=command.folder,
        env={**command.environment, "GO": str(go)},
        stdin=subprocess.DEVNULL,
        stdout=terminal.theirs,
        stderr=terminal.theirs,
        close_fds=False,
    )
    try:
        terminal.read_until(r"running 2  done 0  failed 0  waiting 1  worker x2")
        os.write(let, b"1")
        terminal.read_until(r"running 2  done 1  failed 0  waiting 0  worker x2")
        os.write(let, b"11")
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(go)
        os.close(let)
    shown = terminal.read_all()
    assert "working on 0" in shown
    assert "3 succeeded, 0 failed, 0 cancelled" in shown
    assert "\x1b[?25h" in shown[shown.rindex("\x1b[?25l") :]  # the cursor is back


def test_without_a_terminal_nothing_is_drawn(command: Command) -> None:
    done = command("run", "shop.py", "--publish", '{"type": "Order", "number": 1}')
    assert "\x1b" not in done.stdout + done.stderr
    assert "running" not in done.stdout + done.stderr
