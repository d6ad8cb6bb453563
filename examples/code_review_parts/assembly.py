"""Putting results together: the findings of a file, the files of a package, the parts of a tree."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from .model import (
    SEVERITIES,
    FileFindings,
    FileReview,
    Finding,
    PackageReview,
    ReviewedFile,
    SourceFile,
    TreeReview,
)


def review_file(source: SourceFile, results: list[FileFindings]) -> ReviewedFile:
    """Join what all analysers say about a file; what several of them found is named once."""
    review = FileReview(
        path=source.path,
        package=source.package,
        lines=len(source.text.splitlines()),
        findings=unite(finding for result in results for finding in result.findings),
        complexity=max((result.complexity for result in results), default=0),
        notices=tuple(sorted(notice for result in results for notice in result.notices)),
    )
    return ReviewedFile(review=source.review, expected=source.expected, file=review)


def unite(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Remove duplicates of one rule at one line, remembering who agreed; the heaviest come first."""
    same: defaultdict[tuple[str, int], list[Finding]] = defaultdict(list)
    for finding in findings:
        same[finding.rule, finding.line].append(finding)
    united = [_agreed(group) for group in same.values()]
    return tuple(sorted(united, key=lambda one: (SEVERITIES.index(one.severity), one.line, one.rule)))


def group_files(reviewed: list[ReviewedFile]) -> list[TreeReview]:
    """Turn a batch of files into parts of trees, one for each review that is in the batch."""
    expected: dict[str, int] = {}
    files: defaultdict[str, list[FileReview]] = defaultdict(list)
    for one in reviewed:
        expected[one.review] = one.expected
        files[one.review].append(one.file)
    return [
        TreeReview(review=review, expected=expected[review], packages=_packages(files[review])) for review in expected
    ]


def merge_parts(parts: list[TreeReview]) -> TreeReview:
    """Make one part of several of the same review, the same in whatever order they come."""
    files = [file for part in parts for file in part.files]
    return TreeReview(review=parts[0].review, expected=parts[0].expected, packages=_packages(files))


def _agreed(group: Sequence[Finding]) -> Finding:
    first = min(group, key=lambda finding: (SEVERITIES.index(finding.severity), -len(finding.message), finding.message))
    found_by = {name for finding in group for name in finding.found_by}
    return first.model_copy(update={"found_by": tuple(sorted(found_by))})


def _packages(files: Iterable[FileReview]) -> tuple[PackageReview, ...]:
    by_name: defaultdict[str, list[FileReview]] = defaultdict(list)
    for file in sorted(files, key=lambda file: file.path):
        by_name[file.package].append(file)
    return tuple(PackageReview(name=name, files=tuple(by_name[name])) for name in sorted(by_name))
