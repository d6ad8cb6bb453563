"""Loops between agents: those that nothing declared ends, and those that nothing starts."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from flock.core.agent import Agent, Subscription
from flock.model.evaluation import Failure, OutputGroup
from flock.topology.flow import Flow, Model, automatic, from_outside


class Start(NamedTuple):
    """Which agents can fire, and the closed loops that need a first artifact of one of these types from outside."""

    fires: frozenset[str]
    loops: tuple[tuple[tuple[str, ...], tuple[Model, ...]], ...]


def endless(flow: Flow) -> Iterator[tuple[str, ...]]:
    """Give loops in which each firing alone fires the next, as agent, type, agent, ... back to the first agent."""
    links = {agent.name: _links(flow, agent) for agent in flow.agents}
    covered: set[str] = set()
    for agent in flow.agents:
        loop = () if agent.name in covered else _shortest(links, agent.name)
        if loop:
            covered.update(loop[::2])
            yield loop


def _links(flow: Flow, source: Agent) -> dict[str, str]:
    """Give the agents that one firing of this one is sure to fire if it publishes, each with the type that does."""
    return {
        target.name: flow.label(subscription.types[0])
        for target in flow.agents
        for subscription in reversed(automatic(target))
        if flow.reaches(source, subscription) and _suffices(source, subscription)
    }


def _suffices(source: Agent, subscription: Subscription) -> bool:
    if subscription.where is not None or subscription.tags or subscription.when is not None:
        return False  # a declared condition may end the loop
    batch = subscription.batch
    rounds = 1 if batch is None or batch.timeout is not None or batch.size is None else batch.size
    return all(
        sum(_sure(group, kind) for group in source.outputs) >= need * rounds
        for kind, need in zip(subscription.types, subscription.counts, strict=True)
    )


def _sure(group: OutputGroup, kind: Model) -> int:
    """Count what an output group makes of a type; of several types an agent may choose another one."""
    if group.where is not None or len(group.counts) != 1:
        return 0
    ((made, fan_out),) = group.counts.items()
    return fan_out.high if issubclass(made, kind) and not issubclass(made, Failure) else 0


def _shortest(links: Mapping[str, Mapping[str, str]], start: str) -> tuple[str, ...]:
    paths: deque[tuple[str, ...]] = deque([(start,)])
    seen: set[str] = set()
    while paths:
        path = paths.popleft()
        for name, kind in links[path[-1]].items():
            if name == start:
                return (*path, kind, name)
            if name not in seen:
                seen.add(name)
                paths.append((*path, kind, name))
    return ()


def started(flow: Flow) -> Start:
    """Say who can fire, given all that comes from outside only, and then a first artifact for each closed loop."""
    seeds: set[Model] = set()
    loops: list[tuple[tuple[str, ...], tuple[Model, ...]]] = []
    while True:
        fires = _firing(flow, seeds)
        loop = _closed_loop(flow, fires, {name for names, _ in loops for name in names})
        if not loop:
            return Start(fires=frozenset(fires), loops=tuple(loops))
        kinds = tuple(
            dict.fromkeys(
                kind
                for agent in flow.agents
                if agent.name in loop
                for subscription in automatic(agent)
                for kind in subscription.types
                if loop & {supplier.name for supplier in flow.suppliers(subscription, kind)}
            )
        )
        loops.append((tuple(agent.name for agent in flow.agents if agent.name in loop), kinds))
        seeds.update(kinds)


def _firing(flow: Flow, seeds: AbstractSet[Model]) -> set[str]:
    fires = {agent.name for agent in flow.agents if agent.schedule is not None or not automatic(agent)}
    while True:
        more = {
            agent.name
            for agent in flow.agents
            if agent.name not in fires and any(_fillable(flow, each, fires, seeds) for each in automatic(agent))
        }
        if not more:
            return fires
        fires |= more


def _fillable(flow: Flow, subscription: Subscription, fires: AbstractSet[str], seeds: AbstractSet[Model]) -> bool:
    outside = from_outside(subscription)
    heard = any(flow.reaches(agent, subscription) for agent in flow.agents if agent.name in fires & set(flow.open))
    for kind in subscription.types:
        suppliers = {agent.name for agent in flow.suppliers(subscription, kind)}
        given = outside and (not suppliers or kind in seeds)
        if not (given or heard or suppliers & fires or issubclass(kind, Failure)):
            return False
    return True


def _closed_loop(flow: Flow, fires: AbstractSet[str], known: AbstractSet[str]) -> set[str]:
    """Give the agents of a loop that waits for itself and for no other loop; empty when there is none."""
    silent = [agent for agent in flow.agents if agent.name not in fires]
    before = {
        agent.name: {
            supplier.name
            for subscription in automatic(agent)
            for kind in subscription.types
            for supplier in flow.suppliers(subscription, kind)
            if supplier.name not in fires
        }
        for agent in silent
    }
    ancestors = {name: _ancestors(before, name) for name in before}
    loops = [name for name in ancestors if name in ancestors[name] and name not in known]
    if not loops:
        return set()
    first = min(loops, key=lambda name: len(ancestors[name]))
    return {name for name in ancestors[first] if first in ancestors[name]}


def _ancestors(before: Mapping[str, AbstractSet[str]], name: str) -> set[str]:
    found: set[str] = set()
    edge = set(before[name])
    while edge:
        found |= edge
        edge = {one for each in edge for one in before[each]} - found
    return found
