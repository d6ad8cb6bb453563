"""Outputs: from what an engine gave to records that keep the agent's declaration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydantic import BaseModel

from flock.model.artifact import UNSET, Artifact, Record, snapshot
from flock.model.errors import OutputError
from flock.model.evaluation import EvalResult, OutputGroup
from flock.model.ledger import Activation
from flock.model.payload import members, type_name
from flock.model.visibility import PUBLIC, Visibility, meet, settled
from flock.ports import Clock

Item = BaseModel | Artifact


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
    odd = [item for item in given if not isinstance(item, (BaseModel, Artifact))]
    if not odd:
        return [item for item in given if isinstance(item, (BaseModel, Artifact))]
    name = type(result).__name__
    found = name if odd == [result] else f"a {name} with a {type(odd[0]).__name__}"
    raise OutputError(
        f"an engine returns pydantic models, artifacts, lists of these, an EvalResult or None, not {found}"
    )


def payload_of(item: Item) -> BaseModel:
    """Give what an item carries."""
    return item.record.snapshot if isinstance(item, Artifact) else item


def result_of(result: object, agent: object) -> EvalResult:
    """Give what an engine returned as an EvalResult."""
    return result if isinstance(result, EvalResult) else EvalResult.from_objects(*items_of(result), agent=agent)


def records_of(
    items: Iterable[Item], group: OutputGroup, activation: Activation, clock: Clock, *, slot: int, trace: str | None
) -> tuple[list[Record], list[str]]:
    """Make records of outputs, slots from the given one on; names the types that the group's `where` left out.

    Raises OutputError when one breaks the declaration.
    """
    records: list[Record] = []
    left_out: list[str] = []
    now, inputs, agent = clock.now(), activation.inputs, activation.agent
    parents, partition_key = _origin(inputs)
    plainly_public = group.visibility is None and len(inputs) == 1 and inputs[0].visibility is PUBLIC
    for item in items:
        payload, draft = (item.record.snapshot, item.record) if isinstance(item, Artifact) else (item, None)
        kind = type(payload)
        if group.validate or kind not in group.types:
            _check(payload, agent, group)
        if group.where is not None and not group.where(payload):
            left_out.append(kind.__name__)
            slot += 1
            continue
        id = clock.new_id() if draft is None or draft.sequence or not draft.id else draft.id
        visibility = PUBLIC if plainly_public and draft is None else _visibility(payload, group, inputs, draft)
        record = Record(  # by position, which takes a third of the time
            id, type_name(kind), snapshot(payload) if draft is None else payload, activation.run, now, agent,
            partition_key, group.tags, visibility, parents, activation.id, trace, activation.depth, slot,
        )  # fmt: skip
        if draft is not None:
            record.tags = group.tags | draft.tags
            record.partition_key = draft.partition_key or partition_key
        records.append(record)
        slot += 1
    return records, left_out


def check_counts(items: Iterable[Item], agent: str, group: OutputGroup) -> None:
    """Hold the number of outputs of each type against an explicit fan_out; raises OutputError."""
    if group.fan_out is None:
        return
    low, high = group.fan_out.low, group.fan_out.high
    payloads = [payload_of(item) for item in items]
    for kind in dict.fromkeys(group.types):
        count = sum(isinstance(payload, kind) for payload in payloads)
        if not low <= count <= high:
            wanted = str(low) if low == high else f"{low} to {high}"
            raise OutputError(f"agent {agent!r} made {count} of {kind.__name__}; fan_out asks for {wanted}")


def check_items(items: Sequence[Item], agent: str, group: OutputGroup) -> None:
    """Hold outputs that are not published yet against the declaration; raises OutputError."""
    for item in items:
        _check(payload_of(item), agent, group)
    check_counts(items, agent, group)


def _check(payload: BaseModel, agent: str, group: OutputGroup) -> None:
    name = type(payload).__name__
    if group.declared and not isinstance(payload, group.types):
        names = [kind.__name__ for kind in group.types]
        hint = " from before it was defined again: declare the agent again" if name in names else ""
        declared = ", ".join(names) or "none"
        raise OutputError(f"agent {agent!r} returned {name}, which it does not declare; declared: {declared}{hint}")
    for check, text in group.validate:
        if not check(payload):
            raise OutputError(f"agent {agent!r} made an invalid {name}: {text}")


def _origin(inputs: Sequence[Record]) -> tuple[tuple[str, ...], str | None]:
    """Give the inputs' ids, and their partition key if they agree."""
    if len(inputs) == 1:
        return (inputs[0].id,), inputs[0].partition_key
    keys = {record.partition_key for record in inputs}
    return tuple([record.id for record in inputs]), keys.pop() if len(keys) == 1 else None


def _visibility(payload: BaseModel, group: OutputGroup, inputs: Sequence[Record], draft: Record | None) -> Visibility:
    """Choose the declaration's, else the inputs'; an engine may narrow what is public and nothing else."""
    declared = group.visibility
    if declared is not None:
        found = declared if isinstance(declared, Visibility) else declared(payload)
        if not isinstance(found, Visibility):
            raise OutputError(f"visibility= gave {found!r}, which is no Visibility")
        return found
    inherited = meet(frozenset([record.visibility for record in inputs]))
    own = None if draft is None or draft.visibility is UNSET or draft.sequence else draft.visibility
    if own is None or own == inherited:
        return inherited
    if settled(inherited) != PUBLIC:
        raise OutputError("an engine can't change the visibility of its inputs: declare publishes(..., visibility=...)")
    return own
