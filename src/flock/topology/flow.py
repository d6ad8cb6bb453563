"""What flows between agents as they are declared: who may supply which type to whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from pydantic import BaseModel

from flock.core.agent import Agent, Subscription, counters
from flock.model.artifact import EXTERNAL
from flock.model.evaluation import Failure, group_types
from flock.model.payload import type_name

Model = type[BaseModel]


class Flow:
    """The agents of one board and the types that they name, both in order of declaration."""

    def __init__(self, agents: Sequence[Agent]) -> None:
        """Look at these agents."""
        self.agents = tuple(agents)
        self.open = tuple(agent.name for agent in agents if any(not group.declared for group in agent.outputs))
        self.types = tuple(dict.fromkeys(kind for agent in agents for kind in _named(agent)))
        self._simple = Counter(kind.__name__ for kind in self.types)

    def label(self, kind: Model) -> str:
        """Give the class's own name, or its stable name where two classes share that."""
        return kind.__name__ if self._simple[kind.__name__] <= 1 else type_name(kind)

    def suppliers(self, subscription: Subscription, kind: Model) -> tuple[Agent, ...]:
        """Give the agents that declare to publish what may come to this subscription as this type."""
        return tuple(
            agent
            for agent in self.agents
            if self.reaches(agent, subscription) and any(may_be(made, kind) for made in group_types(agent.outputs))
        )

    def reaches(self, source: Agent, subscription: Subscription) -> bool:
        """Say whether a subscription takes anything from this agent."""
        if source.name == subscription.target.agent and source.prevent_self_trigger:
            return False
        return not subscription.from_agents or source.name in subscription.from_agents

    def ends(self) -> Iterator[tuple[Model, tuple[str, ...]]]:
        """Give each type that agents publish and none takes or counts, with its publishers."""
        for kind in dict.fromkeys(kind for agent in self.agents for kind in group_types(agent.outputs)):
            publishers = [agent for agent in self.agents if kind in group_types(agent.outputs)]
            if not any(self._takes(agent, kind, publishers) for agent in self.agents):
                yield kind, tuple(agent.name for agent in publishers)

    def _takes(self, agent: Agent, kind: Model, publishers: Sequence[Agent]) -> bool:
        return any(
            any(may_be(kind, tally.type) for tally in counters(subscription))
            or (
                any(may_be(kind, wanted) for wanted in subscription.types)
                and any(self.reaches(publisher, subscription) for publisher in publishers)
            )
            for subscription in automatic(agent)
        )


def automatic(agent: Agent) -> tuple[Subscription, ...]:
    """Give the subscriptions that artifacts fire."""
    return tuple(subscription for subscription in agent.subscriptions if subscription.mode != "direct")


def from_outside(subscription: Subscription) -> bool:
    """Say whether a subscription takes what comes from outside."""
    return not subscription.from_agents or EXTERNAL in subscription.from_agents


def may_be(made: Model, wanted: Model) -> bool:
    """Say whether what is declared as one type may match the other: a subclass, or a base that covers it."""
    if issubclass(made, Failure) or issubclass(wanted, Failure):
        return issubclass(made, Failure) and issubclass(wanted, Failure)
    return issubclass(made, wanted) or issubclass(wanted, made)


def _named(agent: Agent) -> Iterator[Model]:
    for subscription in agent.subscriptions:
        yield from subscription.types
        yield from (tally.type for tally in counters(subscription))
    yield from group_types(agent.outputs)
