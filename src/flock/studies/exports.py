"""The files that a study leaves for people and for other programs."""

from __future__ import annotations

import csv
import io
import json
import platform
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

from flock.studies.agents import AUTO
from flock.studies.definition import SCHEMA_VERSION, StudyDefinition, yaml_text
from flock.studies.design.factors import Condition
from flock.studies.files import part_of, replace_text
from flock.studies.moments import iso_now
from flock.studies.runs import Observation, RunResult, RunStatus
from flock.studies.stable import hash_identifier, stable_json_dumps, to_jsonable

RUNS: Final = (
    "study_id", "condition_id", "run_id", "problem_id", "problem_family", "agent_id", "agent_kind", "pattern_name",
    "model_name", "seed", "replicate", "status", "start_time", "end_time", "latency_s", "input_tokens", "output_tokens",
    "cost_usd", "primary_outcome", "trace_path", "manifest_path", "error_info",
)  # fmt: skip
CONDITIONS: Final = ("study_id", "condition_id", "admissible", "constraint_messages", "assignment_meta_json")
EVENTS: Final = (
    "timestamp", "record_id", "text", "session_id", "actor_id", "event_type", "meta_json", "run_id", "level",
    "study_id", "condition_id", "trial_id", "step_id", "tool_name", "evaluation_id",
)  # fmt: skip
EVALUATIONS: Final = (
    "run_id", "evaluator_id", "metric_name", "metric_value", "metric_unit", "aggregation_level", "notes_json",
)  # fmt: skip
SQLITE: Final = "study.sqlite"
_PACKAGES: Final = ("flock-board", "pydantic", "numpy", "scipy", "pandas", "pyDOE3")
_UNKNOWN: Final = "unknown"

Table = tuple[Sequence[str], Sequence[Sequence[Any]]]  # its columns, and its rows


def export_canonical_artifacts(
    *,
    study: StudyDefinition,
    conditions: Sequence[Condition],
    run_results: Sequence[RunResult],
    output_dir: str | Path | None = None,
    include_sqlite: bool = False,
) -> dict[str, Path]:
    """Write the files of a study and give their paths by name; each is replaced as a whole.

    `study.sqlite`, when asked for, has the four tables once more.
    """
    folder = Path(output_dir) if output_dir is not None else study.directory
    tables = tables_of(study, conditions, run_results, folder / "manifest.json")
    texts = {
        "study.yaml": yaml_text(study.to_dict()),
        "manifest.json": _pretty(_manifest(study, run_results)),
        "hypotheses.json": _pretty(to_jsonable(study.hypotheses)),
        "analysis_plan.json": _pretty(to_jsonable(study.analysis_plans)),
        **{f"{name}.csv": csv_text(table) for name, table in tables.items()},
    }
    paths = {name: replace_text(folder / name, text) for name, text in texts.items()}
    if include_sqlite:
        paths[SQLITE] = _write_sqlite(folder / SQLITE, tables)
    return paths


def tables_of(
    study: StudyDefinition, conditions: Sequence[Condition], results: Sequence[RunResult], manifest: Path
) -> dict[str, Table]:
    """Give the tables that a study is exported as, by name."""
    return {
        "conditions": _conditions(study, conditions),
        "runs": (RUNS, [_run(study, each, manifest) for each in results]),
        "events": (EVENTS, [row for each in results for row in _events(each)]),
        "evaluations": (EVALUATIONS, [row for each in results for row in _evaluations(study, each)]),
    }


def csv_text(table: Table) -> str:
    """Give a table as CSV with a header; None is empty."""
    columns, rows = table
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return file.getvalue()


def _conditions(study: StudyDefinition, conditions: Sequence[Condition]) -> Table:
    factors = dict.fromkeys(name for each in conditions for name in each.factor_assignments)
    blocks = dict.fromkeys(name for each in conditions for name in each.block_assignments)
    rows = [
        (
            study.study_id,
            each.condition_id,
            each.admissible,
            stable_json_dumps(each.constraint_messages),
            stable_json_dumps(each.metadata),
            *(_cell(each.factor_assignments.get(name)) for name in factors),
            *(_cell(each.block_assignments.get(name)) for name in blocks),
        )
        for each in conditions
    ]
    return (*CONDITIONS, *factors, *(f"block_{name}" for name in blocks)), rows


def _cell(value: object) -> object:
    return value if value is None or isinstance(value, str | int | float | bool) else stable_json_dumps(value)


def _run(study: StudyDefinition, result: RunResult, manifest: Path) -> tuple[Any, ...]:
    spec, metrics = result.run_spec, result.metrics
    told: Mapping[str, Any] = {} if spec is None else spec.execution_metadata
    return (
        study.study_id,
        "" if spec is None else spec.condition_id,
        result.run_id,
        "" if spec is None else spec.problem_id,
        told.get("problem_family", _UNKNOWN),
        "" if spec is None else spec.agent_id,
        told.get("agent_kind", _UNKNOWN),
        told.get("pattern_name", _UNKNOWN),
        told.get("model_name", _UNKNOWN),
        None if spec is None else spec.seed,
        None if spec is None else spec.replicate,
        result.status.value,
        result.started_at,
        result.ended_at,
        result.latency,
        metrics.get("input_tokens", 0),
        metrics.get("output_tokens", 0),
        result.cost,
        _plain(metrics.get("primary_outcome")),
        result.trace_refs[0] if result.trace_refs else "",
        str(manifest),
        result.error_info,
    )


def _events(result: RunResult) -> Iterable[tuple[Any, ...]]:
    for each in result.observations or _failed(result):
        meta = _AUTO if each.meta_json == AUTO else stable_json_dumps(each.meta_json)
        level, run_id = each.level.value, each.run_id or result.run_id
        yield (*(getattr(each, name) for name in EVENTS[:6]), meta, run_id, level, *_rest(each))


_AUTO: Final = stable_json_dumps(AUTO)
_rest = attrgetter(*EVENTS[9:])


def _failed(result: RunResult) -> list[Observation]:
    """Give the one event of a run that ended without any of its own."""
    if result.status is not RunStatus.FAILED:
        return []
    spec = result.run_spec
    return [
        Observation(
            timestamp=result.ended_at or result.started_at or iso_now(),
            record_id=hash_identifier("evt", {"run_id": result.run_id, "index": 0}),
            text=result.error_info or "",
            session_id=result.run_id,
            actor_id="agent",
            event_type="run_failed",
            study_id=None if spec is None else spec.study_id,
            run_id=result.run_id,
            condition_id=None if spec is None else spec.condition_id,
        )
    ]


def _evaluations(study: StudyDefinition, result: RunResult) -> Iterable[tuple[Any, ...]]:
    """Give a run's evaluations, and its own metrics that are outcomes of the study."""
    rows = result.evaluator_outputs
    evaluated = {row.get("metric_name") for row in rows}
    for row in rows:
        notes: object = row.get("notes_json") or {}
        yield (
            result.run_id,
            *(_plain(row.get(name)) for name in EVALUATIONS[1:-1]),
            notes if isinstance(notes, str) else stable_json_dumps(notes) if notes else "{}",
        )
    for each in study.outcomes:
        value = result.metrics.get(each.name)
        if each.name not in evaluated and isinstance(value, int | float):
            yield (result.run_id, "agent", each.name, _plain(value), "unitless", "run", "{}")


def _plain(value: object) -> object:
    """Give truth as the number that readers of numbers expect."""
    return int(value) if isinstance(value, bool) else value


def _manifest(study: StudyDefinition, results: Sequence[RunResult]) -> dict[str, Any]:
    models = {str(each.provenance_info["model_name"]) for each in results if each.provenance_info.get("model_name")}
    return {
        "schema_version": SCHEMA_VERSION,
        "study_id": study.study_id,
        "generated_at": iso_now(),
        "status_counts": dict(sorted(Counter(each.status.value for each in results).items())),
        "model_ids": sorted(models),
        "run_count": len(results),
        "provenance": study.provenance_metadata or _provenance(),
    }


@cache
def _provenance() -> dict[str, Any]:
    """Say what of this machine and its programs results may hang on."""
    return {
        "captured_at": iso_now(),
        "platform": platform.platform(),
        "python_version": platform.python_version(),
        "package_versions": {name: _version(name) for name in _PACKAGES},
        "git_sha": _git_sha(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not-installed"


def _git_sha() -> str | None:
    """Give the commit that is checked out in the working directory, if there is one."""
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, timeout=5)  # noqa: S607
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None


def _pretty(data: object) -> str:
    return json.dumps(data, indent=2, sort_keys=True) + "\n"


def _write_sqlite(path: Path, tables: Mapping[str, Table]) -> Path:
    part = part_of(path)
    part.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(part)) as db, db:
            for name, (columns, rows) in tables.items():
                names = ", ".join('"' + column.replace('"', '""') + '"' for column in columns)
                marks = ", ".join("?" for _ in columns)
                db.execute(f'CREATE TABLE "{name}" ({names})')
                db.executemany(f'INSERT INTO "{name}" VALUES ({marks})', rows)  # noqa: S608 - our own names
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path
