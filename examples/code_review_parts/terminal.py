"""A report for the terminal."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from .model import PackageReview, Report, Severity
from .scoring import summarise

_COLOURS: dict[Severity, str] = {"high": "red", "medium": "yellow", "low": "blue"}
_GRADES = {"A": "green", "B": "green", "C": "yellow", "D": "dark_orange", "F": "red"}


def show_report(report: Report, console: Console) -> None:
    """Print the packages, the fixes to begin with, the notices and the health."""
    summary = report.summary
    console.print(_packages(report))
    if report.plan.fixes:
        console.print(_fixes(report))
    for notice in report.notices:
        console.print(f"[yellow]![/] {escape(notice)}", soft_wrap=True)
    console.print(
        f"[bold]{escape(report.root)}[/]: {summary.files} files, {summary.lines:,} lines, "
        f"[red]{summary.high} high[/], [yellow]{summary.medium} medium[/], [blue]{summary.low} low[/], "
        f"health [bold]{summary.health}[/] ([bold {_GRADES[summary.grade]}]{summary.grade}[/])",
        soft_wrap=True,
        highlight=False,
    )


def _packages(report: Report) -> Table:
    table = Table(title="Packages", title_justify="left")
    table.add_column("package", overflow="fold", min_width=14)
    for name in ("files", "lines", "high", "medium", "low", "paths", "health"):
        table.add_column(name, justify="right")
    for package in report.packages:
        table.add_row(*_row(package))
    return table


def _row(package: PackageReview) -> list[Text]:
    summary = summarise([package])
    return [
        Text(package.name),
        Text(str(summary.files)),
        Text(f"{summary.lines:,}"),
        Text(str(summary.high or "-"), style="red" if summary.high else "dim"),
        Text(str(summary.medium or "-"), style="yellow" if summary.medium else "dim"),
        Text(str(summary.low or "-"), style="blue" if summary.low else "dim"),
        Text(str(summary.complexity or "-")),
        Text.assemble(f"{summary.health} ", (summary.grade, f"bold {_GRADES[summary.grade]}")),
    ]


def _fixes(report: Report) -> Table:
    plan = report.plan
    table = Table(title=f"Fix first: {plan.strategy}, about {plan.minutes} minutes", title_justify="left")
    table.add_column("", justify="right")
    table.add_column("where", overflow="fold")
    table.add_column("what", overflow="fold")
    table.add_column("minutes", justify="right")
    for number, fix in enumerate(plan.fixes, 1):
        first, *others = fix.lines
        more = f" (and {len(others)} more)" if others else ""
        what = Text.assemble((fix.rule, _COLOURS[fix.severity]), f" {fix.message}{more}")
        table.add_row(str(number), Text(f"{fix.path}:{first}"), what, str(fix.minutes))
    return table
