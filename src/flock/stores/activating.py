"""Activations, as every store starts, orders and ends them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from flock.model.artifact import Record
from flock.model.ledger import Activation, Lease, Outcome, State, Target, Trigger, depth_after
from flock.model.payload import Unreadable

STATES: Final[Mapping[str, State]] = {
    "done": State.DONE,
    "failed": State.FAILED,
    "cancelled": State.CANCELLED,
    "skipped": State.CANCELLED,
}  # of an activation that has ended, by the outcome of its last attempt
LEFT_BY: Final[Mapping[Outcome, Sequence[State]]] = {
    "done": (State.DONE,),
    "failed": (State.FAILED,),
    "cancelled": (State.CANCELLED,),
    "skipped": (State.CANCELLED,),
    "retry": (State.DELAYED, State.READY),
    "defer": (State.DELAYED, State.READY),
}  # how an activation stands until another attempt runs


def begin(
    id: str,
    order: int,
    target: Target,
    inputs: tuple[Record, ...],
    groups: tuple[tuple[Record, ...], ...],
    *,
    run: str | None,
    trigger: Trigger,
    count: Callable[[tuple[str, ...], str], int],
) -> Activation:
    """Make an activation, in the run of its newest input unless another is given.

    `count` gets its runs and agent and gives which of the agent's it is in the first of them.
    """
    if run is None and len(inputs) == 1:
        (first,) = inputs
        run, depth = first.run, first.depth + 1
        runs: tuple[str, ...] = (run,)
    else:
        run = max(inputs, key=_sequence).run if run is None else run
        runs = tuple(dict.fromkeys((run, *[record.run for record in inputs])))
        depth = depth_after(inputs)
    agent, subscription, priority = target.agent, target.subscription, target.priority
    ordinal, is_batch = count(runs, agent), bool(groups)
    activation = Activation(
        id, agent, subscription, inputs, run, runs, priority, order, trigger, groups, is_batch, ordinal, depth
    )
    if (len(inputs) != 1 or type(inputs[0].snapshot) is Unreadable) and Unreadable.__name__ not in target.slots:
        activation.obstacle = obstacle(inputs)
    return activation


def obstacle(inputs: Iterable[Record]) -> str | None:
    """Say why an activation can't be run with these inputs, if so."""
    for record in inputs:
        if isinstance(record.snapshot, Unreadable):
            return f"its input {record.id} ({record.type}) can't be loaded: {record.snapshot.reason}"
    return None


def urgency(activation: Activation) -> tuple[int, int]:
    """Sort by priority, then by age."""
    return -activation.priority, activation.order


def urgency_of(lease: Lease) -> tuple[int, int]:
    """Sort leases by their activations."""
    return urgency(lease.activation)


def _sequence(record: Record) -> int:
    return record.sequence
