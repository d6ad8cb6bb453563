"""The artifacts of a code review."""

from collections.abc import Iterator
from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict
from typing_extensions import override

Severity = Literal["high", "medium", "low"]
Category = Literal["security", "correctness", "complexity", "design", "documentation", "tidiness"]
SEVERITIES: tuple[Severity, ...] = ("high", "medium", "low")
CATEGORIES: tuple[Category, ...] = ("security", "correctness", "complexity", "design", "documentation", "tidiness")


class Record(BaseModel):
    """A value that never changes, nor does anything in it: a copy of it is itself."""

    model_config = ConfigDict(frozen=True)

    @override
    def __deepcopy__(self, memo: dict[int, object] | None = None) -> Self:
        return self


class ReviewRequest(Record):
    """Asks for the review of a directory or of one file; with `out`, the report is written there too."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    out: str | None = None
    exclude: tuple[str, ...] = ()


class Finding(Record):
    """One thing to improve, at one line."""

    rule: str
    category: Category
    severity: Severity
    line: int
    message: str
    minutes: int
    found_by: tuple[str, ...]


class FileReview(Record):
    """Everything that was found in one file."""

    path: str
    package: str
    lines: int
    findings: tuple[Finding, ...] = ()
    complexity: int = 0
    notices: tuple[str, ...] = ()


class PackageReview(Record):
    """The reviewed files of one package."""

    name: str
    files: tuple[FileReview, ...]


class Fix(Record):
    """One finding to repair, or several of one rule in one file that are repaired in one go."""

    path: str
    rule: str
    severity: Severity
    message: str
    lines: tuple[int, ...]
    points: int
    minutes: int


class Step(Record):
    """What belongs to one review. Every step names it, so that reviews in one run never mix."""

    review: str


class PlannedFile(Record):
    """A file that is to be reviewed; `path` is relative to the root of the review."""

    path: str
    package: str


class ReviewPlan(Step):
    """What a review will look at."""

    root: str
    out: str | None
    files: tuple[PlannedFile, ...]
    notices: tuple[str, ...] = ()


class FileStep(Step):
    """What belongs to one file of a review."""

    path: str


class SourceFile(FileStep):
    """One file as read; `problem` says why `text` is empty. `expected` is the number of files in the review."""

    root: str
    package: str
    expected: int
    text: str
    problem: str = ""


class FileFindings(FileStep):
    """What one analyser says about one file."""

    analyser: str
    findings: tuple[Finding, ...] = ()
    complexity: int = 0
    notices: tuple[str, ...] = ()


class ReviewedFile(Step):
    """A file that every analyser has seen, one of `expected`."""

    expected: int
    file: FileReview


class TreeReview(Step):
    """A reviewed part of the tree, which is the whole tree when it is complete."""

    expected: int
    packages: tuple[PackageReview, ...] = ()

    @property
    def files(self) -> Iterator[FileReview]:
        """Every file, package by package."""
        return (file for package in self.packages for file in package.files)

    @property
    def complete(self) -> bool:
        """True when every planned file is here."""
        return sum(len(package.files) for package in self.packages) == self.expected


class FixPlan(Step):
    """What to repair first, in this order; `score` is what a session on this plan is worth."""

    strategy: str
    score: float
    minutes: int
    fixes: tuple[Fix, ...] = ()


class Summary(Record):
    """The review in numbers; `health` goes from 0 to 100."""

    files: int
    lines: int
    health: int
    grade: str
    high: int
    medium: int
    low: int
    complexity: int


class Report(Step):
    """The result of a review."""

    root: str
    out: str | None
    reviewed_at: datetime
    summary: Summary
    packages: tuple[PackageReview, ...]
    plan: FixPlan
    notices: tuple[str, ...] = ()


class ReportFiles(Step):
    """Where a report was written."""

    json_file: str
    html_file: str
