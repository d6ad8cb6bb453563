"""The report of a study: what was asked, how, what came out, what failed and what it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, get_args

from flock.studies.analysis.comparisons import comparison_rows
from flock.studies.analysis.documents import Block, Bullets, Figure, Heading, Paragraph, Table, html, markdown
from flock.studies.analysis.measurements import AGENT, Measurements, number_of
from flock.studies.analysis.methods import design_paragraph, runs_paragraph, statistics_paragraph, versions_paragraph
from flock.studies.analysis.plots import figure_of, svg_of
from flock.studies.analysis.rounding import chance, count, said, with_interval
from flock.studies.analysis.statistics import Adjustment
from flock.studies.analysis.tables import counts_of, pass_at_k_rows, summary_rows
from flock.studies.design.hypotheses import Hypothesis

_CORRECTION: Final[Adjustment] = "holm"
_ROWS: Final = 100  # of a table; the files have all
_LENGTH: Final = 300  # characters of an error
_NUMBERS: Final = frozenset({
    "n", "pairs or runs", "failed", "mean", "95 % interval", "difference", "p", "p adjusted", "effect", "missing",
    "unpaired", "k", "problems", "left out", "pass@k", "runs", "cost (USD)", "cost per run (USD)", "input tokens",
    "output tokens", "mean latency (s)",
})  # fmt: skip


class Compared(NamedTuple):
    """The comparisons of one outcome along one name."""

    by: str
    outcome: str
    rows: list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What came out of a study."""

    by: list[str]
    summary: list[dict[str, Any]]
    compared: list[Compared]
    passes: list[dict[str, Any]]
    correction: Adjustment
    svg: str | None = None
    notes: list[str] = field(default_factory=list[str])


def html_of(measured: Measurements) -> str:
    """Give the report as one HTML page."""
    return html(measured.plan.study.title, _blocks(measured, _findings(measured)))


def markdown_of(measured: Measurements, picture: str | None = None) -> tuple[str, str | None]:
    """Give the report as Markdown with its figure in the file `picture`, and that figure as SVG if there is one."""
    found = _findings(measured)
    return markdown(measured.plan.study.title, _blocks(measured, found), picture), found.svg


def _findings(measured: Measurements) -> Findings:
    by, outcomes = measured.readable(), measured.outcomes()
    correction = _correction(measured)
    compared = [
        Compared(name, outcome, comparison_rows(measured, outcome, baseline=baseline, by=name, correction=correction))
        for name, baseline in _baselines(measured)
        for outcome in outcomes
    ]
    left = [each.name for each in measured.plan.study.outcomes if each.name not in outcomes]
    notes = [f"Outcomes that are no numbers, and not summarized: {', '.join(left)}."] if left else []
    if len(by) < len(measured.by(None)):
        notes.append("The factors vary over more combinations than a table here can show: the summary is by agent.")
    return Findings(
        by=by,
        summary=summary_rows(measured, by, outcomes),
        compared=compared,
        passes=[row for outcome in outcomes for row in _passes(measured, outcome, by)],
        correction=correction,
        svg=svg_of(figure_of(measured, by=by)) if outcomes else None,
        notes=notes,
    )


def _correction(measured: Measurements) -> Adjustment:
    """Give the correction that an analysis plan lays down, else Holm's."""
    laid_down = {each.multiple_comparison_policy.lower() for each in measured.plan.study.analysis_plans} - {"none"}
    return next((each for each in get_args(Adjustment) if each in laid_down), _CORRECTION)


def _baselines(measured: Measurements) -> list[tuple[str, Any]]:
    """Give what is compared with what: agents with the first one, factors with the level that is marked for it."""
    agents = list(measured.levels(AGENT).values())
    found: list[tuple[str, Any]] = [(AGENT, agents[0])] if len(agents) > 1 else []
    for factor in measured.plan.study.factors:
        column = measured.factors.get(factor.name)
        for level in factor.levels:
            marked = level.metadata.get("is_baseline") or level.metadata.get("role") == "baseline"
            if marked and column in measured.varied:
                found.append((column, level.value))
                break
    return found


def _passes(measured: Measurements, outcome: str, by: Sequence[str]) -> list[dict[str, Any]]:
    """Give pass@1 and pass@k for as many replicates as every problem has, of an outcome that is 0 or 1."""
    numbers = measured.numbers(outcome)
    if not measured.is_proportion(outcome):
        return []
    several = [n for group in measured.groups(by) for n, _ in counts_of(measured, numbers, group.places).values() if n]
    most = min(several, default=0)
    return [row for k in (1, most) for row in pass_at_k_rows(measured, k, outcome, by)] if most > 1 else []


# ---- sections


def _blocks(measured: Measurements, found: Findings) -> list[Block]:
    return [
        *_asked(measured),
        *_how(measured, found),
        *_came_out(measured, found),
        *_failed(measured),
        *_cost(measured),
    ]


def _asked(measured: Measurements) -> list[Block]:
    study = measured.plan.study
    texts = [study.description, study.rationale, f"Authors: {', '.join(study.authors)}" if study.authors else ""]
    blocks: list[Block] = [Heading("What was asked"), *(Paragraph(each) for each in texts if each.strip())]
    if study.hypotheses:
        blocks.append(Bullets([_claim(each) for each in study.hypotheses]))
    if len(blocks) == 1:
        blocks.append(Paragraph(f"The study {study.study_id} has no description and no hypotheses."))
    return blocks


def _claim(claim: Hypothesis) -> str:
    least = claim.minimum_effect_of_interest
    more = "" if least is None else f", minimum effect of interest {said(float(least))}"
    return f"{claim.label} ({claim.hypothesis_id}): {claim.statement} (expected: {claim.direction.value}{more})"


def _how(measured: Measurements, found: Findings) -> list[Block]:
    compared = [row for each in found.compared for row in each.rows]
    statistics = statistics_paragraph(
        [row["method"] for row in [*found.summary, *compared, *found.passes]],
        [row["effect_name"] for row in compared],
        passes=bool(found.passes),
        correction=found.correction if compared else None,
    )
    texts = [
        design_paragraph(measured),
        runs_paragraph(measured),
        statistics,
        versions_paragraph(measured.plan.study.directory),
    ]
    return [Heading("How"), *(Paragraph(each) for each in texts if each)]


def _came_out(measured: Measurements, found: Findings) -> list[Block]:
    blocks: list[Block] = [Heading("What came out"), *(Paragraph(each) for each in found.notes)]
    if not found.summary:
        return [*blocks, Paragraph("No run has given a number.")]
    blocks += _table("Summary", [*found.by, "outcome", "n", "failed", "mean", "95 % interval", "method"], [
        {**row, **_interval(row, "mean"), "outcome": _with_unit(measured, row)} for row in found.summary
    ])  # fmt: skip
    if found.svg is not None:
        primary = measured.primary()
        blocks.append(Figure(found.svg, f"{primary}: each run, and the mean of each group with its 95 % interval"))
    for each in found.compared:
        blocks += _comparison(each)
    if not found.compared:
        blocks.append(Paragraph("There is one agent and no level marked as baseline, so nothing is compared."))
    if found.passes:
        columns = [*found.by, "outcome", "k", "problems", "left out", "pass@k", "95 % interval"]
        blocks += _table("pass@k", columns, [
            {**row, **_interval(row, "pass_at_k", "pass@k"), "left out": row["left_out"]} for row in found.passes
        ])  # fmt: skip
    return blocks


def _comparison(each: Compared) -> list[Block]:
    columns = [
        each.by, "baseline", "pairs or runs", "difference", "95 % interval", "p", "p adjusted", "effect", "effect size",
        "missing", "unpaired", "method",
    ]  # fmt: skip
    rows = [
        {
            **row,
            **_interval(row, "difference"),
            each.by: row["what"],
            "pairs or runs": row["n"],
            "p": chance(row["p_value"]),
            "p adjusted": chance(row["p_adjusted"]),
            "effect size": row["effect_name"],
        }
        for row in each.rows
    ]
    blocks = _table(f"{each.outcome}, compared by {each.by}", columns, rows)
    left = {"without a value": "missing", "with a value but no partner": "unpaired"}
    counts = {what: sum(row[name] for row in each.rows) for what, name in left.items()}
    if told := [f"{count(number, 'run')} {what}" for what, number in counts.items() if number]:
        text = f"Left out of these comparisons: {' and '.join(told)}; runs of the baseline count in each row."
        blocks.append(Paragraph(text))
    return blocks


def _failed(measured: Measurements) -> list[Block]:
    results = [each.result for each in measured.rows if each.result is not None and each.failed]
    blocks: list[Block] = [Heading("What failed")]
    if not results:
        return [*blocks, Paragraph("No run failed.")]
    errors = Counter(_shortened(each.error_info or each.status_reason or "unknown") for each in results)
    share = f"{count(len(results), 'run')} of {len(measured.rows)} failed."
    rows = [{"runs": number, "error": error} for error, number in errors.most_common()]
    return [*blocks, Paragraph(share), *_table("Errors", ["runs", "error"], rows)]


def _cost(measured: Measurements) -> list[Block]:
    columns = [AGENT, "runs", "cost (USD)", "cost per run (USD)", "input tokens", "output tokens", "mean latency (s)"]
    rows: list[dict[str, Any]] = []
    for group in measured.groups([AGENT]):
        results = [row.result for place in group.places if (row := measured.rows[place]).succeeded and row.result]
        cost = sum(each.cost for each in results)
        latencies = [each.latency for each in results]
        tokens = [sum(number_of(each.metrics.get(name)) or 0.0 for each in results) for name in _TOKENS]
        several = len(results) or float("nan")
        values = [len(results), cost, cost / several, *map(round, tokens), sum(latencies) / several]
        rows.append({**group.levels, **dict(zip(columns[1:], values, strict=True))})
    return [Heading("Cost and tokens"), *_table("Runs that succeeded", columns, rows)]


_TOKENS: Final = ("input_tokens", "output_tokens")


def _table(caption: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[Block]:
    shown = [[said(row[name]) for name in columns] for row in rows[:_ROWS]]
    table = Table(caption, columns, shown, _NUMBERS)
    more = len(rows) - len(shown)
    return [table, *([Paragraph(f"{count(more, 'more row')}: not shown here.")] if more else [])]


def _interval(row: Mapping[str, Any], name: str, column: str | None = None) -> dict[str, str]:
    value, interval = with_interval(row[name], row["low"], row["high"])
    return {column or name: value, "95 % interval": interval}


def _with_unit(measured: Measurements, row: Mapping[str, Any]) -> str:
    unit = measured.unit(row["outcome"])
    return f"{row['outcome']} [{unit}]" if unit else row["outcome"]


def _shortened(text: str) -> str:
    return text if len(text) <= _LENGTH else f"{text[: _LENGTH - 1]}…"
