"""Matching: which subscriptions an artifact is for. Pure over one artifact."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from pydantic import BaseModel

from flock.core.agent import Agent, Subscription, counters
from flock.core.gates import encode_key
from flock.model.artifact import Record
from flock.model.evaluation import Failure
from flock.model.ledger import Offer, Target
from flock.model.payload import Unreadable
from flock.model.visibility import PUBLIC, AfterVisibility, Identity

Objection = Literal["visibility", "own output", "tags", "producer", "run"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Entry:
    """One way into a subscription: a slot of it, or (below zero) a counter of its condition."""

    target: Target
    identity: Identity
    kind: type[BaseModel]
    slot: int
    where: Callable[[Any], bool] | None
    key: Callable[[Any], object] | None = None
    tags: frozenset[str] = frozenset()
    from_agents: frozenset[str] = frozenset()
    run: str | None = None
    own: bool = True

    def objection(self, record: Record) -> Objection | None:
        """Say what speaks against a record, or None; asks everything but type and predicate."""
        producer = record.produced_by
        if not record.visibility.allows(self.identity):
            return "visibility"
        if not self.own and producer == self.target.agent:
            return "own output"
        if not self.tags <= record.tags:
            return "tags"
        if self.from_agents and producer not in self.from_agents:
            return "producer"
        return None if self.run is None or self.run == record.run else "run"


class Route(NamedTuple):
    """Where artifacts of one class may go: entries with their predicates, and whether any asks for more.

    `shy` names the agents that don't want what they published themselves.
    """

    entries: Sequence[tuple[Callable[[Any], bool] | None, Entry]]
    choosy: bool
    shy: frozenset[str]


class Rejection(NamedTuple):
    """A predicate or key function that raised."""

    entry: Entry
    record: Record
    error: Exception


_ONLY_BY_NAME: Final = (Failure, Unreadable)  # these match no subscription to a base class
NOWHERE = Route((), choosy=False, shy=frozenset())


def entries_of(agent: Agent) -> Iterator[Entry]:
    """Give every way into an agent's subscriptions that a publish may take."""
    for subscription in agent.subscriptions:
        if subscription.mode != "direct":
            yield from ways_into(agent, subscription)


def ways_into(agent: Agent, subscription: Subscription) -> Iterator[Entry]:
    """Give every way into one subscription: its slots, then its counters."""
    for slot, kind in enumerate(subscription.types):
        yield Entry(
            target=subscription.target, identity=agent.identity, kind=kind, slot=slot, where=subscription.where,
            key=None if subscription.join is None else subscription.join.by, tags=subscription.tags,
            from_agents=subscription.from_agents, own=not agent.prevent_self_trigger,
        )  # fmt: skip
    for number, tally in enumerate(counters(subscription)):
        yield Entry(
            target=subscription.target, identity=agent.identity, kind=tally.type, slot=-1 - number, where=tally.where,
            tags=tally.tags, run=tally.correlation_id,
            from_agents=frozenset() if tally.produced_by is None else frozenset({tally.produced_by}),
        )  # fmt: skip


def route(cls: type[BaseModel], entries: Iterable[Entry]) -> Route:
    """Choose the entries for one class: each subscription's slot of the nearest base, in order of registration."""
    order = {base: rank for rank, base in enumerate(cls.__mro__)}
    own = next((kind for kind in _ONLY_BY_NAME if issubclass(cls, kind)), BaseModel)
    nearest: dict[tuple[str, int], Entry] = {}
    for entry in entries:
        rank = order.get(entry.kind)
        if rank is None or not issubclass(entry.kind, own):
            continue
        place = (entry.target.subscription, min(entry.slot, 0))
        other = nearest.get(place)
        if other is None or rank < order[other.kind]:
            nearest[place] = entry
    chosen = [(entry.where, entry) for entry in nearest.values()]
    if not chosen:
        return NOWHERE
    choosy = any(entry.tags or entry.from_agents or entry.run is not None for _, entry in chosen)
    return Route(chosen, choosy, frozenset(entry.target.agent for _, entry in chosen if not entry.own))


def match(found: Route, record: Record, offers: list[Offer], rejections: list[Rejection]) -> None:
    """Add an offer for each subscription that this artifact is for; predicates that raise become rejections."""
    visibility, payload = record.visibility, record.snapshot
    open_to_all = visibility is PUBLIC and not found.choosy and record.produced_by not in found.shy
    not_before = record.due if isinstance(visibility, AfterVisibility) else 0.0
    everybody = found.entries
    for where, entry in everybody if open_to_all else [pair for pair in everybody if not pair[1].objection(record)]:
        try:
            if where is None or where(payload):
                key = "" if entry.key is None else encode_key(entry.key(payload))
                offers.append(Offer(entry.target, record, entry.slot, key, not_before))
        except Exception as error:  # noqa: BLE001 - the guard of predicates and keys: each becomes a rejection
            rejections.append(Rejection(entry, record, error))
