"""One `flock run`: publish, wait, stop in an orderly way whatever ends it."""

import asyncio
import signal
import sys
import warnings
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from pydantic import BaseModel

from flock.app import Flock
from flock.core.clock import SystemClock, deadline
from flock.model.artifact import EXTERNAL, Artifact
from flock.model.evaluation import Failure
from flock.model.events import RunReport

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_GRACE = {"idle": 5.0, "timeout": 0.0, "interrupted": 1.0}  # seconds that running activations have at the end
_LAST_ORDERS = 5.0  # seconds for what the last tick of a schedule set off

End = Literal["idle", "timeout", "interrupted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to do: the objects to publish, how long to wait (s), and whether to flush partial batches."""

    objects: Sequence[Mapping[str, Any]] = ()
    timeout: float | None = None
    drain: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How it went. `results` are what agents made and no agent consumes; `stuck` says that a body did not stop."""

    end: End
    report: RunReport
    published: int
    results: tuple[Artifact, ...]
    notes: tuple[str, ...]
    stuck: bool


async def run(
    flock: Flock, request: Request, progress: AbstractAsyncContextManager[None], at_once: Callable[[], NoReturn]
) -> Outcome:
    """Publish and wait for the end; SIGINT and SIGTERM shut down in good order, a second one ends the process at once.

    Raises FlockError for what can't be published or started; nothing was published then.
    """
    clock = SystemClock()
    session = _Session(flock, request, clock.now())
    with _stopped_by_signals(at_once) as stop:
        try:
            await session.open()
            async with progress:
                await session.work(stop)
                await session.look()
        finally:
            await session.close()
    took = clock.now() - session.started
    return session.outcome(took)


@asynccontextmanager
async def silence() -> AsyncGenerator[None]:
    """Show no progress."""
    yield


class _Session:
    def __init__(self, flock: Flock, request: Request, started: float) -> None:
        self._flock = flock
        self._request = request
        self.started = started
        self._end: End = "interrupted"
        self._report: RunReport | None = None
        self._last = RunReport(idle=True)
        self._published: list[Artifact] = []
        self._results: tuple[Artifact, ...] = ()
        self._notes: tuple[str, ...] = ()
        self._stuck = False

    async def open(self) -> None:
        """Start, and go on with what is on the board."""
        await self._flock.ready()

    async def work(self, stop: asyncio.Event) -> None:
        """Publish and wait until the end or a signal."""
        work = asyncio.create_task(self._whole(), name="flock run")
        halt = asyncio.create_task(stop.wait(), name="flock signals")
        try:
            await asyncio.wait({work, halt}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            halt.cancel()
            interrupted = not work.done()
            work.cancel()
            await asyncio.wait({work, halt})
        if not interrupted:
            self._end, self._report = work.result()

    async def _whole(self) -> tuple[End, RunReport]:
        flock, request = self._flock, self._request
        if request.objects:
            self._published = await flock.publish_many(request.objects)
        elif any(agent.schedule is not None for agent in flock.agents.values()):
            return "idle", await self._follow_schedules()
        report = await flock.run_until_idle(timeout=request.timeout, drain=request.drain)
        return ("idle" if report.idle else "timeout"), report

    async def _follow_schedules(self) -> RunReport:
        """Let schedules fire until the time is over or the last has fired; schedules are no work to wait for."""
        flock = self._flock
        with suppress(TimeoutError):
            async with deadline(SystemClock(), self._request.timeout):
                events = flock.events()
                while flock.lifecycle.waiting():
                    await anext(events)
        for name in flock.agents:
            flock.lifecycle.unwatch(name)
        return await flock.run_until_idle(timeout=_LAST_ORDERS, drain=self._request.drain)

    async def look(self) -> None:
        """Read what agents made and no agent consumes, while the board is open."""
        agents = self._flock.agents.values()
        taken: tuple[type[BaseModel], ...] = (
            Failure,
            *{kind for agent in agents for each in agent.subscriptions for kind in each.types},
        )
        since = self._published[0].sequence if self._published else 0
        found = await self._flock.store.query(since=since)
        self._results = tuple(
            artifact
            for artifact in found
            if artifact.produced_by != EXTERNAL
            and not isinstance(artifact.record.snapshot, taken)
            and artifact.record.created >= self.started
        )

    async def close(self) -> None:
        """Shut down; what Flock warns of becomes a note."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self._last = await self._flock.shutdown(grace=_GRACE[self._end])
        self._notes = tuple(str(each.message) for each in caught)
        if self._report is not None and self._did_nothing(self._report):
            self._notes += ("nothing was published and no schedule fired: --publish gives the flow something to do",)
        self._stuck = len(asyncio.all_tasks()) > 1

    def _did_nothing(self, report: RunReport) -> bool:
        return not (self._published or report.succeeded or report.failed or report.waiting)

    def outcome(self, took: float) -> Outcome:
        """Sum up, with what ended while it shut down."""
        last = self._last
        report = last
        if self._report is not None:
            report = self._report._replace(
                succeeded=self._report.succeeded + last.succeeded,
                failed=self._report.failed + last.failed,
                cancelled=self._report.cancelled + last.cancelled,
                failures=self._report.failures + last.failures,
            )
        return Outcome(
            end=self._end if self._end != "idle" or report.idle else "timeout",
            report=report._replace(duration=took),
            published=len(self._published),
            results=self._results,
            notes=self._notes,
            stuck=self._stuck,
        )


@contextmanager
def _stopped_by_signals(at_once: Callable[[], NoReturn]) -> Generator[asyncio.Event]:
    """Give an event that the first signal sets; the second ends the process, even from a body that holds the loop.

    An exception would not do that: it can be raised in a callback that swallows it, or in a body with clean-up to wait
    for. The loop's own handler stays beneath, since it wakes a loop that sleeps.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def again(*_: object) -> None:
        at_once()

    def caught() -> None:
        if stop.is_set():  # another one came while the line below was written, in which no handler may write
            at_once()
        stop.set()
        sys.stderr.write("stopping; once more stops at once\n")
        for number in _SIGNALS:
            signal.signal(number, again)

    with suppress(NotImplementedError):  # elsewhere than on POSIX, Ctrl-C cancels the main task
        for number in _SIGNALS:
            loop.add_signal_handler(number, caught)
    try:
        yield stop
    finally:
        with suppress(NotImplementedError):
            for number in _SIGNALS:
                loop.remove_signal_handler(number)
