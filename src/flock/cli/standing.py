"""Where a study stands, from its record alone, also while another process runs it."""

import datetime as dt
import sqlite3
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from flock.cli.errors import UsageError
from flock.cli.listing import lines
from flock.core.clock import SystemClock
from flock.studies.record import Attempt, is_written, reading
from flock.studies.runs import RunSpec, RunStatus

_RECENT: Final = 100  # attempts that the rate is taken from
_LAST: Final = 5  # errors shown
_MOST: Final = 20  # runs shown that run now
_INTERRUPTED: Final = "interrupted"
_ENDED: Final = (RunStatus.SUCCESS, RunStatus.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a study stands.

    `counts` has the runs by status, `interrupted` those of the failed that were stopped. `alive` says that a process
    works on what is `running`; without one these were cut off. `rate` is in runs per second, `cost` in USD. Without
    the plan, nothing is known of runs that have never begun.
    """

    study_id: str
    directory: Path
    planned: int | None
    counts: Mapping[RunStatus, int]
    interrupted: int
    attempts: int
    alive: bool
    running: Sequence[Attempt]
    rate: float | None
    cost: float
    errors: Sequence[Attempt]

    @property
    def ended(self) -> int:
        """How many runs have come to an end of their own."""
        return sum(self.counts.get(status, 0) for status in _ENDED) - self.interrupted

    @property
    def left(self) -> float | None:
        """In how many seconds the rest has ended at this rate."""
        if not (self.planned and self.rate and self.alive):
            return None
        return (self.planned - self.ended) / self.rate


def look(directory: Path, planned: Collection[str] | None = None) -> Standing:
    """Read where the study in a directory stands; `planned` has the ids of its runs.

    Raises ValidationError without a record, and UsageError for one that can't be read.
    """
    try:
        with reading(directory) as reader:
            study_id, generation = reader.get("study_id", directory.name), reader.generation
            attempts = [each for each in reader.attempts() if each.generation == generation]
            states = reader.states()
    except sqlite3.Error as error:
        raise UsageError(f"the record in {directory} can't be read: {error}") from error
    attempts = [each for each in attempts if planned is None or each.run_id in planned]
    last = {each.run_id: each for each in attempts}
    counts = Counter(each.status for each in last.values())
    if planned is not None:
        counts[RunStatus.PENDING] = len(planned) - len(last)
    running = [each for each in last.values() if each.status is RunStatus.RUNNING]
    alive = bool(running) and is_written(directory)
    return Standing(
        study_id=study_id,
        directory=directory,
        planned=None if planned is None else len(planned),
        counts={status: counts[status] for status in RunStatus if counts[status]},
        interrupted=sum(each.status_reason == _INTERRUPTED for each in last.values()),
        attempts=len(attempts),
        alive=alive,
        running=sorted(running, key=_began),
        rate=_rate(attempts, alive=alive),
        cost=sum(states[run_id].cost or 0.0 for run_id in last if run_id in states),
        errors=sorted((each for each in attempts if each.error_info), key=_moment)[-_LAST:],
    )


def to_data(standing: Standing) -> dict[str, Any]:
    """Give it as JSON data."""
    return {
        "study_id": standing.study_id,
        "output_dir": str(standing.directory),
        "planned": standing.planned,
        "counts": {status.value: count for status, count in standing.counts.items()},
        "interrupted": standing.interrupted,
        "attempts": standing.attempts,
        "alive": standing.alive,
        "running": [_data(each) for each in standing.running],
        "rate_per_s": standing.rate,
        "left_s": standing.left,
        "cost_usd": standing.cost,
        "errors": [_data(each) | {"error": each.error_info} for each in standing.errors],
    }


def show(console: Console, standing: Standing, specs: Mapping[str, RunSpec]) -> None:
    """Print it; `specs` say what the runs are about, as far as that is known."""
    said = "a process works on it" if standing.alive else "no process works on it any more"
    if not standing.running:
        said = "nothing runs"
    console.print(Text.assemble((standing.study_id, "bold"), f" in {standing.directory}: {said}"), soft_wrap=True)
    counts = ", ".join(f"{count} {status.value}" for status, count in standing.counts.items())
    stopped = f" ({standing.interrupted} of them interrupted)" if standing.interrupted else ""
    of = "" if standing.planned is None else f" of {standing.planned}"
    lines(console, [f"{standing.ended}{of} runs have ended: {counts or 'none has begun'}{stopped}"])
    lines(console, [", ".join(_totals(standing))])
    shown = [f"{_name(each, specs)}, since {each.started_at}" for each in standing.running]
    more = [f"... and {len(shown) - _MOST} more"] if len(shown) > _MOST else []
    _section(console, "running" if standing.alive else "cut off", [*shown[:_MOST], *more])
    _section(console, "last errors", [f"{_name(each, specs)}: {_first_line(each)}" for each in standing.errors])


def _totals(standing: Standing) -> list[str]:
    found = [f"{standing.attempts} attempts"]
    if standing.rate is not None:
        found.append(f"{standing.rate:.3g} runs/s")
    if standing.left is not None:
        found.append(f"about {dt.timedelta(seconds=round(standing.left))} left")
    return [*found, f"{standing.cost:.4f} USD"]


def _section(console: Console, name: str, texts: Sequence[str]) -> None:
    if texts:
        console.print(Text(f"{name}:", style="bold"))
        lines(console, [f"  {each}" for each in texts])


def _name(attempt: Attempt, specs: Mapping[str, RunSpec]) -> str:
    spec = specs.get(attempt.run_id)
    about = "" if spec is None else f" ({spec.agent_id} on {spec.problem_id}, {spec.condition_id})"
    tries = f", attempt {attempt.attempt}" if attempt.attempt > 1 else ""
    return f"{attempt.run_id}{about}{tries}"


def _data(attempt: Attempt) -> dict[str, Any]:
    return {"run_id": attempt.run_id, "attempt": attempt.attempt, "started_at": attempt.started_at}


def _first_line(attempt: Attempt) -> str:
    return (attempt.error_info or "").strip().partition("\n")[0]


def _began(attempt: Attempt) -> str:
    return attempt.started_at or ""


def _moment(attempt: Attempt) -> str:
    return attempt.ended_at or attempt.started_at or ""


def _rate(attempts: Sequence[Attempt], *, alive: bool) -> float | None:
    """Give the runs per second over those that ended last: until now where more are running."""
    times = sorted(
        (_seconds(each.ended_at), _seconds(each.started_at))
        for each in attempts
        if each.status in _ENDED and each.ended_at and each.started_at
    )[-_RECENT:]
    if not times:
        return None
    end = SystemClock().now() if alive else times[-1][0]
    took = end - min(began for _, began in times)
    return len(times) / took if took > 0 else None


def _seconds(moment: str | None) -> float:
    return 0.0 if moment is None else dt.datetime.fromisoformat(moment).timestamp()
