"""The orchestrator: wires the ports to the core."""

from __future__ import annotations

import asyncio
import types
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any, Self, TypeVar, overload

from opentelemetry.trace import Span
from pydantic import BaseModel
from typing_extensions import override

from flock.board.homed import HomeKeeper
from flock.board.keeper import BoardKeeper, Joined, Program
from flock.board.ports import keeping
from flock.core.agent import Agent
from flock.core.clock import SystemClock
from flock.core.components import ComponentRunner
from flock.core.execute import Limits
from flock.core.publish import Spine
from flock.core.roster import Roster
from flock.core.signals import Signals
from flock.declaring.builder import AgentBuilder, declared_in, name_of
from flock.declaring.enlist import AgentName
from flock.direct.events import EventStream
from flock.engines import function
from flock.engines.choose import EngineChooser
from flock.engines.threads import Threads
from flock.home import Home
from flock.model.artifact import UNTAGGED, Artifact
from flock.model.collect import positive
from flock.model.errors import ConfigurationError, FlockError, PublishError
from flock.model.evaluation import Failure
from flock.model.events import RunReport, RunStatus
from flock.model.visibility import Visibility
from flock.ports import BoardHandle, Clock, Observer, OrchestratorComponent, Store
from flock.stores.url import open_store
from flock.sync import HomeKind, Portal, at_home
from flock.telemetry.adapter import OpenTelemetry
from flock.topology import Finding, Graph, check, graph

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
_DEFAULT_RUN = "default"


class Orchestrator:
    """A board and the agents on it, for code that awaits. What has to be awaited runs on one event loop, its home."""

    def __init__(
        self,
        model: str | None = None,
        *,
        name: str | None = None,
        store: str | Store | None = None,
        max_concurrency: int | None = None,
        max_pending: int | None = None,
        max_depth: int = 1000,
        max_activations: int | None = None,
        clock: Clock | None = None,
        components: Sequence[OrchestratorComponent] = (),
        observers: Sequence[Observer] = (),
        home: HomeKind = "auto",
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    ) -> None:
        """Wire a board. Raises ConfigurationError for what can't work; starts nothing."""
        self.name = name or _DEFAULT_RUN
        Failure.model_rebuild()  # here, since pydantic's building at first use is not safe between threads
        clock = clock or SystemClock()
        metrics = OpenTelemetry(clock.new_id(), self.name)
        signals = Signals(clock, metrics, observers)
        self._spine = Spine(
            store=_opened("memory://" if store is None else store), clock=clock, roster=Roster(), signals=signals,
            metrics=metrics, default_run=self.name, max_pending=_limit("max_pending", max_pending),
        )  # fmt: skip
        self.component_runner = ComponentRunner(components, signals)
        most, chains = _limit("max_activations", max_activations), _limit("max_concurrency", max_concurrency)
        limits = Limits(max_depth=positive("max_depth", max_depth), max_activations=most, max_concurrency=chains)
        board = BoardHandle(lambda: self.store, self.publish, self.cancel)
        threads = Threads(f"flock {self.name}")
        engines = EngineChooser(model, threads)
        self._home = Home(self._spine, self.component_runner, board, limits, engines, threads)
        self.portal = Portal(self.name, home, loop_factory, ending=self._end, on_fork=self._home.forget)
        self._registrar = self._home.registrar
        self._waiter, self.caller = self._home.waiter, self._home.caller
        self.scheduler, self.lifecycle = self._home.scheduler, self._home.lifecycle

    # ---- agents

    @overload
    def agent(self, name: str) -> AgentBuilder: ...
    @overload
    def agent(self, name: F) -> F: ...
    def agent(self, name: str | F) -> AgentBuilder | F:
        """Start declaring an agent by name, or make a function one: `@flock.agent`. It reserves its name at once."""
        if isinstance(name, str):
            return self._registrar.reserve(AgentBuilder(name))
        builder = AgentBuilder(name_of(name)).calls(name)
        function.declare(builder, name)
        self._registrar.reserve(builder, name)
        return name

    def include(self, *sources: types.ModuleType | Callable[..., Any] | AgentBuilder) -> None:
        """Register what modules declare with `@agent`, or single functions and builders."""
        for each in declared_in(sources):
            if isinstance(each, AgentBuilder):
                self._registrar.reserve(each)
            else:
                self.agent(each)

    @property
    def agents(self) -> Mapping[str, Agent]:
        """The registered agents by name."""
        self._registrar.freeze()
        return types.MappingProxyType(self._spine.roster.agents)

    def get_agent(self, name: str) -> Agent:
        """Give an agent; raises ConfigurationError that lists the known ones."""
        self._registrar.freeze()
        return self._spine.roster.get(name)

    def remove_agent(self, name: str) -> None:
        """Let an agent go. What runs ends; what waits for it stays and goes on when an agent of that name is back."""
        self._registrar.freeze()
        self._spine.roster.remove(name)
        self._registrar.forget(name)
        self.lifecycle.unwatch(name)
        self._home.executor.forget(name)

    @at_home
    async def ready(self) -> None:
        """Start, and register what was declared."""
        await self._home.enter()

    def check(self) -> list[Finding]:
        """Look for what is probably a mistake in how the agents fit together."""
        self._registrar.freeze()
        return check(self._spine.roster.agents.values(), self._home.missing)

    def graph(self) -> Graph:
        """Give the graph of types and agents, to draw or to save."""
        self._registrar.freeze()
        return graph(self._spine.roster.agents.values())

    # ---- publishing

    @at_home
    async def publish(
        self,
        obj: BaseModel | Mapping[str, Any] | Artifact,
        *,
        id: str | None = None,
        correlation_id: str | None = None,
        partition_key: str | None = None,
        tags: Iterable[str] = (),
        visibility: Visibility | None = None,
    ) -> Artifact:
        """Put one object on the board; returns when it is durable.

        Raises PublishError for what is invalid or comes too late for a cancelled run; nothing is stored then. The same
        `id` with the same content gives the stored artifact.
        """
        if self._home.loop is not asyncio.get_running_loop() or self._registrar.waits or self._spine.closed:
            await self._home.enter(publishing=True)
        record = self._spine.record(obj, id, correlation_id, partition_key, _tags(tags), visibility)
        (stored,) = await self._spine.publish([record])
        return Artifact.of(stored)

    @at_home
    async def publish_many(
        self,
        objs: Iterable[BaseModel | Mapping[str, Any] | Artifact],
        *,
        id: Sequence[str] | None = None,
        correlation_id: str | None = None,
        partition_key: str | None = None,
        tags: Iterable[str] = (),
        visibility: Visibility | None = None,
    ) -> list[Artifact]:
        """Put several objects on the board in one commit: all or nothing. `id` takes one id per object."""
        await self._home.enter(publishing=True)
        several, labels = list(objs), _tags(tags)
        ids: Sequence[str | None] = [None] * len(several) if id is None else list(id)
        if len(ids) != len(several) or isinstance(id, str):
            raise PublishError(f"publish_many takes one id per object: {len(several)} objects, {len(ids)} ids")
        records = [
            self._spine.record(obj, each, correlation_id, partition_key, labels, visibility)
            for obj, each in zip(several, ids, strict=True)
        ]
        return [Artifact.of(record) for record in await self._spine.publish(records)] if records else []

    # ---- direct use

    @at_home
    async def invoke(self, agent: AgentName, *inputs: Any, timeout: float | None = None) -> list[Artifact]:  # noqa: ANN401
        """Run one agent once with exactly these inputs and give its outputs; raises what it raised.

        The inputs are published for every other agent, unless they are on the board. Past gates and predicates, but
        not past visibility, retry and timeout. A TimeoutError or cancellation cancels the activation.
        """
        await self._home.enter()
        return await self.caller.invoke(self._registrar.named(agent), inputs, timeout)

    @at_home
    async def arun(self, agent: AgentName, *inputs: Any, timeout: float | None = None) -> list[Artifact]:  # noqa: ANN401
        """Invoke, then wait until that run is idle; gives the agent's outputs."""
        await self._home.enter()
        return await self.caller.until_idle(self._registrar.named(agent), inputs, timeout)

    @at_home
    async def ask(self, obj: Any, returns: type[T], timeout: float | None = None) -> T:  # noqa: ANN401
        """Publish in a run of its own and give the first artifact of a type from that run, never the asked one.

        Raises AgentFailedError with the first Failure, WaitError with what waits when the run goes idle without an
        answer, TimeoutError; a timeout or cancellation cancels that run.
        """
        await self._home.enter(publishing=True)
        return await self.caller.ask(obj, returns, timeout)

    # ---- waiting

    @at_home
    async def run_until_idle(
        self, *, timeout: float | None = None, correlation_id: str | None = None, drain: bool = False
    ) -> RunReport:
        """Wait until no work is left: in the ambient `traced_run` if there is one, else on the whole board.

        After `timeout` seconds the report says `idle=False` and work goes on. `drain` flushes partial batches.
        """
        await self._home.enter()
        return await self._waiter.idle(timeout=timeout, run=correlation_id, drain=drain)

    @at_home
    async def run_until(self, condition: object, *, timeout: float | None = None) -> bool:
        """Wait until an Until condition holds; False after the timeout, or when nothing could make it true any more."""
        await self._home.enter()
        return await self._waiter.until(condition, timeout=timeout)

    @at_home
    async def status(self, correlation_id: str) -> RunStatus:
        """Say where a run stands."""
        await self._home.enter()
        return await self._waiter.status(correlation_id)

    @at_home
    async def cancel(self, correlation_id: str) -> int:
        """End one run for good; gives how many activations ended."""
        await self._home.enter()
        return await self.scheduler.cancel_run(correlation_id)

    @at_home
    async def retry(self, *ids: str, all: bool = False) -> Sequence[str]:  # noqa: A002 - what `ids` would be
        """Make failed activations ready again, with all their attempts; gives the ids of those that are.

        `store.failures()` lists them. Raises StoreError on a store that does not keep them.
        """
        await self._home.enter()
        if all == bool(ids):
            raise ConfigurationError("retry takes ids of failed activations, or all=True")
        retried = await keeping(self._spine.store).retry(None if all else ids)
        await self.scheduler.claim()
        return retried

    def stream(
        self, *types: type[BaseModel], correlation_id: str | None = None, since: int | None = None
    ) -> AsyncGenerator[Artifact, None]:
        """Give artifacts as they are committed from this call on (or after a sequence), until shutdown."""
        cursor = self._spine.last_sequence if since is None else since

        async def follow() -> AsyncGenerator[Artifact, None]:
            if not self._spine.closed:
                await self._home.enter()
            async with aclosing(self._waiter.follow(types, correlation_id, cursor)) as found:
                async for artifact in found:
                    yield artifact

        return self.portal.iterate(follow())

    def events(self, *, capacity: int = 1000) -> EventStream:
        """Give what happens from this call on; of what a slow reader misses the count is told."""
        return EventStream(self._spine.signals, positive("events(capacity=...)", capacity), self.portal.here)

    # ---- runs

    @asynccontextmanager
    async def traced_run(
        self, name: str = "workflow", *, correlation_id: str | None = None, on_event: Observer | None = None
    ) -> AsyncGenerator[Span, None]:
        """Make a run the ambient one: what is published inside belongs to it. Leaving it neither waits nor cancels.

        `on_event` is called with each event of the run, on the home loop, from its `run_started` to its `run_ended`.
        """
        await self.ready()
        with self.caller.traced(name, correlation_id) as span:
            observer, failure = await self.portal.here(partial(self.caller.begin, name, on_event)), None
            try:
                yield span
            except BaseException as error:
                failure = error
                raise
            finally:
                await self.portal.here(partial(self.caller.end, name, observer, failure))

    @property
    def correlation_id(self) -> str:
        """The run that a publish would join here and now."""
        return self.caller.run

    # ---- life

    @property
    def store(self) -> BoardKeeper:
        """The board as its operator has it: reads of everything, its past, and its upkeep."""
        program = Program(self._joined, lambda: self.agents, _opened)
        keeper = HomeKeeper(self._spine.store, self._spine.clock, self._spine.roster.types, program)
        return keeper.bind(self.portal, self._home)

    def use_store(self, store: str | Store) -> None:
        """Keep the board in another store than was declared; raises FlockError once the Flock has started."""
        if self._home.loop is not None:
            raise FlockError(f"Flock {self.name!r} has started: it keeps its store")
        self._spine.store = _opened(store)

    @at_home
    async def __aenter__(self) -> Self:
        """Start."""
        await self._home.enter()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Shut down."""
        await self.shutdown()

    async def shutdown(self, *, grace: float = 5.0) -> RunReport:
        """Stop intake, let running activations end for `grace` seconds, then cancel them; flushes and loses nothing.

        The report says what waits. A second call gives a report and does nothing.
        """
        report = await self.portal.here(partial(self._home.leave, grace))
        self.portal.retire()
        return report

    # ---- inside

    async def _end(self, at_once: bool) -> RunReport:  # noqa: FBT001 - called by the portal
        return await (self.shutdown(grace=0.0) if at_once else self.shutdown())

    def _joined(self, agent: AgentName) -> Joined:
        found = self.get_agent(self._registrar.named(agent))
        return found, self._registrar.joined[found.name]

    @override
    def __repr__(self) -> str:
        """Name it and its agents."""
        return f"<Flock {self.name!r} with {len(self._spine.roster.agents) + len(self._registrar.pending)} agents>"


def _opened(store: str | Store) -> Store:
    return open_store(store) if isinstance(store, str) else store


def _limit(name: str, value: int | None) -> int | None:
    return None if value is None else positive(name, value)


def _tags(tags: Iterable[str]) -> frozenset[str]:
    return frozenset({tags} if isinstance(tags, str) else tags) or UNTAGGED
