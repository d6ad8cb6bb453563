"""A report as one HTML page that needs nothing else."""

from collections.abc import Iterable
from html import escape
from pathlib import Path
from string import Template

from .charts import anchor, category_bars, ring, tree_map
from .model import SEVERITIES, FileReview, Finding, Fix, PackageReview, Report, ReportFiles
from .scoring import grade, health, points, summarise

_TEMPLATE = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))


def write_files(report: Report, folder: Path) -> ReportFiles:
    """Write the report as JSON and as HTML; writing it again gives the same files."""
    folder.mkdir(parents=True, exist_ok=True)
    json_file, html_file = folder / "report.json", folder / "report.html"
    json_file.write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    html_file.write_text(render_page(report), encoding="utf-8")
    return ReportFiles(review=report.review, json_file=str(json_file), html_file=str(html_file))


def render_page(report: Report) -> str:
    """Give the whole page; everything that comes from the reviewed tree is escaped."""
    return _TEMPLATE.substitute(
        name=escape(Path(report.root).name or report.root),
        root=escape(report.root),
        when=f"{report.reviewed_at:%Y-%m-%d %H:%M} UTC",
        ring=ring(report.summary),
        tiles=_tiles(report),
        notices="".join(f'<p class="notice">{escape(notice)}</p>' for notice in report.notices),
        fixes=_fixes(report),
        map=tree_map(report.packages) if report.packages else '<p class="quiet">No Python files were found.</p>',
        bars=category_bars(report.packages),
        packages="".join(map(_package, report.packages)),
    )


def _tiles(report: Report) -> str:
    summary = report.summary
    tiles = (
        ("files", f"{summary.files:,}", ""),
        ("lines", f"{summary.lines:,}", ""),
        ("high", f"{summary.high:,}", "high"),
        ("medium", f"{summary.medium:,}", "medium"),
        ("low", f"{summary.low:,}", "low"),
        ("most paths in a function", str(summary.complexity or "-"), ""),
    )
    return "".join(f'<div class="tile {kind}"><b>{value}</b><span>{name}</span></div>' for name, value, kind in tiles)


def _fixes(report: Report) -> str:
    if not report.plan.fixes:
        return '<p class="quiet">Nothing to fix. Enjoy your day.</p>'
    plan = report.plan
    items = "".join(map(_item, plan.fixes))
    chosen = f"Strategy “{escape(plan.strategy)}” won with {plan.score:g} points: about {plan.minutes} minutes of work."
    return f'<p class="quiet">{chosen}</p><ol class="fixes">{items}</ol>'


def _item(fix: Fix) -> str:
    first, *others = fix.lines
    more = f' <span class="more">also in {", ".join(map(str, others))}</span>' if others else ""
    return (
        f'<li><span class="dot {fix.severity}"></span><div><code>{escape(fix.path)}:{first}</code>'
        f"<p>{escape(fix.message)}{more}</p></div>"
        f'<span class="effort">{fix.minutes} min</span></li>'
    )


def _package(package: PackageReview) -> str:
    summary = summarise([package])
    files = sorted(package.files, key=lambda file: (-points(file.findings), file.path))
    return (
        f'<section class="package-card"><h3>{escape(package.name)}'
        f'<span class="badge {summary.grade}">{summary.grade} {summary.health}</span></h3>'
        f"{''.join(map(_file, files))}</section>"
    )


def _file(file: FileReview) -> str:
    score = health([file])
    letter = grade(score)
    facts = f"lines {file.lines:,}" + (f" · most paths {file.complexity}" if file.complexity else "")
    notices = "".join(f'<p class="notice">{escape(notice)}</p>' for notice in file.notices)
    body = notices + _findings(file.findings)
    return (
        f'<details id="{anchor(file)}"><summary><code>{escape(file.path)}</code><span class="facts">{facts}</span>'
        f'{_dots(file.findings)}<span class="badge {letter}">{letter} {score}</span></summary>{body}</details>'
    )


def _dots(findings: Iterable[Finding]) -> str:
    count = dict.fromkeys(SEVERITIES, 0)
    for finding in findings:
        count[finding.severity] += 1
    chips = "".join(f'<i class="chip {name}">{number}</i>' for name, number in count.items() if number)
    return f'<span class="chips">{chips}</span>'


def _findings(findings: tuple[Finding, ...]) -> str:
    if not findings:
        return '<p class="quiet">Nothing found.</p>'
    rows = "".join(
        f'<tr><td class="line">{one.line}</td><td><span class="dot {one.severity}"></span>{one.severity}</td>'
        f"<td>{escape(one.message)}</td><td><code>{escape(one.rule)}</code></td>"
        f'<td class="by">{escape(", ".join(one.found_by))}</td></tr>'
        for one in findings
    )
    head = "<tr><th>line</th><th>severity</th><th>finding</th><th>rule</th><th>found by</th></tr>"
    return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"
