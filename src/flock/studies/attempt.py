"""One attempt at one run: agent, evaluators, metrics; whatever they raise is the run's failure."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from flock.studies.agents import AUTO, run_agent
from flock.studies.calling import Offer, call_evaluator, check_callable
from flock.studies.design.factors import Condition
from flock.studies.metrics import compose_metrics, number
from flock.studies.moments import iso, now
from flock.studies.problems import EVALUATOR, SCORE, ProblemPacket, answer_in, evaluation_rows
from flock.studies.runs import AgentExecution, Observation, RunResult, RunSpec, RunStatus
from flock.studies.seeds import seed_globally
from flock.studies.settling import is_json, readable, settled
from flock.studies.ways import Way, awaited
from flock.sync import run_sync

_TOLD: Final = ("model_name", "model_provider", "agent_kind", "pattern_name", "request_id", "trace_dir", "trace_path")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A run with the objects that it needs."""

    spec: RunSpec
    condition: Condition
    packet: ProblemPacket
    agent: Any
    evaluators: Mapping[str, Callable[..., Any]]
    primary: str | None = None


async def attempt(job: Job, way: Way, *, alone: bool) -> RunResult:
    """Run a job to its end; what its agent or an evaluator raises makes it a failed run: "Type: message".

    Where it is `alone` in its process, global chance is seeded for it.
    """
    started = now()
    try:
        if alone:
            seed_globally(job.spec.seed)
        offer = Offer(job.spec, job.condition, job.packet)
        execution = await run_agent(job.agent, offer, way)
        rows = await _evaluated(job, offer, execution, way)
        return _result(job, execution, rows, started, now())
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the guard of agents and evaluators: the run's outcome
        return failure(job.spec, error_text(error), started=started, reason="exception", family=job.packet.family)


def error_text(error: BaseException) -> str:
    """Say what was raised: "Type: message"."""
    try:
        return readable(f"{type(error).__name__}: {error}")
    except Exception:  # noqa: BLE001 - the guard of the user's `__str__`
        return f"{type(error).__name__}: its message can't be read"


def failure(
    spec: RunSpec, error_info: str, *, started: float, reason: str, family: str | None = None
) -> RunResult:  # fmt: skip
    """Give the result of a run that failed."""
    ended = now()
    return RunResult(
        spec.run_id,
        RunStatus.FAILED,
        metrics={"latency_s": ended - started},
        latency=ended - started,
        error_info=error_info,
        provenance_info={"agent_id": spec.agent_id},
        run_spec=spec if family is None else told(spec, {"problem_family": family}),
        started_at=iso(started),
        ended_at=iso(ended),
        status_reason=reason,
    )


def skipped(spec: RunSpec, reason: str) -> RunResult:
    """Give the result of a run that never began."""
    info = {"agent_id": spec.agent_id, "skip_reason": reason}
    return RunResult(spec.run_id, RunStatus.SKIPPED, provenance_info=info, run_spec=spec, status_reason=reason)


def told(spec: RunSpec, more: Mapping[str, Any]) -> RunSpec:
    """Give a spec whose metadata says more."""
    metadata = {**spec.execution_metadata, **more}
    parts = (spec.run_id, spec.study_id, spec.condition_id, spec.problem_id, spec.replicate, spec.seed)
    return RunSpec(*parts, spec.agent_spec_ref, spec.problem_spec_ref, metadata)


async def _evaluated(job: Job, offer: Offer, execution: AgentExecution, way: Way) -> list[dict[str, Any]]:
    """Measure an answer by the study's evaluators and the problem's own."""
    offer.output = execution.output
    several = {name: (each, name) for name, each in job.evaluators.items()}
    if job.packet.evaluator is not None:
        own = SCORE if job.primary is None or job.primary in several else job.primary
        several = {EVALUATOR: (job.packet.evaluator, own), **several}
    rows: list[dict[str, Any]] = []
    for name, (evaluator, metric) in several.items():
        call = partial(call_evaluator, evaluator, offer, answer_in(execution.output))
        found = call() if check_callable(evaluator, "evaluator").awaits else await way.call(call)
        if inspect.isawaitable(found):
            found = await way.wait(found)
        rows += evaluation_rows(found, name, metric)
    return [{"run_id": job.spec.run_id, **row} for row in rows]


def evaluate_problem(packet: ProblemPacket, run_output: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give the rows of `evaluations.csv` that a problem's own evaluator makes of an output; none without one."""
    if packet.evaluator is None:
        return []
    spec = RunSpec("", "", "", packet.problem_id, 1, 0, None, packet.problem_id)
    offer = Offer(spec, Condition("none", {}, {}), packet, dict(run_output))
    found = call_evaluator(packet.evaluator, offer, answer_in(run_output))

    return evaluation_rows(run_sync(lambda: awaited(found)) if inspect.isawaitable(found) else found)


def _result(
    job: Job, execution: AgentExecution, rows: list[dict[str, Any]], started: float, ended: float
) -> RunResult:  # fmt: skip
    cost = number(execution.metrics.get("cost_usd"))
    known = {name: execution.metadata[name] for name in _TOLD if execution.metadata.get(name)}
    given = {
        "outputs": execution.output,
        "metrics": compose_metrics(
            agent_metrics=execution.metrics,
            evaluation_rows=rows,
            observations=execution.events,
            latency_s=ended - started,
            cost_usd=cost,
            primary=job.primary,
        ),
        "evaluator_outputs": rows,
        "known": {"problem_family": job.packet.family, **known},
        "metadata": {name: value for name, value in execution.metadata.items() if name not in known},
    }
    parts, notes = settled(given)
    rest = {"metadata": parts["metadata"]} if parts["metadata"] else {}
    return RunResult(
        job.spec.run_id,
        RunStatus.SUCCESS,
        outputs=parts["outputs"],
        metrics=parts["metrics"],
        evaluator_outputs=parts["evaluator_outputs"],
        cost=cost,
        latency=ended - started,
        trace_refs=[readable(str(each)) for each in execution.trace_refs],
        provenance_info={
            "agent_id": job.spec.agent_id,
            "problem_id": job.spec.problem_id,
            **parts["known"],
            **rest,
            **notes,
        },
        observations=[_settled(each) for each in execution.events],
        run_spec=told(job.spec, parts["known"]),
        started_at=iso(started),
        ended_at=iso(ended),
    )


def _settled(event: Observation) -> Observation:
    """Give an event as JSON; one that an agent made itself may be anything."""
    if event.meta_json is AUTO:
        return event
    parts = event.to_dict()
    return event if is_json(parts) else Observation.from_dict(settled(parts)[0])
