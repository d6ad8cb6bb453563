"""The code review example on real trees: whatever is in them, one request ends in one report."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from code_review import build_flock, file_of, main
from code_review_parts import tools
from code_review_parts.model import FileFindings, Finding, Report, ReviewedFile, ReviewRequest, TreeReview
from code_review_parts.tools import Tool, ToolError, read_radon
from flock import Flock

BAD = """import os, subprocess


def f(a=[]):
    try:
        subprocess.call("ls " + str(a), shell=True)
    except:
        pass
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "package" / "deep").mkdir(parents=True)
    (root / "fine.py").write_text('"""Fine."""\n\nANSWER = 42\n')
    (root / "package" / "bad.py").write_text(BAD)
    (root / "package" / "broken.py").write_text("def f(:\n")
    (root / "package" / "deep" / "latin.py").write_bytes(b"x = '\xff'\n")
    return root


def found(report: Report) -> dict[str, set[str]]:
    files = (file for package in report.packages for file in package.files)
    return {file.path: {finding.rule for finding in file.findings} for file in files}


def finding_of(report: Report, rule: str) -> Finding:
    files = (file for package in report.packages for file in package.files)
    return next(finding for file in files for finding in file.findings if finding.rule == rule)


async def reviewed(flock: Flock, path: Path) -> Report:
    async with flock:
        return await flock.ask(ReviewRequest(path=str(path)), returns=Report)


def test_a_tree_is_reviewed_by_all_agents_and_the_report_is_shown_and_written(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = main([str(tree), "--out", str(tmp_path / "out")])
    assert found(report) == {
        "fine.py": set(),
        "package/bad.py": {
            *("unused-import", "mutable-default", "bare-except", "silenced-error", "missing-docstrings"),
            *("B602", "SIM105"),
        },
        "package/broken.py": {"syntax-error"},
        "package/deep/latin.py": {"unreadable"},
    }
    assert [package.name for package in report.packages] == ["package", "package.deep", "project"]
    assert finding_of(report, "bare-except").found_by == ("pitfalls", "ruff")
    assert report.summary.files == 4
    assert report.plan.fixes
    assert report.notices == ()
    assert Report.model_validate_json((tmp_path / "out" / "report.json").read_text(encoding="utf-8")) == report
    assert (tmp_path / "out" / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "Fix first" in capsys.readouterr().out


def test_the_json_on_the_output_is_the_report_and_nothing_else(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = main([str(tree), "--out", str(tmp_path / "out"), "--json"])
    assert json.loads(capsys.readouterr().out) == report.model_dump(mode="json")


def test_an_empty_directory_has_a_report_too(tmp_path: Path) -> None:
    report = main([str(tmp_path), "--out", str(tmp_path / "out")])
    assert (report.packages, report.plan.fixes, report.summary.health) == ((), (), 100)


def test_a_poor_health_ends_with_status_1_when_asked_to(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(tree), "--out", str(tmp_path / "out"), "--fail-under", "99"])
    assert ended.value.code == 1


def test_a_path_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "nothing")])
    assert ended.value.code == 2
    assert "there is no" in capsys.readouterr().err


async def test_a_tool_that_is_not_installed_is_named_in_the_report(tree: Path) -> None:
    absent = Tool(name="a_tool_that_nobody_has", arguments=(), read=read_radon)
    report = await reviewed(build_flock(tools=(absent,)), tree)
    assert report.notices == (absent.missing,)
    assert report.summary.files == 4


async def test_the_files_of_an_analyser_that_fails_are_in_the_report_with_a_notice(tree: Path) -> None:
    def refuse(output: bytes) -> NoReturn:
        raise ToolError("no sense in this")

    ruff = tools.TOOLS[0]
    failing = Tool(name=ruff.name, arguments=ruff.arguments, read=refuse)
    report = await reviewed(build_flock(tools=(failing,)), tree)
    assert report.notices == ("ruff failed: ToolError: no sense in this (files: 4)",)
    assert "syntax-error" in found(report)["package/broken.py"]


async def test_a_tree_of_many_files_ends_in_one_complete_part(tmp_path: Path) -> None:
    for number in range(70):
        folder = tmp_path / f"package{number % 7}"
        folder.mkdir(exist_ok=True)
        (folder / f"module{number}.py").write_text(f'"""Module {number}."""\n')
    flock = build_flock(tools=())
    async with flock, flock.traced_run("review"):
        await flock.publish(ReviewRequest(path=str(tmp_path)))
        outcome = await flock.run_until_idle()
        assert (outcome.idle, outcome.failed, outcome.waiting) == (True, 0, ())
        assert [len(package.files) for package in (await report_of(flock)).packages] == [10] * 7
        parts = await flock.store.get_by_type(TreeReview)
        assert len([part for part in parts if part.complete]) == 1
        assert len(await flock.store.get_by_type(ReviewedFile)) == 70


async def test_two_requests_in_one_run_never_mix(tmp_path: Path) -> None:
    texts = {"bad": BAD, "broken": "def f(:\n"}
    for name, text in texts.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "same.py").write_text(text)
    async with build_flock(tools=()) as flock:
        await flock.publish_many([ReviewRequest(path=str(tmp_path / name)) for name in texts])
        await flock.run_until_idle()
        reports = {Path(report.root).name: found(report) for report in await flock.store.get_by_type(Report)}
    assert reports["broken"] == {"same.py": {"syntax-error"}}
    assert {"bare-except", "unused-import"} < reports["bad"]["same.py"]
    assert "syntax-error" not in reports["bad"]["same.py"]


def test_files_join_only_within_their_review() -> None:
    keys = {file_of(FileFindings(review=review, path=path, analyser="x")) for review in "AB" for path in "ab"}
    assert len(keys) == 4


async def test_a_request_in_json_is_enough(tree: Path, tmp_path: Path) -> None:
    flock = build_flock(tools=())
    async with flock:
        await flock.publish({"type": "ReviewRequest", "path": str(tree), "out": str(tmp_path / "out")})
        outcome = await flock.run_until_idle()
        outcome.raise_for_failures()
    assert (tmp_path / "out" / "report.html").exists()


async def report_of(flock: Flock) -> Report:
    reports: Sequence[Report] = await flock.store.get_by_type(Report)
    (report,) = reports
    return report
