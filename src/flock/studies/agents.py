"""Agents: who is meant by a name, how they are run, and what of their answers counts."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from importlib import import_module
from typing import Any, Final

from pydantic import BaseModel

from flock.app import Flock
from flock.studies.boards import solve
from flock.studies.calling import Offer, call_agent, check_callable, name_of
from flock.studies.design.factors import Condition
from flock.studies.moments import iso_now
from flock.studies.problems import ProblemPacket
from flock.studies.runs import AgentExecution, Observation, ObservationLevel, RunSpec
from flock.studies.settling import readable
from flock.studies.stable import DIGITS, ValidationError, digest, is_mapping, quoted
from flock.studies.ways import Blocking, Way, awaited
from flock.sync import run_sync
from flock.sync.driving import at_once

_ENVELOPE: Final = frozenset({"output", "outputs", "metrics", "events", "metadata", "trace_refs"})
AUTO: Final = {"auto_generated": True}
_DEPTH: Final = 4  # of what makes an agent that makes an agent


def resolve_agent(agent_spec_ref: Any, agent_bindings: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401 - any object
    """Give what a name stands for: a binding, or what `module:attribute` names. Other objects stand for themselves.

    Raises ValidationError for names that nobody knows and for what can't be run.
    """
    found = agent_spec_ref
    if isinstance(agent_spec_ref, str):
        known = agent_bindings or {}
        found = known[agent_spec_ref] if agent_spec_ref in known else _imported(agent_spec_ref, known)
    if isinstance(found, str):
        found = _imported(found, {})
    return _checked(found, agent_spec_ref)


def _imported(name: str, known: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any object
    module, colon, attribute = name.partition(":")
    if not colon:
        names = ", ".join(sorted(known)) or "none"
        raise ValidationError(f"there is no agent {name!r}; known agents: {names}; module:attribute names any other")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValidationError(f"agent {name!r} can't be imported: {error}") from error


def _checked(agent: Any, ref: object) -> Any:  # noqa: ANN401 - any object
    if isinstance(agent, Flock):
        raise ValidationError(f"agent {ref!r} is a Flock: give a function that makes one, since each run gets its own")
    body = _body(agent)
    if body is None:
        raise ValidationError(f"agent {ref!r} is a {type(agent).__name__}: give a function, or an object with run()")
    check_callable(body, "agent")
    return agent


async def run_agent(agent: Any, offer: Offer, way: Way) -> AgentExecution:  # noqa: ANN401 - any object
    """Run an agent, or what it makes when that is an agent in turn, and give its answer in one form."""
    value = agent
    for _ in range(_DEPTH):
        body = _body(value)
        if body is None:
            return execution_of(value, offer, name_of(agent))
        if isinstance(value, Flock):
            value = await way.wait(solve(value, offer))
        else:
            awaits = check_callable(body, "agent").awaits
            value = call_agent(body, offer) if awaits else await way.call(partial(call_agent, body, offer))
        if inspect.isawaitable(value):
            value = await way.wait(value)
    raise ValidationError(f"agent {name_of(agent)} gives functions that give functions: it never answers")


def _body(value: Any) -> Callable[..., Any] | None:  # noqa: ANN401 - any object
    """Give what is called to run an agent; None for an answer."""
    if isinstance(value, Flock):
        return value.run
    if inspect.isclass(value):
        made: Callable[..., Any] = value
        return made
    run: Any = getattr(value, "run", None)
    if callable(run) and not isinstance(value, BaseModel) and not is_mapping(value):
        body: Callable[..., Any] = run
        return body
    return value if callable(value) else None


def execute_agent(
    *,
    agent_spec_ref: Any,  # noqa: ANN401 - any object
    run_spec: RunSpec,
    condition: Condition,
    problem_packet: ProblemPacket,
    agent_bindings: Mapping[str, Any] | None = None,
) -> AgentExecution:
    """Run one agent once and give its answer in one form; raises what the agent raised."""
    agent = resolve_agent(agent_spec_ref, agent_bindings)
    offer = Offer(run_spec, condition, problem_packet)
    return at_once(run_agent(agent, offer, Blocking(lambda work: run_sync(lambda: awaited(work)))))


def awaits(agent: Any) -> bool:  # noqa: ANN401 - any object
    """Say whether an agent is a coroutine function, or has one."""
    body = _body(agent)
    return body is not None and check_callable(body, "agent").awaits


# ---- answers


def execution_of(raw: Any, offer: Offer, kind: str) -> AgentExecution:  # noqa: ANN401 - whatever an agent gave
    """Give an answer in one form: mappings may have the parts of one, other mappings, models and texts are outputs."""
    if isinstance(raw, AgentExecution):
        parts: dict[str, Any] = {each.name: getattr(raw, each.name) for each in fields(raw)}
    elif is_mapping(raw) and _ENVELOPE & raw.keys():
        parts = dict(raw)
    else:
        parts = {"output": raw}
    output = _output(parts.get("output", parts.get("outputs")), parts)
    metadata = {"agent_kind": kind} | dict(parts.get("metadata") or {})
    trace_path = metadata.get("trace_path")
    refs = [str(each) for each in parts.get("trace_refs") or ([trace_path] if trace_path else ())]
    return AgentExecution(
        output=output,
        metrics=dict(parts.get("metrics") or {}),
        events=_events(parts.get("events") or (), output, offer),
        trace_refs=refs,
        metadata=metadata,
    )


def _output(value: Any, parts: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ANN401 - whatever an agent gave
    match value:
        case None:
            return {"text": parts["text"]} if "text" in parts else {}
        case _ if is_mapping(value):
            return {str(key): each for key, each in value.items()}
        case BaseModel():
            return value.model_dump(mode="json")
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {each.name: getattr(value, each.name) for each in fields(value)}
        case str():
            return {"text": value}
        case _:
            return {"answer": value, "text": str(value)}


def _events(raw: Sequence[Any], output: Mapping[str, Any], offer: Offer) -> list[Observation]:
    found = [_event(each, index, offer) for index, each in enumerate(raw)]
    return found or [_said(readable(str(output.get("text", ""))), offer.spec)]


def _said(text: str, spec: RunSpec) -> Observation:
    """Give the one event of an agent that tells of none."""
    return Observation(
        timestamp=iso_now(),
        record_id=event_id(spec, 0),
        text=text,
        session_id=spec.run_id,
        actor_id="agent",
        event_type="assistant_output",
        meta_json=AUTO,
        study_id=spec.study_id,
        run_id=spec.run_id,
        condition_id=spec.condition_id,
    )


def _event(raw: Any, index: int, offer: Offer) -> Observation:  # noqa: ANN401 - whatever an agent gave
    if isinstance(raw, Observation):
        return raw
    if not is_mapping(raw):
        raise TypeError(f"an event is a {type(raw).__name__}: give a mapping or an Observation")
    spec = offer.spec
    parts: dict[str, Any] = dict(raw)
    kind = str(parts.get("event_type", "event"))
    return Observation(
        timestamp=str(parts.get("timestamp") or iso_now()),
        record_id=str(parts.get("record_id") or event_id(spec, index)),
        text=str(parts.get("text", "")),
        session_id=str(parts.get("session_id", spec.run_id)),
        actor_id=str(parts.get("actor_id", "agent")),
        event_type=kind,
        meta_json=dict(parts.get("meta_json") or {}),
        level=ObservationLevel(parts.get("level", ObservationLevel.STEP)),
        study_id=spec.study_id,
        run_id=spec.run_id,
        condition_id=spec.condition_id,
        **{name: parts.get(name) for name in ("trial_id", "step_id", "tool_name", "evaluation_id")},
    )


def event_id(spec: RunSpec, index: int) -> str:
    """Give the id of the event at a place of a run: that of `hash_identifier`, with fewer steps."""
    text = f'{{"index":{index},"run_id":{quoted(spec.run_id)}}}'
    return f"evt-{digest(text)[:DIGITS]}"
