"""Enlisting: from declarations to agents on the roster, with their schedules and what they replay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pydantic import BaseModel

from flock.core import match
from flock.core.agent import Agent
from flock.core.lifecycle import LifecycleManager
from flock.core.publish import Spine
from flock.core.schedule import Scheduler
from flock.declaring.builder import AgentBuilder, name_of
from flock.model.artifact import Record
from flock.model.errors import ConfigurationError
from flock.model.evaluation import group_types
from flock.model.ledger import Commit, Offer, Query
from flock.model.payload import copier

Choice = Callable[[AgentBuilder], Iterable[object]]
AgentName = str | Agent | AgentBuilder | Callable[..., Any]


class Registrar:
    """Reserves names at once, makes agents at the Flock's next operation, and starts what they need on the loop."""

    def __init__(self, spine: Spine, scheduler: Scheduler, lifecycle: LifecycleManager, engines: Choice) -> None:
        """`engines` chooses those of a declaration; it raises ConfigurationError when it can't."""
        self._spine = spine
        self._scheduler = scheduler
        self._lifecycle = lifecycle
        self._engines = engines
        self.pending: dict[str, AgentBuilder] = {}
        self.fresh: list[tuple[Agent, int | None]] = []  # not started, with the last sequence before they were there
        self.joined: dict[str, int] = {}  # the same of all agents, by name
        self._functions: dict[Callable[..., Any], str] = {}

    def reserve(self, builder: AgentBuilder, fn: Callable[..., Any] | None = None) -> AgentBuilder:
        """Keep a name for a declaration, that of a function maybe; raises ConfigurationError when it is taken."""
        name = builder.declared.name
        if self.pending.get(name, builder) is not builder or name in self._spine.roster.agents:
            raise ConfigurationError(f"there is an agent named {name!r} already")
        self.pending[name] = builder
        if fn is not None:
            self._functions[fn] = name
        return builder

    def named(self, agent: AgentName) -> str:
        """Give the name of an agent, however it is named."""
        match agent:
            case str():
                return agent
            case Agent():
                return agent.name
            case AgentBuilder():
                return agent.declared.name
            case _:
                return self._functions.get(agent) or name_of(agent)

    @property
    def waits(self) -> bool:
        """True when something declared has not started yet."""
        return bool(self.pending or self.fresh)

    def freeze(self) -> None:
        """Make agents of what was declared; a declaration that can't work is dropped and raises."""
        while self.pending:
            builder = self.pending.pop(next(iter(self.pending)))
            agent = builder.freeze(self._engines(builder))
            self._spine.roster.add(agent)
            self.joined[agent.name] = self._spine.last_sequence
            self.fresh.append((agent, self._spine.last_sequence or None))

    def forget(self, name: str) -> None:
        """Know an agent no more that was removed; if it has not started, nothing of it does."""
        self.fresh = [pair for pair in self.fresh if pair[0].name != name]
        self._functions = {fn: known for fn, known in self._functions.items() if known != name}

    async def enlist(self) -> None:
        """Make agents, and start their schedules and replays on the running loop; they wait on if that fails."""
        self.freeze()
        fresh, self.fresh = self.fresh, []
        try:
            await self._start(fresh)
        except BaseException:
            self.fresh[:0] = fresh
            raise

    async def _start(self, fresh: Sequence[tuple[Agent, int | None]]) -> None:
        for agent, _ in fresh:
            self._spine.store.declare([agent.timer, agent.direct, *[each.target for each in agent.subscriptions]])
            self._prepare(agent)
        if any(agent.schedule is not None for agent, _ in fresh):
            timers = await self._spine.store.timers()
            for agent, _ in fresh:
                self._lifecycle.watch(agent, timers.get(agent.name))
        for agent, until in fresh:
            if any(subscription.replay for subscription in agent.subscriptions):
                await self._replay(agent, until)
        if fresh:
            await self._scheduler.claim()

    def _prepare(self, agent: Agent) -> None:
        """Do what the first artifact of a type would have to wait for."""
        consumed = [kind for each in agent.subscriptions if each.mode != "direct" for kind in each.types]
        for kind in consumed:
            self._spine.roster.route(kind)
        for kind in {*consumed, *group_types(agent.outputs)} - {BaseModel}:  # of which there are no instances
            copier(kind)

    async def _replay(self, agent: Agent, until: int | None) -> None:
        """Offer an agent that came late what was on the board before; a predicate that raises is told as ever (P7)."""
        late = [subscription.target for subscription in agent.subscriptions if subscription.replay]
        entries = [entry for entry in match.entries_of(agent) if entry.target in late]
        offers: list[Offer] = []
        rejections: list[match.Rejection] = []
        for record in await self._spine.store.query(Query(until=until)):
            found = match.route(type(record.snapshot), entries)
            match.match(found, record, offers, rejections)
        for offer in offers:
            offer.replayed = True
        failures: list[Record] = []
        self._spine.reject(rejections, failures, offers)
        commit = Commit(records=failures, offers=offers, limits=self._spine.roster.limits)
        self._spine.dispatch(await self._spine.store.commit(commit))
