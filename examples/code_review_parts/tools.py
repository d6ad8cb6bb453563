"""The analysers of others, each in a process of its own: ruff, bandit and radon."""

import asyncio
import shutil
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, TypeAdapter

from .model import FileFindings, Finding, Severity, SourceFile
from .rules import ALIASES, RULES, Rule, found, unlisted

COMPLEX = 10
VERY_COMPLEX = 20
RUFF_RULES = "E7,E9,F,B,C4,PERF,PLE,PLW,RET,SIM,ASYNC"
# Asserts, imports of subprocess and calls of fixed commands: true in most programs and rarely worth a look.
BANDIT_SKIPS = "B101,B404,B603,B607"


class ToolError(Exception):
    """Raised when a tool ends in a way that it should not."""


class Remark(NamedTuple):
    """What a tool says about one file: a finding, a complexity, or both."""

    path: str
    finding: Finding | None = None
    complexity: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A program that is given paths and answers with JSON."""

    name: str
    arguments: tuple[str, ...]
    read: Callable[[bytes], Iterable[Remark]]

    def command(self) -> tuple[str, ...] | None:
        """How to start it: from this Python's packages, else from the path; None when it is not installed."""
        if find_spec(self.name) is not None:
            # -P: the reviewed tree may hold a module that is named like one of the standard library.
            return sys.executable, "-P", "-m", self.name, *self.arguments
        program = shutil.which(self.name)
        return None if program is None else (program, *self.arguments)

    @property
    def missing(self) -> str:
        """What a report says when the tool is not installed."""
        return f"{self.name} is not installed, so nothing was checked with it: pip install {self.name}"


async def run_tool(tool: Tool, sources: Sequence[SourceFile]) -> list[FileFindings]:
    """Start a tool once for many files and answer for each of them; without the tool nothing is found."""
    command = tool.command()
    paths = {str(Path(source.root, source.path)): source for source in sources if not source.problem}
    remarks = tool.read(await _output(command, tuple(paths))) if command and paths else ()
    by_path: defaultdict[str, list[Remark]] = defaultdict(list)
    for remark in remarks:
        by_path[remark.path].append(remark)
    return [_findings(tool.name, source, by_path[str(Path(source.root, source.path))]) for source in sources]


def _findings(name: str, source: SourceFile, remarks: Sequence[Remark]) -> FileFindings:
    return FileFindings(
        review=source.review,
        path=source.path,
        analyser=name,
        findings=tuple(remark.finding for remark in remarks if remark.finding is not None),
        complexity=max((remark.complexity for remark in remarks), default=0),
    )


async def _output(command: tuple[str, ...], paths: tuple[str, ...]) -> bytes:
    process = await asyncio.create_subprocess_exec(*command, *paths, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
    try:
        output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        message = f"{' '.join(command)} ended with {process.returncode}: {errors.decode(errors='replace')[-500:]}"
        raise ToolError(message)
    return output


class _Place(BaseModel):
    row: int


class _RuffIssue(BaseModel):
    code: str | None
    filename: str
    location: _Place
    message: str


class _BanditIssue(BaseModel):
    filename: str
    issue_confidence: str
    issue_severity: Literal["HIGH", "MEDIUM", "LOW", "UNDEFINED"]
    issue_text: str
    line_number: int
    test_id: str


class _BanditOutput(BaseModel):
    results: list[_BanditIssue]


class _RadonBlock(BaseModel):
    type: str
    name: str
    lineno: int
    complexity: int
    classname: str = ""


class _RadonError(BaseModel):
    error: str


_ruff_output = TypeAdapter(list[_RuffIssue])
_radon_output = TypeAdapter(dict[str, list[_RadonBlock] | _RadonError])


def read_ruff(output: bytes) -> Iterable[Remark]:
    """Give the issues of `ruff check --output-format json`."""
    for issue in _ruff_output.validate_json(output):
        code = issue.code or "invalid-syntax"
        # Syntax errors are left to `broken`: ruff may think of another version of Python.
        if code != "invalid-syntax":
            yield Remark(issue.filename, _named(code, _ruff_rule(code), issue.location.row, issue.message, "ruff"))


def read_bandit(output: bytes) -> Iterable[Remark]:
    """Give the results of `bandit -f json`; a guess with low confidence is never more than low."""
    levels: dict[str, Severity] = {"HIGH": "high", "MEDIUM": "medium"}
    for issue in _BanditOutput.model_validate_json(output).results:
        severity = "low" if issue.issue_confidence == "LOW" else levels.get(issue.issue_severity, "low")
        rule = Rule("security", severity, 20)
        yield Remark(issue.filename, _named(issue.test_id, rule, issue.line_number, issue.issue_text, "bandit"))


def read_radon(output: bytes) -> Iterable[Remark]:
    """Give the cyclomatic complexities that `radon cc -j` gives functions and methods."""
    for path, blocks in _radon_output.validate_json(output).items():
        if not isinstance(blocks, _RadonError):
            yield from (_complexity(path, block) for block in blocks if block.type != "class")


TOOLS = (
    Tool(
        name="ruff",
        # The project's own settings are left aside: the same code gets the same health everywhere.
        arguments=(
            *("check", "--isolated", "--no-cache", "--exit-zero", "--select", RUFF_RULES),
            *("--output-format", "json", "--"),
        ),
        read=read_ruff,
    ),
    Tool(
        name="bandit",
        arguments=("--format", "json", "--quiet", "--exit-zero", "--skip", BANDIT_SKIPS, "--"),
        read=read_bandit,
    ),
    Tool(name="radon", arguments=("cc", "-j", "--"), read=read_radon),
)


def _named(code: str, rule: Rule, line: int, message: str, by: str) -> Finding:
    known = ALIASES.get(code)
    if known is None:
        return unlisted(code, rule, line, message, by)
    return unlisted(known, RULES[known], line, message, by)


def _ruff_rule(code: str) -> Rule:
    if code.startswith(("PLE", "F7", "F5")):
        return Rule("correctness", "high", 10)
    if code.startswith(("B", "F8", "F6", "ASYNC")):
        return Rule("correctness", "medium", 5)
    return Rule("tidiness", "low", 3)


def _complexity(path: str, block: _RadonBlock) -> Remark:
    if block.complexity <= COMPLEX:
        return Remark(path, complexity=block.complexity)
    name = f"{block.classname}.{block.name}" if block.classname else block.name
    rule = "very-complex-function" if block.complexity > VERY_COMPLEX else "complex-function"
    message = f"`{name}` has {block.complexity} paths"
    return Remark(path, found(rule, block.lineno, message, "radon"), block.complexity)
