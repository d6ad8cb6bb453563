"""A Flock as the agent of one run: the problem goes on its board, and what comes of it is the answer."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from flock.app import Flock
from flock.model.artifact import EXTERNAL, Artifact
from flock.model.evaluation import FAILURE
from flock.studies.calling import Offer
from flock.studies.moments import iso
from flock.studies.runs import AgentExecution, Observation
from flock.studies.stable import ValidationError, hash_identifier, is_mapping, stable_json_dumps
from flock.studies.usage import Meter

ARTIFACTS: Final = "artifacts"  # of an output: all that was published
_GRACE = 1.0  # seconds that running activations have at the end
_meter = Meter()


class Problem(BaseModel):
    """A problem on a board, for agents that consume it, unless the problem is a model of its own."""

    problem_id: str
    family: str = "unknown"
    brief: str = ""
    payload: dict[str, Any] = {}


async def solve(flock: Flock, offer: Offer) -> AgentExecution:
    """Publish a run's problem on a Flock that nobody uses afterwards, wait until it is idle and collect what it made.

    The output has the fields of the last artifact and all of them under `artifacts`. Tokens and cost are those of
    the spans below the run's. Raises AgentFailedError when an agent failed.
    """
    posed = _posed(offer)
    with _meter.connected():
        try:
            async with flock.traced_run(offer.spec.run_id) as span:
                with _meter.counting(span) as tally:
                    await flock.publish(posed)
                    report = await flock.run_until_idle(drain=True)
            report.raise_for_failures()
            if not report.succeeded:
                raise ValidationError(f"no agent on {flock!r} consumes {type(posed).__name__}, so nothing ran")
            found = [each for each in await flock.store.query() if not _is_given(each)]
        finally:
            await flock.shutdown(grace=_GRACE)
    span_context = span.get_span_context()
    last: dict[str, Any] = found[-1].payload.model_dump(mode="json") if found else {}
    return AgentExecution(
        output=last | {ARTIFACTS: [_plain(each) for each in found]},
        metrics=tally.metrics() | {"activations": report.succeeded, "artifacts": len(found)},
        events=[_observed(each, index, offer) for index, each in enumerate(found)],
        trace_refs=[f"{span_context.trace_id:032x}"],
        metadata={"agent_kind": "flock", "pattern_name": flock.name, **_model_of(tally.models)},
    )


def _posed(offer: Offer) -> BaseModel | dict[str, Any]:
    """Give what to publish: the model that the problem is, or the problem as a model."""
    packet, problem = offer.packet, offer.packet.problem
    if isinstance(problem, BaseModel):
        return problem
    data: dict[str, Any] = dict(problem) if is_mapping(problem) else packet.payload
    return Problem(problem_id=packet.problem_id, family=packet.family, brief=packet.brief, payload=data)


def _is_given(artifact: Artifact) -> bool:
    return artifact.produced_by == EXTERNAL or artifact.type == FAILURE


def _plain(artifact: Artifact) -> dict[str, Any]:
    payload = artifact.payload.model_dump(mode="json")
    return {"type": artifact.type, "produced_by": artifact.produced_by, "payload": payload}


def _observed(artifact: Artifact, index: int, offer: Offer) -> Observation:
    spec = offer.spec
    return Observation(
        timestamp=iso(artifact.created_at.timestamp()),
        record_id=hash_identifier("evt", {"run_id": spec.run_id, "index": index}),
        text=stable_json_dumps(artifact.payload),
        session_id=spec.run_id,
        actor_id=artifact.produced_by,
        event_type="artifact",
        meta_json={"type": artifact.type},
        study_id=spec.study_id,
        run_id=spec.run_id,
        condition_id=spec.condition_id,
    )


def _model_of(models: dict[str, None]) -> dict[str, str]:
    return {"model_name": ",".join(models)} if models else {}
