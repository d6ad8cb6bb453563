"""What `flock run` says at the end: a summary to read, or one JSON report."""

import json
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.text import Text

from flock.cli.errors import INTERRUPTED
from flock.cli.session import Outcome
from flock.core.clock import SystemClock
from flock.model.artifact import Artifact
from flock.model.evaluation import Failure
from flock.model.events import Waiting

_MOST = 20  # lines per section
_WIDTH = 200  # characters of a payload

IDLE, FAILED, NOT_IDLE = 0, 1, 3


def status_of(outcome: Outcome) -> int:
    """Give the exit status: interrupted, then failed, then not idle; 0 when it is none of these."""
    if outcome.end == "interrupted":
        return INTERRUPTED
    if outcome.report.failed or outcome.report.failures:
        return FAILED
    return IDLE if outcome.end == "idle" else NOT_IDLE


def to_json(target: str, outcome: Outcome) -> str:
    """Give the report as one JSON object on one line."""
    report = outcome.report
    data: dict[str, Any] = {
        "target": target,
        "end": outcome.end,
        "exit_status": status_of(outcome),
        "idle": report.idle,
        "published": outcome.published,
        "succeeded": report.succeeded,
        "failed": report.failed,
        "cancelled": report.cancelled,
        "duration": round(report.duration, 6),
        "waiting": [_waiting_data(each) for each in report.waiting],
        "failures": [failure.model_dump(mode="json") for failure in report.failures],
        "results": [json.loads(artifact.to_json()) for artifact in outcome.results],
        "notes": list(outcome.notes),
    }
    return json.dumps(data)


def show(console: Console, outcome: Outcome) -> None:
    """Print the summary: how it ended, then what failed, what waits, what was made, and notes."""
    report = outcome.report
    heading = {
        "idle": f"idle after {report.duration:.1f} s",
        "timeout": f"not idle after {report.duration:.1f} s",
        "interrupted": f"interrupted after {report.duration:.1f} s",
    }[outcome.end]
    style = {0: "bold green", INTERRUPTED: "bold yellow"}.get(status_of(outcome), "bold red")
    counts = f"{report.succeeded} succeeded, {report.failed} failed, {report.cancelled} cancelled"
    _print(console, Text.assemble((heading, style), f": {counts}"))
    now = SystemClock().now()
    _section(console, "failures", [_failure_line(failure) for failure in report.failures])
    _section(console, "waiting", [_waiting_line(each, now) for each in report.waiting])
    _section(console, "results", [_result_line(artifact) for artifact in outcome.results])
    _section(console, "notes", outcome.notes)


def _section(console: Console, name: str, lines: list[str] | tuple[str, ...]) -> None:
    if not lines:
        return
    _print(console, Text(f"{name} ({len(lines)})", style="bold"))
    for line in lines[:_MOST]:
        _print(console, Text(f"  {line}"))
    if len(lines) > _MOST:
        _print(console, Text(f"  ... and {len(lines) - _MOST} more: --json lists all"))


def _print(console: Console, text: Text) -> None:
    console.print(text, soft_wrap=True)


def _failure_line(failure: Failure) -> str:
    tries = f" (after {failure.attempts} attempts)" if failure.attempts > 1 else ""
    return f"{_one_line(str(failure))}{tries}"


def _waiting_line(waiting: Waiting, now: float) -> str:
    due = "" if waiting.due is None else f", due in {max(0.0, waiting.due - now):.0f} s"
    count = len(waiting.artifacts)
    held = "" if not count else f" ({count} artifact{'s' if count > 1 else ''})"
    detail = "" if waiting.reason in {"ready", "running", "retry"} else f": {waiting.detail}"
    return f"{waiting.agent}: {waiting.reason}{detail}{held}{due}"


def _waiting_data(waiting: Waiting) -> dict[str, Any]:
    return {
        "reason": waiting.reason, "agent": waiting.agent, "run": waiting.run, "due": waiting.due,
        "artifacts": list(waiting.artifacts), "detail": waiting.detail,
    }  # fmt: skip


def _result_line(artifact: Artifact) -> str:
    text = artifact.record.snapshot.model_dump_json(by_alias=True)
    shown = text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."
    return f"{artifact.type} by {artifact.produced_by}: {shown}"


def _one_line(text: str) -> str:
    return " / ".join(_parts(text))


def _parts(text: str) -> Iterator[str]:
    return (line.strip() for line in text.splitlines() if line.strip())
