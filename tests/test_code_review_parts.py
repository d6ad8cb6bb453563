"""The pure parts of the code review example."""

import asyncio
import os
import sys
from datetime import UTC, datetime
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console
from typing_extensions import override

from code_review_parts.analysers import ANALYSERS, analyse
from code_review_parts.assembly import group_files, merge_parts, review_file, unite
from code_review_parts.charts import Box, anchor, divide
from code_review_parts.discovery import plan_review, read_files
from code_review_parts.model import (
    FileFindings,
    FileReview,
    Report,
    ReviewedFile,
    ReviewPlan,
    ReviewRequest,
    SourceFile,
    TreeReview,
)
from code_review_parts.page import render_page, write_files
from code_review_parts.rules import found
from code_review_parts.scoring import (
    LONGEST_PLAN,
    SESSION,
    STRATEGIES,
    choose_fixes,
    grade,
    health,
    quick_wins,
    summarise,
    worth,
)
from code_review_parts.terminal import show_report
from code_review_parts.tools import TOOLS, Tool, ToolError, read_bandit, read_radon, run_tool


def source(text: str, path: str = "package/module.py", *, root: str = "/nowhere") -> SourceFile:
    return SourceFile(review="r", path=path, root=root, package="package", expected=1, text=text)


def rules(analyser: str, text: str, path: str = "package/module.py") -> list[tuple[str, int]]:
    return [(finding.rule, finding.line) for finding in analyse(analyser, source(text, path)).findings]


def plan_of(tree: Path, **options: object) -> ReviewPlan:
    return plan_review(ReviewRequest.model_validate({"path": str(tree), **options}), review="r")


def file_review(path: str = "a.py", *kinds: str, lines: int = 100) -> FileReview:
    findings = tuple(found(rule, number, rule, "test") for number, rule in enumerate(kinds, 1))
    return FileReview(path=path, package="p", lines=lines, findings=findings)


def tree_of(*files: FileReview) -> TreeReview:
    expected = len(files)
    return merge_parts(group_files([ReviewedFile(review="r", expected=expected, file=file) for file in files]))


def report_of(tree: TreeReview, *notices: str, root: str = "/home/someone/project") -> Report:
    name, strategy = STRATEGIES[0]
    return Report(
        review="r",
        root=root,
        out=None,
        reviewed_at=datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
        summary=summarise(tree.packages),
        packages=tree.packages,
        plan=choose_fixes(tree, name, strategy),
        notices=notices,
    )


# Discovery


def test_a_plan_lists_python_files_in_order_and_skips_what_is_not_the_projects_own(tmp_path: Path) -> None:
    wanted = ["a.py", "b.pyi", "package/c.py", "package/deep/d.py"]
    skipped = ["x.txt", ".hidden/x.py", "build/x.py", "node_modules/x.py", "env/x.py", "__pycache__/x.py"]
    for name in [*wanted, *skipped]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "env/pyvenv.cfg").touch()
    plan = plan_of(tmp_path)
    assert [file.path for file in plan.files] == wanted
    assert [file.package for file in plan.files] == [tmp_path.name, tmp_path.name, "package", "package.deep"]


def test_a_plan_leaves_out_what_the_request_excludes(tmp_path: Path) -> None:
    (tmp_path / "keep.py").touch()
    (tmp_path / "drop_this.py").touch()
    assert [file.path for file in plan_of(tmp_path, exclude=["drop_*"]).files] == ["keep.py"]


def test_one_file_can_be_reviewed_alone(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("x = 1\n")
    (tmp_path / "other.py").touch()
    files = read_files(plan_of(tmp_path / "one.py"))
    assert [(file.path, file.text, file.expected) for file in files] == [("one.py", "x = 1\n", 1)]


def test_an_empty_directory_gives_an_empty_plan(tmp_path: Path) -> None:
    assert plan_of(tmp_path).files == ()


def test_a_path_that_is_not_there_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        plan_of(tmp_path / "nothing")


def test_files_that_cannot_be_read_come_back_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "bytes.py").write_bytes(b"x = '\xff'\n")
    (tmp_path / "cookie.py").write_bytes(b"# coding: latin-1\nx = '\xff'\n")
    (tmp_path / "huge.py").write_bytes(b"#" * 1_000_001)
    (tmp_path / "lost.py").symlink_to(tmp_path / "gone.py")
    (tmp_path / "strange.py").write_bytes(b"# coding: klingon\n")
    problems = {file.path: file.problem for file in read_files(plan_of(tmp_path))}
    assert problems.pop("cookie.py") == ""
    assert all(problems.values())
    assert "larger than 1,000,000 bytes" in problems["huge.py"]


# Our own analysers


@pytest.mark.parametrize(
    ("analyser", "text", "expected"),
    [
        ("broken", "def f(:\n", [("syntax-error", 1)]),
        ("broken", "x = 1\0\n", [("syntax-error", 1)]),
        ("broken", "x = 1\n", []),
        ("structure", "def f():\n" + "    x = 1\n" * 61, [("long-function", 1)]),
        ("structure", "x = 1\n" * 1_001, [("long-file", 1)]),
        ("structure", "def f(self, a, b, c, d, e, g, h): ...\n", [("many-parameters", 1)]),
        ("structure", "def f(a, b, c, *, d, e, g, h): ...\n", []),
        ("docstrings", "def f(): ...\n", [("missing-docstrings", 1)]),
        ("docstrings", '"""All."""\ndef _f(): ...\nclass _A:\n    def f(self): ...\n', []),
        ("docstrings", '"""All."""\nclass A:\n    """A."""\n    @override\n    def f(self): ...\n', []),
        ("imports", "import os\nimport sys as system\nprint(system)\n", [("unused-import", 1)]),
        ("imports", "import os.path\nfrom x import y as y\nos.sep\n", []),
        ("imports", "from __future__ import annotations\nfrom x import *\n", []),
        ("imports", "from x import y\n__all__ = ['y']\n", []),
        ("imports", "from x import y\ndef f(a: 'list[y]'): ...\n", []),
        ("markers", "x = 1  # TODO: finish\n# a note\ny = '# TODO: no'\n", [("unfinished", 1)]),
        ("markers", "# FIXME\ndef f(:\n    '''", [("unfinished", 1)]),
        ("pitfalls", "def f(a=[], *, b={}, c=None, d=set()): ...\n", [("mutable-default", 1)] * 3),
        ("pitfalls", "try:\n    f()\nexcept:\n    g()\n", [("bare-except", 3)]),
        ("pitfalls", "try:\n    f()\nexcept Exception:\n    g()\n", [("broad-except", 3)]),
        ("pitfalls", "try:\n    f()\nexcept Exception:\n    g()\n    raise\n", []),
        ("pitfalls", "try:\n    f()\nexcept ValueError:\n    pass\n", []),
        ("pitfalls", "try:\n    f()\nexcept (A, Exception):\n    ...\n", [("broad-except", 3), ("silenced-error", 3)]),
        ("pitfalls", "assert (x, 'why')\n", [("assert-on-tuple", 1)]),
        ("pitfalls", "x == None\nx is None\n", [("none-comparison", 1)]),
        ("pitfalls", "def f():\n    try:\n        g()\n    finally:\n        return 1\n", [("return-in-finally", 5)]),
        ("pitfalls", "async def f():\n    time.sleep(1)\n", [("blocking-sleep", 2)]),
        ("pitfalls", "def f():\n    time.sleep(1)\n", []),
        ("pitfalls", "async def f():\n    def g():\n        time.sleep(1)\n", []),
    ],
)
def test_an_analyser_finds_what_it_looks_for(analyser: str, text: str, expected: list[tuple[str, int]]) -> None:
    assert rules(analyser, text) == expected


def test_nesting_counts_blocks_but_neither_elif_nor_inner_functions() -> None:
    deep = "def f():\n" + "".join("    " * n + "if x:\n" for n in range(1, 6)) + "    " * 6 + "g()\n"
    flat = "def f():\n    if a:\n        g()\n" + "    elif a:\n        g()\n" * 8
    inner = "def f():\n    for a in b:\n        with c:\n            def g():\n                while d:\n" + (
        " " * 20 + "for h in d:\n" + " " * 24 + "if h:\n" + " " * 28 + "x()\n"
    )
    assert rules("structure", deep) == [("deep-nesting", 1)]
    assert rules("structure", flat) == []
    assert rules("structure", inner) == []


def test_tests_and_package_files_are_spared_where_rules_make_no_sense() -> None:
    assert rules("docstrings", "def test_x(): ...\n", "tests/test_x.py") == []
    assert rules("imports", "from .a import b\n", "package/__init__.py") == []


@pytest.mark.parametrize("comment", ["# noqa", "# noqa: E722", "# NOQA: B001, E722"])
def test_a_noqa_comment_silences_our_own_analysers_too(comment: str) -> None:
    assert rules("pitfalls", f"try:\n    f()\nexcept:  {comment}\n    g()\n") == []


def test_a_noqa_comment_for_another_rule_silences_nothing() -> None:
    assert rules("imports", "import os  # noqa: E501\n") == [("unused-import", 1)]


def test_a_file_that_could_not_be_read_has_one_finding() -> None:
    file = source("").model_copy(update={"problem": "not UTF-8"})
    assert [finding.rule for name in ANALYSERS for finding in analyse(name, file).findings] == ["unreadable"]


def test_parsing_code_with_a_doubtful_escape_does_not_warn() -> None:
    assert rules("broken", "x = '\\d'\ny = 1 is 1\n") == []


@given(st.text())
@example("\r\x80")
def test_no_text_makes_an_analyser_raise(text: str) -> None:
    for name in ANALYSERS:
        analyse(name, source(text))


# The tools of others


SAMPLE = """import os, subprocess


def f(a=[]):
    subprocess.call("ls " + str(a), shell=True)
"""


@pytest.mark.parametrize(
    ("tool", "expected"),
    [("ruff", {"unused-import", "mutable-default"}), ("bandit", {"B602"}), ("radon", set[str]())],
)
async def test_a_tool_answers_for_each_file(tool: str, expected: set[str], tmp_path: Path) -> None:
    texts = {"-bad.py": SAMPLE, "broken.py": "def f(:\n", "fine.py": '"""Fine."""\n'}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    files = [source(text, name, root=str(tmp_path)) for name, text in texts.items()]
    answers = {answer.path: answer for answer in await run_tool(_tool(tool), files)}
    assert list(answers) == list(texts)
    assert {finding.rule for finding in answers["-bad.py"].findings} == expected
    assert answers["broken.py"].findings == answers["fine.py"].findings == ()
    assert answers["-bad.py"].complexity == (1 if tool == "radon" else 0)


async def test_a_tool_that_is_not_installed_finds_nothing_and_says_so() -> None:
    absent = Tool(name="a_tool_that_nobody_has", arguments=(), read=read_radon)
    answers = await run_tool(absent, [source("x = 1\n")])
    assert absent.command() is None
    assert "a_tool_that_nobody_has is not installed" in absent.missing
    assert answers == [FileFindings(review="r", path="package/module.py", analyser=absent.name)]


async def test_a_tool_is_not_started_for_files_that_could_not_be_read() -> None:
    unreadable = source("").model_copy(update={"problem": "not UTF-8"})
    answers = await run_tool(_tool("ruff"), [unreadable])
    assert answers[0].findings == ()


async def test_a_tool_that_fails_raises_with_what_it_said() -> None:
    # `json.tool` is everywhere, and ends with an error for a file that is not there.
    failing = Tool(name="json.tool", arguments=(), read=read_radon)
    with pytest.raises(ToolError, match=r"ended with [12]"):
        await run_tool(failing, [source("x = 1\n")])


async def test_a_cancelled_tool_is_killed(tmp_path: Path) -> None:
    fifo = tmp_path / "alive"
    os.mkfifo(fifo)
    script = f"import time\nwith open({str(fifo)!r}, 'w', buffering=1) as alive:\n    alive.write('started\\n')\n"
    (tmp_path / "sleeper.py").write_text(script + "    time.sleep(600)\n")
    runner = Tool(name="cProfile", arguments=(), read=read_radon)
    running = asyncio.create_task(run_tool(runner, [source(script, "sleeper.py", root=str(tmp_path))]))
    with await asyncio.to_thread(fifo.open) as alive:
        assert await asyncio.to_thread(alive.readline) == "started\n"
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        # The other end is closed: the process is gone.
        assert await asyncio.to_thread(alive.read) == ""


def test_a_guess_of_bandit_is_never_more_than_low() -> None:
    issue = (
        '{"results": [{"filename": "a.py", "issue_confidence": "LOW", "issue_severity": "HIGH",'
        ' "issue_text": "a\\n  guess", "line_number": 3, "test_id": "B999"}]}'
    )
    (remark,) = read_bandit(issue.encode())
    assert remark.finding is not None
    assert (remark.finding.severity, remark.finding.message, remark.finding.line) == ("low", "a guess", 3)


def test_radon_reports_functions_from_eleven_paths_on() -> None:
    blocks = ", ".join(
        f'{{"type": "{kind}", "name": "f", "classname": "A", "lineno": {paths}, "complexity": {paths}}}'
        for kind, paths in [("class", 50), ("method", 10), ("method", 11), ("method", 21)]
    )
    remarks = list(read_radon(f'{{"a.py": [{blocks}], "b.py": {{"error": "no"}}}}'.encode()))
    named = [remark.finding.rule for remark in remarks if remark.finding]
    assert named == ["complex-function", "very-complex-function"]
    assert max(remark.complexity for remark in remarks) == 21


# Assembly


def test_what_two_analysers_find_is_named_once_with_both() -> None:
    twice = [found("bare-except", 3, "short", "ruff"), found("bare-except", 3, "a longer message", "pitfalls")]
    other = found("syntax-error", 9, "bad", "broken")
    united = unite([*twice, other])
    assert [(one.rule, one.message, one.found_by) for one in united] == [
        ("syntax-error", "bad", ("broken",)),
        ("bare-except", "a longer message", ("pitfalls", "ruff")),
    ]


def test_a_reviewed_file_carries_findings_complexity_and_notices_of_all_analysers() -> None:
    file = source("x = 1\ny = 2\n")
    results = [
        FileFindings(review="r", path=file.path, analyser="radon", complexity=7),
        FileFindings(review="r", path=file.path, analyser="ruff", notices=("ruff failed",)),
        FileFindings(review="r", path=file.path, analyser="x", findings=(found("unfinished", 1, "m", "x"),)),
    ]
    review = review_file(file, results).file
    assert (review.lines, review.complexity, review.notices) == (2, 7, ("ruff failed",))
    assert len(review.findings) == 1


@given(st.permutations([f"{package}/{name}.py" for package in "abc" for name in "xyz"]), st.integers(0, 8))
def test_parts_make_the_same_tree_in_whatever_order_they_come(paths: list[str], cut: int) -> None:
    reviewed = [
        ReviewedFile(review="r", expected=9, file=FileReview(path=path, package=path[0], lines=1)) for path in paths
    ]
    parts = [part for some in (reviewed[:cut], reviewed[cut:]) for part in group_files(some)]
    tree = merge_parts(parts)
    assert tree.complete
    assert [file.path for file in tree.files] == sorted(paths)
    assert cut == 0 or not any(part.complete for part in parts)


def test_a_batch_that_holds_files_of_two_reviews_keeps_them_apart() -> None:
    reviewed = [ReviewedFile(review=name, expected=2, file=file_review()) for name in "ABA"]
    assert {part.review: part.complete for part in group_files(reviewed)} == {"A": True, "B": False}


def test_the_tree_of_no_files_is_complete() -> None:
    assert TreeReview(review="r", expected=0).complete


# Scoring


def test_health_falls_with_findings_per_line() -> None:
    clean = file_review("a.py")
    assert health([clean]) == health([]) == 100
    assert health([file_review("a.py", "syntax-error")]) == 50
    assert health([file_review("a.py", "syntax-error"), file_review("b.py", lines=900)]) == 91
    assert [grade(score) for score in (100, 90, 89, 75, 60, 40, 39, 0)] == list("AABBCDFF")


def test_a_plan_fits_one_session() -> None:
    kinds = ["syntax-error", "very-complex-function", "long-function", "unused-import", "bare-except"]
    tree = tree_of(*(file_review(f"{number}.py", *kinds) for number in range(5)))
    for name, strategy in STRATEGIES:
        plan = choose_fixes(tree, name, strategy)
        assert 0 < plan.minutes <= SESSION
        assert 0 < len(plan.fixes) <= LONGEST_PLAN
        assert plan.score == worth(plan.fixes)


def test_a_fix_is_worth_more_the_sooner_it_comes() -> None:
    tree = tree_of(file_review("a.py", "mutable-default"), file_review("b.py", "long-function"))
    fixes = choose_fixes(tree, "quick wins", quick_wins).fixes
    assert [fix.path for fix in fixes] == ["a.py", "b.py"]
    assert worth(fixes) > worth(fixes[::-1])


def test_many_findings_of_one_rule_in_one_file_are_one_fix_that_gets_faster() -> None:
    (fix,) = choose_fixes(tree_of(file_review("a.py", *["bare-except"] * 4)), *STRATEGIES[0]).fixes
    assert (fix.lines, fix.points, fix.minutes) == ((1, 2, 3, 4), 12, 10 + 3 * 3)


def test_a_long_repair_stands_alone() -> None:
    fixes = choose_fixes(tree_of(file_review("a.py", *["complex-function"] * 2)), *STRATEGIES[0]).fixes
    assert [(fix.lines, fix.minutes) for fix in fixes] == [((1,), 40), ((2,), 40)]


def test_the_strategies_differ_where_they_should() -> None:
    tree = tree_of(
        file_review("a.py", "very-complex-function"),
        file_review("b.py", "mutable-default"),
        file_review("c.py", "unused-import", "none-comparison", "bare-except", "silenced-error"),
    )
    first = {name: choose_fixes(tree, name, strategy).fixes[0] for name, strategy in STRATEGIES}
    assert first["worst first"].path == "a.py"
    assert first["quick wins"].rule == "mutable-default"
    assert first["hot spots"].path == "b.py"
    plans = {name: choose_fixes(tree, name, strategy).score for name, strategy in STRATEGIES}
    assert max(plans, key=lambda name: plans[name]) != "worst first"


def test_nothing_to_fix_is_a_plan_without_fixes() -> None:
    plan = choose_fixes(tree_of(file_review()), *STRATEGIES[0])
    assert (plan.fixes, plan.score, plan.minutes) == ((), 0, 0)


# Pictures and pages


@given(st.lists(st.floats(1, 1_000), max_size=40))
def test_boxes_share_the_area_in_proportion(sizes: list[float]) -> None:
    boxes = divide(sizes, Box(0, 0, 1_000, 400))
    assert len(boxes) == len(sizes)
    for size, box in zip(sizes, boxes, strict=True):
        assert box.width * box.height == pytest.approx(400_000 * size / sum(sizes))
        assert -1e-6 <= box.x <= box.x + box.width <= 1_000 + 1e-6
        assert -1e-6 <= box.y <= box.y + box.height <= 400 + 1e-6


def test_files_with_similar_names_have_different_anchors() -> None:
    names = ["a/b.py", "a_b.py", "a-b.py", "a.b.py", "a b.py", "a_2f_b.py"]
    assert len({anchor(file_review(name)) for name in names}) == len(names)


VOID = {"meta", "br", "img", "link", "input", "hr"}


class Tags(HTMLParser):
    """Checks that tags are closed in order and collects what a page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.refers: list[str] = []
        self.ids: set[str] = set()

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes what opens."""
        if tag not in VOID:
            self.open.append(tag)
        self.refers += [value or "" for name, value in attrs if name in {"src", "href"}]
        self.ids.update(value or "" for name, value in attrs if name == "id")

    @override
    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A tag that closes itself."""

    @override
    def handle_endtag(self, tag: str) -> None:
        """Checks what closes."""
        assert self.open.pop() == tag


def test_a_page_is_well_formed_and_refers_only_to_itself() -> None:
    tree = tree_of(file_review("a.py", "bare-except", "syntax-error"), file_review("b/c.py"))
    tags = Tags()
    tags.feed(render_page(report_of(tree, "bandit is not installed")))
    assert tags.open == []
    assert {refers.removeprefix("#") for refers in tags.refers} == tags.ids == {anchor(one) for one in tree.files}


def test_a_page_escapes_what_the_tree_says() -> None:
    evil = "<script>alert('x')</script>.py"
    finding = found("unfinished", 1, "TODO: <img src=x onerror=y>", "test")
    file = FileReview(path=evil, package="<b>p</b>", lines=9, findings=(finding,), notices=("<i>n</i>",))
    page = render_page(report_of(tree_of(file), "<u>notice</u>", root="/tmp/<s>root</s>"))  # noqa: S108 - a name only
    assert not [tag for tag in ("<script", "<img", "<b>p", "<i>n", "<u>", "<s>") if tag in page]


def test_a_page_of_nothing_says_so() -> None:
    page = render_page(report_of(TreeReview(review="r", expected=0)))
    assert "No Python files were found." in page
    assert "Nothing to fix." in page


def test_a_report_survives_being_written_and_read(tmp_path: Path) -> None:
    report = report_of(tree_of(file_review("a.py", "bare-except")))
    files = write_files(report, tmp_path / "deep" / "out")
    assert Report.model_validate_json(Path(files.json_file).read_text(encoding="utf-8")) == report
    assert Path(files.html_file).read_text(encoding="utf-8") == render_page(report)


def test_the_terminal_shows_packages_fixes_and_notices() -> None:
    output = StringIO()
    tree = tree_of(file_review("a.py", "bare-except", "bare-except"), file_review("b.py"))
    show_report(report_of(tree, "[red]bandit[/] is not installed"), Console(file=output, width=120))
    text = output.getvalue()
    for expected in ("Packages", "Fix first", "a.py:1", "(and 1 more)", "[red]bandit[/] is not installed", "health"):
        assert expected in text


def _tool(name: str) -> Tool:
    return next(tool for tool in TOOLS if tool.name == name)


def test_tools_run_in_this_python_without_the_reviewed_tree_on_its_path() -> None:
    assert [tool.command() for tool in TOOLS] == [
        (sys.executable, "-P", "-m", tool.name, *tool.arguments) for tool in TOOLS
    ]
