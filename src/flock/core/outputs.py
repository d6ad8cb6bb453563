"""Outputs: from what an engine gave to records that keep the agent's declaration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel

from flock.model.artifact import UNSET, Artifact, Record, snapshot
from flock.model.errors import OutputError
from flock.model.evaluation import EvalResult
from flock.model.payload import members, type_name
from flock.model.visibility import PUBLIC, Visibility, meet, settled

if TYPE_CHECKING:
    from flock.core.agent import Agent
    from flock.model.evaluation import OutputGroup
    from flock.model.ledger import Activation
    from flock.ports import Clock

Item = BaseModel | Artifact


class Filtered(NamedTuple):
    """An output that the group's `where` left out."""

    type: str


def items_of(result: object) -> Sequence[Item]:
    """Give the artifacts and models in what an engine returned; raises OutputError for anything else."""
    match result:
        case None:
            return ()
        case BaseModel() | Artifact():
            return (result,)
        case EvalResult(artifacts=artifacts):
            return artifacts
        case _:
            given = [item for item in members(result) if item is not None]
    items = [item for item in given if isinstance(item, (BaseModel, Artifact))]
    if len(items) == len(given):
        return items
    message = (
        f"an engine returns pydantic models, artifacts, lists of these, an EvalResult or None, not {_describe(result)}"
    )
    raise OutputError(message)


def result_of(result: object, agent: Agent) -> EvalResult:
    """Give what an engine returned as an EvalResult."""
    return result if isinstance(result, EvalResult) else EvalResult.from_objects(*items_of(result), agent=agent)


def _partition(inputs: Sequence[Record]) -> str | None:
    """Give the inputs' partition key if they agree."""
    if len(inputs) == 1:
        return inputs[0].partition_key
    keys = {record.partition_key for record in inputs}
    return keys.pop() if len(keys) == 1 else None


def records_of(
    items: Iterable[Item],
    agent: Agent,
    group: OutputGroup,
    activation: Activation,
    clock: Clock,
    *,
    first_slot: int,
    trace_context: str | None,
) -> tuple[list[Record], list[Filtered]]:
    """Make records of outputs; slots count from `first_slot`. Raises OutputError when one breaks the declaration."""
    records: list[Record] = []
    filtered: list[Filtered] = []
    now = clock.now()
    inputs = activation.inputs
    parents = (inputs[0].id,) if len(inputs) == 1 else tuple([record.id for record in inputs])
    partition_key, depth = _partition(inputs), activation.depth
    for slot, item in enumerate(items, first_slot):
        draft = item.record if isinstance(item, Artifact) else None
        payload = item if isinstance(item, BaseModel) else item.record.snapshot
        _check(payload, agent, group)
        if group.where is not None and not group.where(payload):
            filtered.append(Filtered(type(payload).__name__))
            continue
        record = Record(
            id=(draft.id if draft is not None and not draft.sequence else "") or clock.new_id(),
            type=type_name(type(payload)),
            snapshot=snapshot(payload) if draft is None else payload,
            run=activation.run,
            created=now,
            produced_by=activation.agent,
            partition_key=partition_key,
            tags=group.tags,
            visibility=_visibility(payload, group, inputs, draft),
            parents=parents,
            activation_id=activation.id,
            trace_context=trace_context,
            depth=depth,
            slot=slot,
        )
        if draft is not None:
            record.tags = group.tags | draft.tags
            record.partition_key = draft.partition_key or partition_key
        records.append(record)
    return records, filtered


def check_counts(types: Sequence[type], agent: Agent, group: OutputGroup) -> None:
    """Hold the number of outputs of each type against an explicit fan_out; raises OutputError."""
    if group.fan_out is None:
        return
    low, high = group.fan_out.low, group.fan_out.high
    for kind in dict.fromkeys(group.types):
        count = sum(issubclass(each, kind) for each in types)
        if not low <= count <= high:
            wanted = str(low) if low == high else f"{low} to {high}"
            message = f"agent {agent.name!r} made {count} of {kind.__name__}; fan_out asks for {wanted}"
            raise OutputError(message)


def check_items(items: Iterable[Item], agent: Agent, group: OutputGroup) -> None:
    """Hold outputs that are not published yet against the declaration; raises OutputError."""
    payloads = [item.record.snapshot if isinstance(item, Artifact) else item for item in items]
    for payload in payloads:
        _check(payload, agent, group)
    check_counts([type(payload) for payload in payloads], agent, group)


def _check(payload: BaseModel, agent: Agent, group: OutputGroup) -> None:
    cls = type(payload)
    if group.declared and group.declared_type(cls) is None:
        declared = ", ".join(kind.__name__ for kind in group.types) or "none"
        message = f"agent {agent.name!r} returned {cls.__name__}, which it does not declare; declared: {declared}"
        raise OutputError(message)
    for check, text in group.validate:
        if not check(payload):
            message = f"agent {agent.name!r} made an invalid {cls.__name__}: {text}"
            raise OutputError(message)


def _visibility(payload: BaseModel, group: OutputGroup, inputs: Sequence[Record], draft: Record | None) -> Visibility:
    """Choose the declaration's, else the inputs'; an engine may narrow what is public and nothing else."""
    declared = group.visibility
    if declared is not None:
        found = declared if isinstance(declared, Visibility) else declared(payload)
        if not isinstance(found, Visibility):
            message = f"visibility= gave {found!r}, which is no Visibility"
            raise OutputError(message)
        return found
    if len(inputs) == 1 and inputs[0].visibility is PUBLIC and draft is None:
        return PUBLIC
    inherited = meet(frozenset([record.visibility for record in inputs]))
    own = None if draft is None or draft.visibility is UNSET or draft.sequence else draft.visibility
    if own is None or own == inherited:
        return inherited
    if settled(inherited) != PUBLIC:
        message = "an engine can't change the visibility of its inputs: declare publishes(..., visibility=...)"
        raise OutputError(message)
    return own


def _describe(result: object) -> str:
    odd = [i for i in members(result) if i is not None and not isinstance(i, (BaseModel, Artifact))]
    name = type(result).__name__
    return name if odd == [result] else f"a {name} with a {type(odd[0]).__name__}"
