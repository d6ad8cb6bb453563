"""The nouns of a run: what is planned, what came of it, and what was observed on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Self

from flock.studies.stable import ValidationError

Json = dict[str, Any]


class RunStatus(StrEnum):
    """Where a run stands."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    SKIPPED = "skipped"


class ObservationLevel(StrEnum):
    """What an observation is about."""

    STUDY = "study"
    RUN = "run"
    TRIAL = "trial"
    STEP = "step"
    TOOL_CALL = "tool-call"
    EVALUATION = "evaluation"


@dataclass(frozen=True, slots=True)
class RunBudget:
    """How much a study may run: replicates from 1 on, at most so many runs, so many at a time."""

    replicates: int = 1
    max_runs: int | None = None
    parallelism: int = 1
    fail_fast: bool = False

    def __post_init__(self) -> None:
        """Refuse what is not at least one."""
        for name in ("replicates", "max_runs", "parallelism"):
            value = getattr(self, name)
            if name == "max_runs" and value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValidationError(f"RunBudget.{name} is a whole number of at least 1, not {value!r}")


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One run as it is planned; `replicate` counts from 1."""

    run_id: str
    study_id: str
    condition_id: str
    problem_id: str
    replicate: int
    seed: int
    agent_spec_ref: Any
    problem_spec_ref: Any
    execution_metadata: Json = field(default_factory=dict[str, Any])

    @property
    def agent_id(self) -> str:
        """The name of the agent that runs."""
        return str(self.execution_metadata.get("agent_id", self.agent_spec_ref))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Give what `to_jsonable` made of one."""
        return cls(**{name: data[name] for name in _SPEC if name in data})


_SPEC = tuple(each.name for each in fields(RunSpec))


@dataclass(frozen=True, slots=True)
class Observation:
    """Something that happened in a run. `timestamp` is ISO 8601 in UTC."""

    timestamp: str
    record_id: str
    text: str
    session_id: str
    actor_id: str
    event_type: str
    meta_json: Json = field(default_factory=dict[str, Any])
    level: ObservationLevel = ObservationLevel.STEP
    study_id: str | None = None
    run_id: str | None = None
    condition_id: str | None = None
    trial_id: str | None = None
    step_id: str | None = None
    tool_name: str | None = None
    evaluation_id: str | None = None

    def to_dict(self) -> Json:
        """Give it as JSON."""
        return {name: getattr(self, name) for name in _OBSERVED} | {"level": self.level.value}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Give what `to_jsonable` made of one."""
        found: Json = {name: data[name] for name in _OBSERVED if name in data}
        found["level"] = ObservationLevel(data.get("level", ObservationLevel.STEP))
        return cls(**found)


_OBSERVED = tuple(each.name for each in fields(Observation))


@dataclass(frozen=True, slots=True)
class AgentExecution:
    """What an agent gave for one run: output, metrics (as `cost_usd`, `input_tokens`), what happened, and traces."""

    output: Json = field(default_factory=dict[str, Any])
    metrics: Json = field(default_factory=dict[str, Any])
    events: list[Observation] = field(default_factory=list[Observation])
    trace_refs: list[str] = field(default_factory=list[str])
    metadata: Json = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class RunResult:
    """What came of one run. `cost` is in USD, `latency` in seconds, times are ISO 8601 in UTC.

    All that it holds is JSON, so that it equals what is read back. `provenance_info` says under `not_finite` which
    values were NaN or infinite and are None now, and under `as_text` which had no JSON form and are text.
    """

    run_id: str
    status: RunStatus
    outputs: Json = field(default_factory=dict[str, Any])
    metrics: Json = field(default_factory=dict[str, Any])
    evaluator_outputs: list[Json] = field(default_factory=list[Json])
    cost: float = 0.0
    latency: float = 0.0
    trace_refs: list[str] = field(default_factory=list[str])
    artifact_refs: list[str] = field(default_factory=list[str])
    error_info: str | None = None
    provenance_info: Json = field(default_factory=dict[str, Any])
    observations: list[Observation] = field(default_factory=list[Observation])
    run_spec: RunSpec | None = None
    started_at: str | None = None
    ended_at: str | None = None
    status_reason: str | None = None

    def to_dict(self) -> Json:
        """Give it as JSON."""
        parts = {name: getattr(self, name) for name in _RESULT}
        spec = self.run_spec
        return parts | {
            "status": self.status.value,
            "observations": [each.to_dict() for each in self.observations],
            "run_spec": None if spec is None else {name: getattr(spec, name) for name in _SPEC},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Give what `to_dict` made of one."""
        found: Json = {name: data[name] for name in _RESULT if name in data}
        spec = data.get("run_spec")
        found["status"] = RunStatus(data.get("status", RunStatus.PENDING))
        found["run_spec"] = None if spec is None else RunSpec.from_dict(spec)
        found["observations"] = [Observation.from_dict(each) for each in data.get("observations", ())]
        return cls(**found)


_RESULT = tuple(each.name for each in fields(RunResult))


def outcome_of(result: RunResult, name: str) -> object:
    """Give a number that a run was measured by: a metric, else an evaluation of that name, else an output."""
    if name in result.metrics:
        return result.metrics[name]
    for row in result.evaluator_outputs:
        if row.get("metric_name") == name:
            return row.get("metric_value")
    return result.outputs.get(name)


def known_outcomes(results: Sequence[RunResult]) -> list[str]:
    """Give the names that `outcome_of` knows for any of these."""
    names: dict[str, None] = {}
    for result in results:
        names.update(dict.fromkeys(result.metrics))
        names.update(dict.fromkeys(str(row.get("metric_name")) for row in result.evaluator_outputs))
        names.update(dict.fromkeys(result.outputs))
    return list(names)
