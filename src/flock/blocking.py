"""Blocking twins: a Flock and its board for code that does not `await`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, Self, TypeVar

from opentelemetry.trace import Span
from pydantic import BaseModel

from flock.board.homed import HomeKeeper
from flock.board.keeper import BoardKeeper
from flock.model.artifact import Artifact
from flock.model.events import Event
from flock.orchestrator import Orchestrator
from flock.ports import Observer
from flock.sync import BlockingIterator, Portal, blocking

T = TypeVar("T")


class SyncFlock:
    """Every call of a Flock as one that blocks until it is done on the Flock's home loop, as `Portal.call` says."""

    def __init__(self, flock: Orchestrator, portal: Portal) -> None:
        """Call this Flock by way of its portal."""
        self.target = flock
        self.portal = portal

    ready = blocking(Orchestrator.ready)
    publish = blocking(Orchestrator.publish)
    publish_many = blocking(Orchestrator.publish_many)
    invoke = blocking(Orchestrator.invoke)
    run = blocking(Orchestrator.arun)
    ask = blocking(Orchestrator.ask)
    run_until_idle = blocking(Orchestrator.run_until_idle)
    run_until = blocking(Orchestrator.run_until)
    status = blocking(Orchestrator.status)
    cancel = blocking(Orchestrator.cancel)
    retry = blocking(Orchestrator.retry)

    def stream(
        self, *types: type[BaseModel], correlation_id: str | None = None, since: int | None = None
    ) -> BlockingIterator[Artifact]:
        """Give artifacts as `Flock.stream` does; leaving the iteration early closes it."""
        self.ready()
        return self.portal.iterate_blocking(self.target.stream(*types, correlation_id=correlation_id, since=since))

    def events(self, *, capacity: int = 1000) -> BlockingIterator[Event]:
        """Give what happens as `Flock.events` does; leaving the iteration early closes it."""
        return self.portal.iterate_blocking(self.target.events(capacity=capacity))

    @contextmanager
    def traced_run(
        self, name: str = "workflow", *, correlation_id: str | None = None, on_event: Observer | None = None
    ) -> Generator[Span, None, None]:
        """Make a run the ambient one of the calling code, as `Flock.traced_run` does."""
        self.ready()
        caller, failure = self.target.caller, None
        with caller.traced(name, correlation_id) as span:
            observer = self.call(caller.begin, name, on_event)
            try:
                yield span
            except BaseException as error:
                failure = error
                raise
            finally:
                self.call(caller.end, name, observer, failure)

    @property
    def store(self) -> SyncStore:
        """The board as its operator has it."""
        return SyncStore(self.portal, self.target.store)

    def call(self, async_fn: Callable[..., Awaitable[T]], *args: Any, timeout: float | None = None) -> T:  # noqa: ANN401 - any
        """Run an async function on the home loop, where it may await the Flock and keep what is bound to a loop."""
        return self.portal.call(async_fn, *args, timeout=timeout)

    def close(self) -> None:
        """Shut down, as `Flock.shutdown` does, and end the loop that was started for blocking calls; once."""
        self.portal.close()

    def __enter__(self) -> Self:
        """Start."""
        self.ready()
        return self

    def __exit__(self, *_: object) -> None:
        """Shut down."""
        self.close()


class SyncStore:
    """The board as its operator has it, for code that blocks."""

    def __init__(self, portal: Portal, keeper: BoardKeeper) -> None:
        """Read at home."""
        self.portal = portal
        self.target = keeper

    list = blocking(HomeKeeper.list)
    get = blocking(HomeKeeper.get)
    get_by_type = blocking(HomeKeeper.get_by_type)
    query = blocking(HomeKeeper.query)
    lineage = blocking(HomeKeeper.lineage)
    why = blocking(HomeKeeper.why)
    why_not = blocking(HomeKeeper.why_not)
    consumptions = blocking(HomeKeeper.consumptions)
    runs = blocking(HomeKeeper.runs)
    waiting = blocking(HomeKeeper.waiting)
    failures = blocking(HomeKeeper.failures)
    fork = blocking(HomeKeeper.fork)
    prune = blocking(HomeKeeper.prune)
    vacuum = blocking(HomeKeeper.vacuum)
    info = blocking(HomeKeeper.info)

    def replay(self, until: Artifact | int | None = None) -> SyncStore:
        """Give the board as it was at a sequence, as `BoardKeeper.replay` does."""
        return SyncStore(self.portal, self.portal.call(self.target.replay, until))
