"""From findings to numbers, and the choice of what to repair first."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

from .model import FileReview, Finding, Fix, FixPlan, PackageReview, Severity, Summary, TreeReview

POINTS: dict[Severity, int] = {"high": 10, "medium": 3, "low": 1}
GRADES = ((90, "A"), (75, "B"), (60, "C"), (40, "D"), (0, "F"))
SESSION = 240
SWITCH = 5
QUICK = 10
LONGEST_PLAN = 10

Strategy = Callable[[Sequence[Fix]], list[Fix]]


def points(findings: Iterable[Finding]) -> int:
    """Give the weight of findings: 10 for high, 3 for medium, 1 for low."""
    return sum(POINTS[finding.severity] for finding in findings)


def health(files: Iterable[FileReview]) -> int:
    """100 without findings, 50 at ten points per hundred lines: 100 / (1 + density / 10)."""
    files = tuple(files)
    lost = sum(points(file.findings) for file in files)
    # A tiny file with one flaw is not a ruin: fewer than 50 lines count as 50.
    hundreds = max(sum(file.lines for file in files), 50) / 100
    return round(100 / (1 + lost / hundreds / 10))


def grade(score: int) -> str:
    """Give the letter for a health: A from 90, B from 75, C from 60, D from 40, else F."""
    return next(letter for least, letter in GRADES if score >= least)


def summarise(packages: Iterable[PackageReview]) -> Summary:
    """Give the numbers of a review."""
    files = [file for package in packages for file in package.files]
    count = Counter(finding.severity for file in files for finding in file.findings)
    score = health(files)
    return Summary(
        files=len(files),
        lines=sum(file.lines for file in files),
        health=score,
        grade=grade(score),
        high=count["high"],
        medium=count["medium"],
        low=count["low"],
        complexity=max((file.complexity for file in files), default=0),
    )


def open_fixes(tree: TreeReview) -> list[Fix]:
    """Everything to repair; quick repairs of a rule in a file go together, each repeat in a quarter of the time."""
    fixes: list[Fix] = []
    for file in tree.files:
        groups: defaultdict[tuple[str, int], list[Finding]] = defaultdict(list)
        for finding in file.findings:
            alone = finding.line if finding.minutes > QUICK else 0
            groups[finding.rule, alone].append(finding)
        fixes.extend(_fix(file.path, group) for group in groups.values())
    return fixes


def worst_first(fixes: Sequence[Fix]) -> list[Fix]:
    """Put the heaviest kind of finding first."""
    return sorted(fixes, key=lambda fix: (-POINTS[fix.severity], -fix.points, fix.minutes, *_place(fix)))


def quick_wins(fixes: Sequence[Fix]) -> list[Fix]:
    """Put the most points per minute first."""
    return sorted(fixes, key=lambda fix: (-fix.points / fix.minutes, *_place(fix)))


def hot_spots(fixes: Sequence[Fix]) -> list[Fix]:
    """File by file, the file with the most points per minute first, quick wins first inside it."""
    by_file: defaultdict[str, list[Fix]] = defaultdict(list)
    for fix in fixes:
        by_file[fix.path].append(fix)

    def gain(group: Sequence[Fix]) -> float:
        return sum(fix.points for fix in group) / (SWITCH + sum(fix.minutes for fix in group))

    groups = sorted(by_file.values(), key=lambda group: (-gain(group), group[0].path))
    return [fix for group in groups for fix in quick_wins(group)]


STRATEGIES: tuple[tuple[str, Strategy], ...] = (
    ("worst first", worst_first),
    ("quick wins", quick_wins),
    ("hot spots", hot_spots),
)


def choose_fixes(tree: TreeReview, name: str, strategy: Strategy) -> FixPlan:
    """One candidate: the order of a strategy, cut to what fits one session of four hours."""
    fixes: list[Fix] = []
    clock = 0
    for fix in strategy(open_fixes(tree)):
        end = clock + _cost(fix, fixes)
        if end <= SESSION:
            fixes.append(fix)
            clock = end
        if len(fixes) == LONGEST_PLAN:
            break
    return FixPlan(review=tree.review, strategy=name, score=worth(fixes), minutes=clock, fixes=tuple(fixes))


def worth(fixes: Sequence[Fix]) -> float:
    """Points removed times the share of the session that still enjoys them; opening another file costs 5 minutes."""
    total = 0.0
    clock = 0
    for index, fix in enumerate(fixes):
        clock += _cost(fix, fixes[:index])
        total += fix.points * max(SESSION - clock, 0) / SESSION
    return round(total, 2)


def _fix(path: str, group: Sequence[Finding]) -> Fix:
    first = group[0]
    return Fix(
        path=path,
        rule=first.rule,
        severity=first.severity,
        message=first.message,
        lines=tuple(finding.line for finding in group),
        points=points(group),
        minutes=first.minutes + (len(group) - 1) * -(-first.minutes // 4),
    )


def _cost(fix: Fix, before: Sequence[Fix]) -> int:
    return fix.minutes + (0 if before and before[-1].path == fix.path else SWITCH)


def _place(fix: Fix) -> tuple[str, int, str]:
    return fix.path, fix.lines[0], fix.rule
