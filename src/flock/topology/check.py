"""Findings about a topology: what can't work, what probably won't, and what is good to know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

from typing_extensions import override

from flock.core.agent import Agent, Subscription, counters
from flock.model.evaluation import Failure
from flock.topology.cycles import endless, started
from flock.topology.flow import Flow, Model, automatic, from_outside, may_be

Level = Literal["error", "warning", "info"]
Kind = Literal[
    "no-agents", "impossible-join", "dead-subscription", "unreachable", "endless-loop", "dead-condition",
    "loop-needs-start", "from-outside", "condition-from-outside", "end-of-flow", "failures-unhandled", "direct-only",
    "undeclared-outputs", "undeclared-agent",
]  # fmt: skip
_ORDER = ("error", "warning", "info")


class Finding(NamedTuple):
    """One remark about how agents fit together. `message` says what to do; `agent` is None when it concerns several.

    An error can never work, a warning probably is a mistake, an info is good to know.
    """

    level: Level
    kind: Kind
    message: str
    agent: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Give the finding as plain JSON data."""
        return self._asdict()

    @override
    def __str__(self) -> str:
        """Say it in one line."""
        return f"{self.level}: {self.message}"


def check(agents: Iterable[Agent], waited_for: Iterable[str] = ()) -> list[Finding]:
    """Look at how agents fit together; gives errors first, then warnings, then information, the same every time.

    `waited_for` names agents for which something waits on the board.
    """
    flow = Flow(tuple(agents))
    if not flow.agents:
        message = "there are no agents: declare some with flock.agent(...)"
        return [Finding(level="warning", kind="no-agents", message=message)]
    found = [
        *_impossible_joins(flow),
        *_undeclared(flow, waited_for),
        *_dead(flow),
        *_endless_loops(flow),
        *_conditions(flow),
        *_outside(flow),
        *_ends(flow),
        *_directness(flow),
    ]
    return sorted(found, key=lambda finding: _ORDER.index(finding.level))


def _subscriptions(flow: Flow) -> Iterator[tuple[Agent, Subscription]]:
    return ((agent, subscription) for agent in flow.agents for subscription in automatic(agent))


def _undeclared(flow: Flow, waited_for: Iterable[str]) -> Iterator[Finding]:
    for name in sorted({*waited_for} - {agent.name for agent in flow.agents}):
        message = f"something on the board waits for {name}, which is not declared: declare it, or cancel those runs"
        yield Finding(level="warning", kind="undeclared-agent", agent=name, message=message)


def _impossible_joins(flow: Flow) -> Iterator[Finding]:
    for agent, subscription in _subscriptions(flow):
        join, need = subscription.join, sum(subscription.counts)
        if join is not None and isinstance(join.within, int) and join.within < need - 1:
            message = (
                f"{agent.name} joins {need} artifacts, but within={join.within} gives the first one up before the last "
                f"can come: use within={need - 1} or more, or a timedelta"
            )
            yield Finding(level="error", kind="impossible-join", agent=agent.name, message=message)


def _dead(flow: Flow) -> Iterator[Finding]:
    """Find what can't fire: subscriptions that nobody serves, and agents that wait for such an agent alone."""
    told: set[str] = set()
    for agent, subscription in _subscriptions(flow):
        for kind in subscription.types:
            if not (from_outside(subscription) or _supplied(flow, subscription, kind)):
                told.add(agent.name)
                yield _unserved(flow, agent, subscription, kind)
    start = started(flow)
    for names, kinds in start.loops:
        yield _unstarted(flow, names, kinds)
    for agent in flow.agents:
        if agent.name not in start.fires | told:
            silent = sorted({name for each in automatic(agent) for name in _silent(flow, each, start.fires)})
            message = (
                f"{agent.name} never fires by itself: what it waits for comes from {_all(silent)}, which "
                f"never {'fire' if len(silent) > 1 else 'fires'} either"
            )
            yield Finding(level="warning", kind="unreachable", agent=agent.name, message=message)


def _supplied(flow: Flow, subscription: Subscription, kind: Model) -> bool:
    return (
        bool(flow.suppliers(subscription, kind))
        or issubclass(kind, Failure)
        or any(agent.name in flow.open for agent in flow.agents if flow.reaches(agent, subscription))
    )


def _silent(flow: Flow, subscription: Subscription, fires: frozenset[str]) -> Iterator[str]:
    for kind in subscription.types:
        yield from (agent.name for agent in flow.suppliers(subscription, kind) if agent.name not in fires)


def _unserved(flow: Flow, agent: Agent, subscription: Subscription, kind: Model) -> Finding:
    known = {each.name for each in flow.agents} & subscription.from_agents
    why = "no agent of that name declares to publish it" if known else "there is no agent of that name"
    verb = "completes" if sum(subscription.counts) > 1 else "fires"
    message = (
        f"{agent.name} takes {flow.label(kind)} only from {_any(sorted(subscription.from_agents))}, but {why}: this "
        f"subscription never {verb}; correct from_agents= or what is published"
    )
    return Finding(level="warning", kind="dead-subscription", agent=agent.name, message=message)


def _unstarted(flow: Flow, names: tuple[str, ...], kinds: tuple[Model, ...]) -> Finding:
    wait = "wait for each other" if len(names) > 1 else "waits for itself"
    message = (
        f"{_all(names)} {wait}: nothing starts the loop until {_any([flow.label(kind) for kind in kinds])} "
        "is published from outside"
    )
    only = names[0] if len(names) == 1 else None
    return Finding(level="info", kind="loop-needs-start", agent=only, message=message)


def _endless_loops(flow: Flow) -> Iterator[Finding]:
    for loop in endless(flow):
        message = (
            f"nothing declared ends the loop {' > '.join(loop)}: narrow one of its steps with where=, or make sure "
            "that an agent stops publishing; else max_depth ends it with a Failure"
        )
        only = loop[0] if len(set(loop[::2])) == 1 else None
        yield Finding(level="warning", kind="endless-loop", agent=only, message=message)


def _conditions(flow: Flow) -> Iterator[Finding]:
    for agent, subscription in _subscriptions(flow):
        for tally in counters(subscription):
            if issubclass(tally.type, Failure):
                continue
            makers = [each.name for each in flow.agents if any(may_be(kind, tally.type) for kind in _made(each))]
            label, producer = flow.label(tally.type), tally.produced_by
            if producer is not None and producer not in {*makers, *flow.open, "external"}:
                message = (
                    f"when= of {agent.name} counts {label} by {producer!r}, which does not publish it: correct "
                    "produced_by= or what is published"
                )
                yield Finding(level="warning", kind="dead-condition", agent=agent.name, message=message)
            elif not makers:
                message = f"when= of {agent.name} counts {label}, which comes from outside only: inputs may wait for it"
                yield Finding(level="info", kind="condition-from-outside", agent=agent.name, message=message)


def _made(agent: Agent) -> Iterator[Model]:
    for group in agent.outputs:
        yield from group.types


def _outside(flow: Flow) -> Iterator[Finding]:
    consumers: dict[Model, list[str]] = {}
    for agent, subscription in _subscriptions(flow):
        for kind in subscription.types:
            inner = issubclass(kind, Failure) or flow.suppliers(subscription, kind)
            if from_outside(subscription) and not inner:
                consumers.setdefault(kind, []).append(agent.name)
    for kind, names in consumers.items():
        unsure = f" ({_all(flow.open)} may, without saying so)" if flow.open else ""
        message = (
            f"{flow.label(kind)} comes from outside only: {_all(_unique(names))} "
            f"{_verb(names, 'takes', 'take')} it and no other agent declares to publish it{unsure}"
        )
        yield Finding(level="info", kind="from-outside", message=message)


def _ends(flow: Flow) -> Iterator[Finding]:
    for kind, names in flow.ends():
        label = flow.label(kind)
        message = (
            f"{label} is an end of the flow: {_all(names)} {_verb(names, 'publishes', 'publish')} it and no agent "
            f"consumes it; read it with stream({kind.__name__}) or store.get_by_type({kind.__name__})"
        )
        yield Finding(level="info", kind="end-of-flow", message=message)
    if not any(issubclass(kind, Failure) for _, subscription in _subscriptions(flow) for kind in subscription.types):
        message = "no agent consumes Failure: failures are logged and stand in the report; consume it to handle them"
        yield Finding(level="info", kind="failures-unhandled", message=message)


def _directness(flow: Flow) -> Iterator[Finding]:
    for agent in flow.agents:
        if not automatic(agent) and agent.schedule is None:
            message = f"{agent.name} runs only when invoked: it has neither a subscription that fires nor a schedule"
            yield Finding(level="info", kind="direct-only", agent=agent.name, message=message)
        if agent.name in flow.open:
            message = (
                f"{agent.name} does not say what it publishes: annotate what its function returns or add "
                "publishes(...), and checks and graphs can show it"
            )
            yield Finding(level="info", kind="undeclared-outputs", agent=agent.name, message=message)


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _verb(names: Iterable[str], one: str, several: str) -> str:
    return one if len(set(names)) == 1 else several


def _all(names: Iterable[str]) -> str:
    return _listed(list(names), "and")


def _any(names: Iterable[str]) -> str:
    return _listed(list(names), "or")


def _listed(names: list[str], word: str) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"
