"""S8: a bar where somebody looks, plain lines elsewhere, nothing when told."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typing_extensions import override

from flock.studies import RunStatus, Study
from flock.studies.progress import Bar, Lines, Progress, progress_of

SHOWS = """
import sys
from flock.studies import Study
def agent(problem):
    if problem.problem_id == "p2":
        raise RuntimeError("no")
    return "done"
study = Study.build("shown", agents={"agent": agent}, problems=["one", "two"], replicates=3, output_dir=sys.argv[1])
study.run(**({} if len(sys.argv) < 3 else {"progress": sys.argv[2] == "yes"}))
"""


def on_terminal(folder: Path, *more: str) -> str:
    """Run a study whose standard error is a terminal, and give what that shows."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "160"}
    with subprocess.Popen(  # noqa: S603 - our own interpreter and our own text
        [sys.executable, "-c", SHOWS, str(folder), *more], stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65536):
                shown += part
        except OSError:  # the other side is closed
            pass
        os.close(ours)
    assert process.returncode == 0
    return shown.decode()


def piped(folder: Path, *more: str) -> str:
    """Run a study whose standard error is no terminal, and give what it wrote."""
    return subprocess.run(  # noqa: S603 - our own interpreter and our own text
        [sys.executable, "-c", SHOWS, str(folder), *more], capture_output=True, text=True, check=True
    ).stderr


def test_s8_a_terminal_shows_a_bar_with_success_failed_skipped_rate(tmp_path: Path) -> None:
    shown = on_terminal(tmp_path)
    assert re.search(r"6/6 runs, 3 success, 3 failed, 0 skipped, [\d.]+/s", shown)
    assert "\u2501" in shown  # the bar itself
    assert "\x1b[" in shown


@pytest.mark.parametrize("more", [(), ("yes",)])
def test_s8_elsewhere_there_are_plain_lines(tmp_path: Path, more: tuple[str, ...]) -> None:
    begin, end = piped(tmp_path, *more).splitlines()
    assert begin == "shown: 6 of 6 runs to do"
    assert re.fullmatch(r"shown: 6/6 runs, 3 success, 3 failed, 0 skipped, [\d.]+/s", end)


def test_s8_nothing_is_shown_when_told(tmp_path: Path) -> None:
    assert on_terminal(tmp_path / "terminal", "no") == ""
    assert piped(tmp_path / "pipe", "no") == ""


def test_s8_a_resumed_study_begins_where_it_was(tmp_path: Path) -> None:
    piped(tmp_path)
    begin, end = piped(tmp_path).splitlines()
    assert begin == "shown: 3 of 6 runs to do"
    assert "6/6 runs, 3 success, 3 failed" in end


def test_s8_the_time_left_follows_from_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = [100.0]
    monkeypatch.setattr("flock.studies.progress.now", lambda: moment[0])
    progress = Progress("timed", 1000, 100, 40)
    moment[0] += 20
    for status in (RunStatus.SUCCESS, RunStatus.FAILED):
        progress.add(status)
    assert progress.line() == "102/1000 runs, 61 success, 41 failed, 0 skipped, 0.1/s, 2:29:40 left"


def test_s8_lines_come_every_ten_seconds(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    moment = [0.0]
    monkeypatch.setattr("flock.studies.progress.now", lambda: moment[0])
    with Lines("slow", 40, 0, 0) as progress:
        for _ in range(25):
            moment[0] += 1
            progress.add(RunStatus.SUCCESS)
    said = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in said] == [
        "slow: 40 of 40 runs to do", "slow: 10/40 runs", "slow: 20/40 runs", "slow: 25/40 runs",
    ]  # fmt: skip


class Terminal(io.StringIO):
    @override
    def isatty(self) -> bool:
        return True


def test_s8_without_rich_a_terminal_shows_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert isinstance(progress_of("x", 1, 0, 0, wanted=None), Bar)
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    assert type(progress_of("x", 1, 0, 0, wanted=True)) is Lines
    assert type(progress_of("x", 1, 0, 0, wanted=False)) is Progress


def test_s8_nothing_to_do_shows_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = Study.build("quiet", agents={"a": lambda: "done"}, problems=["one"], output_dir=tmp_path)
    made.run(progress=False)
    made.run()
    assert capsys.readouterr().err == ""
