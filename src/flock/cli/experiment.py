"""How `flock study` shows a plan, and how its runs ended: to read, or as JSON."""

from collections import Counter
from math import isnan
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flock.cli.listing import lines
from flock.model.errors import FlockError
from flock.studies.plan import Plan
from flock.studies.results import StudyResults
from flock.studies.runs import RunStatus

_MOST: Final = 5  # kinds of errors shown


def plan_data(plan: Plan) -> dict[str, Any]:
    """Give a plan as JSON data."""
    runs = {each.run_id: each for each in plan.runs}
    return {
        "study_id": plan.study.study_id,
        "output_dir": str(plan.study.directory),
        "errors": plan.errors,
        "planned": len(runs),
        "conditions": sum(each.admissible for each in plan.conditions),
        "problems": list(dict.fromkeys(each.problem_id for each in plan.runs)),
        "agents": list(dict.fromkeys(each.agent_id for each in plan.runs)),
        "replicates": max((each.replicate for each in plan.runs), default=0),
        "estimated_cost_usd": plan.estimated_cost,
        "order": [
            {
                "run_id": each.run_id, "agent": each.agent_id, "problem": each.problem_id,
                "condition": each.condition_id, "replicate": each.replicate, "seed": each.seed,
            }
            for each in map(runs.__getitem__, plan.order)
        ],
    }  # fmt: skip


def status_of(results: StudyResults) -> int:
    """Give the exit status: 0 when all runs have succeeded, else 1."""
    return 0 if all(each.status is RunStatus.SUCCESS for each in results) else 1


def results_data(results: StudyResults) -> dict[str, Any]:
    """Give as JSON data how the runs ended."""
    plan = results.plan
    return {
        "study_id": plan.study.study_id,
        "output_dir": str(plan.study.directory),
        "end": "complete",
        "exit_status": status_of(results),
        "planned": len(plan.runs),
        "counts": Counter(each.status.value for each in results),
        "cost_usd": sum(each.cost for each in results),
        "failures": [{"error": text, "count": count} for text, count in _errors(results)],
    }


def show_results(console: Console, results: StudyResults) -> None:
    """Print how the runs ended: counts, the summary, where the files are, and what failed."""
    plan, errors = results.plan, _errors(results)
    counts = Counter(each.status.value for each in results)
    said = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    style = "bold red" if status_of(results) else "bold green"
    heading(console, f"{plan.study.study_id}: {said} of {len(plan.runs)} runs", style)
    _summary(console, results)
    lines(console, [f"files: {plan.study.directory}"])
    if errors:
        more = [f"  ... and {len(errors) - _MOST} other errors"] if len(errors) > _MOST else []
        lines(console, ["failed:", *(f"  {count} x {text}" for text, count in errors[:_MOST]), *more])


def heading(console: Console, text: str, style: str) -> None:
    """Print a line in a style."""
    console.print(Text(text, style=style), soft_wrap=True)


def _errors(results: StudyResults) -> list[tuple[str, int]]:
    """Count the errors by their first lines, the most frequent first."""
    return Counter((each.error_info or "").strip().partition("\n")[0] for each in results.failures).most_common()


def _summary(console: Console, results: StudyResults) -> None:
    """Print the summary as a table where the library for tables is there."""
    try:
        frame: Any = results.summary()
    except (FlockError, ImportError) as error:
        lines(console, [f"no summary: {error}"])
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in frame.columns:
        table.add_column(str(name))
    for row in frame.itertuples(index=False):
        table.add_row(*map(_cell, row))
    console.print(table)


def _cell(value: object) -> Text:
    if isinstance(value, float):
        return Text("" if isnan(value) else f"{value:.4g}")
    return Text(str(value))
