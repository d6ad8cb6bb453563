"""How a graph words the conditions of an edge: a few words per part, in a fixed order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

from flock.core.agent import Agent, Subscription
from flock.model.conditions import Condition, Tally
from flock.model.evaluation import OutputGroup
from flock.model.schedule import Cron, Daily, Every, Once, Schedule
from flock.topology.flow import Model

Label = Callable[[Model], str]


def intake(subscription: Subscription, kind: Model, label: Label) -> str:
    """Word what has to be true before an artifact of this type fires a subscription."""
    return ", ".join(_intake(subscription, kind, label))


def _intake(subscription: Subscription, kind: Model, label: Label) -> Iterator[str]:
    count = subscription.counts[subscription.types.index(kind)]
    if count > 1:
        yield f"{count} of them"
    others = [label(other) for other in subscription.types if other is not kind]
    if others:
        yield f"{'join' if subscription.join else 'together'} with {' and '.join(others)}"
    if subscription.join is not None:
        within = subscription.join.within
        yield f"by key within {within if isinstance(within, int) else _span(within)}"
    if subscription.batch is not None:
        size, timeout = subscription.batch.size, subscription.batch.timeout
        parts = ([] if size is None else [f"of {size}"]) + ([] if timeout is None else [f"after {_span(timeout)}"])
        yield f"batch {' or '.join(parts)}"
    if subscription.when is not None:
        yield f"when {condition(subscription.when, label)}"
    yield from _filters(subscription)


def _filters(subscription: Subscription) -> Iterator[str]:
    if subscription.where is not None:
        yield "where"
    if subscription.tags:
        yield f"tagged {' '.join(sorted(subscription.tags))}"
    if subscription.from_agents:
        yield f"from {' or '.join(sorted(subscription.from_agents))}"
    if subscription.target.board_wide:
        yield "across runs"
    if subscription.mode == "direct":
        yield "only when invoked"


def output(agent: Agent, group: OutputGroup, kind: Model) -> str:
    """Word how many artifacts of a type an agent publishes, and how it chooses them."""
    parts: list[str] = []
    fan_out = group.counts[kind]
    if fan_out.low != fan_out.high:
        parts.append(f"{fan_out.low} to {fan_out.high} of them")
    elif fan_out.low > 1:
        parts.append(f"{fan_out.low} of them")
    if agent.best_of > 1:
        parts.append(f"best of {agent.best_of}")
    if group.where is not None:
        parts.append("where")
    return ", ".join(parts)


def condition(given: Condition, label: Label) -> str:
    """Word a condition over counts."""
    match given:
        case Condition(kind="both", parts=(left, right)):
            return f"({condition(left, label)} and {condition(right, label)})"
        case Condition(kind="either", parts=(left, right)):
            return f"({condition(left, label)} or {condition(right, label)})"
        case Condition(kind="not", parts=(inner,)):
            return f"not {condition(inner, label)}"
        case Condition(tally=Tally() as tally, low=low, high=None):
            return f"{low} or more {label(tally.type)}"
        case Condition(tally=Tally() as tally, low=low, high=high):
            return f"{low if low == high else f'{low} to {high}'} {label(tally.type)}"
        case _:
            return "idle"


def schedule(spec: Schedule) -> str:
    """Word a schedule."""
    zone = "" if spec.tz == "UTC" else f" {spec.tz}"
    match spec.plan:
        case Every(interval=interval):
            return f"every {_span(interval)}"
        case Once(moment=moment):
            return f"once at {moment.isoformat()}{zone}"
        case Daily(time=time):
            return f"daily at {time.isoformat('auto')}{zone}"
        case Cron(expression=expression):
            return f"cron {expression}{zone}"


def _span(duration: timedelta | float) -> str:
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"
