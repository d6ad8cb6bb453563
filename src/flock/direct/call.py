"""Calling: runs as a context, and agents called directly in them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from functools import partial
from typing import Any, TypeVar

from opentelemetry.trace import Span

from flock.core.agent import Agent
from flock.core.ambient import Acting, Ambient, current, here
from flock.core.clock import deadline
from flock.core.publish import Spine
from flock.core.schedule import Scheduler
from flock.direct.wait import Waiter
from flock.model.artifact import Artifact, Record
from flock.model.errors import ConfigurationError, WaitError
from flock.model.events import Event
from flock.ports import Observer

T = TypeVar("T")


class Caller:
    """Calls agents of one board."""

    def __init__(self, spine: Spine, scheduler: Scheduler, waiter: Waiter) -> None:
        """Work with these parts."""
        self._spine = spine
        self._scheduler = scheduler
        self._waiter = waiter

    @property
    def run(self) -> str:
        """The run that a publish would join here and now."""
        ambient = here(self._spine)
        return self._spine.default_run if ambient is None else ambient.run

    @contextmanager
    def traced(self, name: str, run: str | None) -> Generator[Span, None, None]:
        """Make a run (None: a new one) the ambient one, with a span around it."""
        level = Ambient(self._spine, run or self._spine.clock.new_id(), current.get())
        token = current.set(level)
        try:
            with self._spine.metrics.workflow(name, level.run) as span:
                yield span
        finally:
            current.reset(token)

    async def begin(self, name: str, on_event: Observer | None) -> Observer | None:
        """Tell that the ambient run has begun; `on_event` is told what happens in it. Gives what `end` takes."""
        run, signals = self.run, self._spine.signals
        if on_event is None:
            observer = None
        else:
            observer = partial(_tell_of, run, on_event)
            signals.observe(observer)
        signals.emit("run_started", run=run, reason=name)
        return observer

    async def end(self, name: str, observer: Observer | None, error: BaseException | None) -> None:
        """Tell that the code of the ambient run has ended."""
        self._spine.signals.emit("run_ended", run=self.run, reason=name, error=error)
        if observer is not None:
            self._spine.signals.dismiss(observer)

    async def invoke(self, agent: str, inputs: tuple[Any, ...], timeout: float | None) -> list[Artifact]:
        """Run an agent once, in the ambient run or in one of its own."""
        with self._some_run(f"invoke {agent}"):
            return await self._direct(agent, inputs, timeout)

    async def until_idle(self, agent: str, inputs: tuple[Any, ...], timeout: float | None) -> list[Artifact]:
        """Invoke, then wait until that run is idle."""
        if isinstance(here(self._spine), Acting):
            raise WaitError("an agent can't wait for its own run: use invoke, or open a traced_run() around arun")
        with self._some_run(f"run {agent}"):
            async with self._in_time(timeout, f"{agent} and what followed"):
                outputs = await self._direct(agent, inputs, None)
                await self._waiter.idle(timeout=None, run=None, drain=False)
                return outputs

    async def ask(self, obj: object, returns: type[T], timeout: float | None) -> T:
        """Publish in a run of its own and wait for the answer; when that takes too long the run is cancelled."""
        run = self._spine.clock.new_id()
        try:
            with self.traced(f"ask {returns.__name__}", run):
                async with self._waiter.lent(), self._in_time(timeout, f"an answer of type {returns.__name__}"):
                    (asked,) = await self._spine.publish([self._spine.record(obj, correlation_id=run)])
                    return await self._waiter.answer(run, returns, asked)
        except (TimeoutError, asyncio.CancelledError):
            await self._scheduler.cancel_run(run)
            raise

    @asynccontextmanager
    async def _in_time(self, timeout: float | None, what: str) -> AsyncGenerator[None, None]:
        """End the body when its time is over, and say what took too long."""
        scope: asyncio.Timeout | None = None
        try:
            async with deadline(self._spine.clock, timeout) as scope:
                yield
        except TimeoutError as error:
            if scope is None or not scope.expired():
                raise
            raise TimeoutError(f"{what} took longer than {timeout:g} s") from error

    def _some_run(self, name: str) -> AbstractContextManager[Span | None]:
        """Stay in the ambient run, or open one."""
        return self.traced(name, None) if here(self._spine) is None else nullcontext()

    async def _direct(self, agent: str, inputs: tuple[Any, ...], timeout: float | None) -> list[Artifact]:
        spine = self._spine
        who = spine.roster.get(agent)
        if who.subscriptions and all(subscription.mode == "events" for subscription in who.subscriptions):
            raise ConfigurationError(f"agent {agent!r} is declared mode='events': it can't be invoked")
        records: list[Record] = []
        for each in inputs:
            stored = await spine.store.get([each.id]) if isinstance(each, Artifact) and each.sequence else ()
            records.append(stored[0] if stored else spine.record(each))
        fresh = [record for record in records if not record.sequence]
        async with self._waiter.lent(), self._in_time(timeout, agent):
            made = await self._scheduler.direct(who, fresh, _in_declared_order(who, records), self.run)
        return [Artifact.of(record) for record in made]


def _tell_of(run: str, on_event: Observer, event: Event) -> None:
    if event.run == run:
        on_event(event)


def _in_declared_order(agent: Agent, records: list[Record]) -> tuple[Record, ...]:
    """Sort inputs by the types that the agent declares (P8); those of one type keep the caller's order."""
    types = [kind for subscription in agent.subscriptions for kind in subscription.types]

    def rank(record: Record) -> int:
        return next((place for place, kind in enumerate(types) if isinstance(record.snapshot, kind)), len(types))

    return tuple(sorted(records, key=rank))
