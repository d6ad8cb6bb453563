"""Waiting: for idleness, for a condition, for an answer, for news. Nothing here polls."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from flock.core.ambient import acting, here
from flock.core.clock import within
from flock.model.artifact import Artifact
from flock.model.conditions import Condition, Tally, holds, leaves, mentions_idle
from flock.model.errors import AgentFailedError, ClosedError, ConfigurationError, WaitError
from flock.model.evaluation import FAILURE, Failure
from flock.model.events import RunReport, RunState, RunStatus, Waiting
from flock.model.ledger import Progress, Query

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Collection

    from pydantic import BaseModel

    from flock.core.lifecycle import LifecycleManager
    from flock.core.publish import Spine
    from flock.core.schedule import Scheduler
    from flock.model.artifact import Record

M = TypeVar("M")
_PAGE = 256  # records read at once by a follower


class Waiter:
    """Waits on one board."""

    def __init__(self, spine: Spine, scheduler: Scheduler, lifecycle: LifecycleManager) -> None:
        """Watch these parts."""
        self._spine = spine
        self._scheduler = scheduler
        self._lifecycle = lifecycle
        self._reported = Progress()
        self.closed = False

    # ---- idleness

    async def idle(self, *, timeout: float | None, run: str | None, drain: bool) -> RunReport:
        """Wait until a run (None: the ambient one, else the board) has no work left."""
        ambient, actor = here(self._spine), acting(self._spine)
        if run is None and ambient is not None:
            run = ambient.run
        self._refuse_own_run(run)
        clock = self._spine.clock
        started = clock.now()
        reached = True
        if actor is None and timeout is None:
            reached = await self._until_idle(run, drain=drain)
        else:
            over = TimeoutError()
            async with self.lent():
                try:
                    reached = await within(clock, timeout, self._until_idle(run, drain=drain), over)
                except TimeoutError as error:
                    if error is not over:
                        raise
                    reached = False
        return await self.report(run, idle=reached, duration=clock.now() - started)

    def _refuse_own_run(self, run: str | None) -> None:
        """Raise WaitError when an agent would wait for the end of its own run."""
        actor = acting(self._spine)
        if actor is not None and run in {None, actor.run}:
            message = (
                f"agent {actor.name!r} would wait for its own run to be idle, which can't be before it ends: "
                "open a traced_run() around what you wait for"
            )
            raise WaitError(message)

    async def _until_idle(self, run: str | None, *, drain: bool) -> bool:
        """Give True when no work is left, False when the board was closed before."""
        store, signals = self._spine.store, self._spine.signals
        while True:
            if await store.work(run):
                if self.closed:
                    return False
                changes = [signals.quiet.wait(), *([signals.room.wait()] if drain else [])]
                if drain and await self._drained(run):
                    continue
                if await store.work(run):  # it may have ended while the store was asked
                    await _first(changes)
                continue
            tasks = self._scheduler.tasks_of(run)
            if tasks:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            elif not drain or not await self._drained(run):
                return True

    async def _drained(self, run: str | None) -> bool:
        """Flush partial batches once they are all that is left; True when that made work."""
        store = self._spine.store
        progress = await store.progress(run)
        if progress.work > progress.timed:
            return False
        self._spine.dispatch(await store.flush(run, self._spine.roster.limits))
        after = await store.progress(run)
        return after.work > after.timed

    async def report(self, run: str | None, *, idle: bool, duration: float) -> RunReport:
        """Count a run's activations; for the whole board those since the last report."""
        progress = await self._spine.store.progress(run)
        before = Progress() if run is not None else self._reported
        if run is None:
            self._reported = progress
        query = Query(types=frozenset({FAILURE}), run=run, since=before.sequence)
        failures = [record.snapshot for record in await self._spine.store.query(query)]
        return RunReport(
            idle=idle,
            succeeded=progress.succeeded - before.succeeded,
            failed=progress.failed - before.failed,
            cancelled=progress.cancelled - before.cancelled,
            waiting=tuple(await self.waiting(run)),
            failures=tuple(each for each in failures if isinstance(each, Failure)),
            duration=duration,
        )

    async def waiting(self, run: str | None) -> list[Waiting]:
        """Say what waits, with reason and due time: in the store, and schedules."""
        return [*await self._spine.store.waiting(run), *self._lifecycle.waiting()]

    async def status(self, run: str) -> RunStatus:
        """Say where a run stands."""
        progress = await self._spine.store.progress(run)
        state: RunState
        if progress.was_cancelled:
            state = "cancelled"
        elif not progress.known:
            state = "unknown"
        elif progress.work:
            state = "active"
        elif progress.collecting:
            state = "waiting"
        else:
            state = "failed" if await self._has_failed(run, progress) else "succeeded"
        return RunStatus(
            state=state,
            ready=progress.ready, running=progress.running, delayed=progress.delayed, succeeded=progress.succeeded,
            failed=progress.failed, cancelled=progress.cancelled, waiting=progress.collecting,
            artifacts=progress.artifacts,
        )  # fmt: skip

    async def _has_failed(self, run: str, progress: Progress) -> bool:
        query = Query(types=frozenset({FAILURE}), run=run, limit=1)
        return progress.failed > 0 or bool(await self._spine.store.query(query))

    # ---- conditions

    async def until(self, condition: object, *, timeout: float | None) -> bool:
        """Wait until a condition holds for the ambient run, else for the board.

        False after the timeout; without one also when nothing is left that could still make it true.
        """
        if not isinstance(condition, Condition):
            message = f"run_until takes a condition such as Until.exists(Report), not {condition!r}"
            raise ConfigurationError(message)
        ambient = here(self._spine)
        run = None if ambient is None else ambient.run
        if mentions_idle(condition):
            self._refuse_own_run(run)
        over = TimeoutError()
        async with self.lent():
            try:
                return await within(
                    self._spine.clock, timeout, self._until(condition, run, forever=timeout is not None), over
                )
            except TimeoutError as error:
                if error is not over:
                    raise
                return False

    async def _until(self, condition: Condition, run: str | None, *, forever: bool) -> bool:
        signals, store = self._spine.signals, self._spine.store
        tallies = leaves(condition)
        counts = dict.fromkeys(tallies, 0)
        cursor = 0
        while True:
            changes = (signals.changed.wait(), signals.quiet.wait())
            while records := await store.follow(cursor, _PAGE):
                cursor = records[-1].sequence
                for record in records:
                    _count(tallies, counts, record, run)
            idle = not await store.work(run) and not self._scheduler.tasks_of(run)
            if holds(condition, counts, idle=idle):
                return True
            if self.closed or (idle and not forever and not await self._may_change(run)):
                return False
            if mentions_idle(condition) and not await store.work(run) and (tasks := self._scheduler.tasks_of(run)):
                await asyncio.wait(tasks)
            else:
                await asyncio.wait(changes, return_when=asyncio.FIRST_COMPLETED)
            for change in changes:
                change.cancel()

    async def _may_change(self, run: str | None) -> bool:
        return any(each.due is not None for each in await self.waiting(run))

    async def answer(self, run: str, kind: type[M], asked: Record) -> M:
        """Wait for the first artifact of a type in a run; when it goes idle raises its first Failure, or what waits."""
        cursor, signals, store = asked.sequence, self._spine.signals, self._spine.store
        failure: Failure | None = None  # an agent may handle it, so that an answer comes all the same
        while True:
            changes = (signals.changed.wait(), signals.quiet.wait())
            while records := await store.follow(cursor, _PAGE):
                cursor = records[-1].sequence
                mine = [record for record in records if record.run == run]
                found = next((record for record in mine if isinstance(record.snapshot, kind)), None)
                if found is not None:
                    payload: M = Artifact.of(found).payload
                    return payload
                failures = [record.snapshot for record in mine if isinstance(record.snapshot, Failure)]
                failure = failure or next(iter(failures), None)
            if not await store.work(run) and not await self._may_change_soon(run):
                raise await self._unanswered(run, kind) if failure is None else AgentFailedError((failure,))
            if self.closed:
                message = f"the Flock was closed before there was a {kind.__name__}"
                raise ClosedError(message)
            await _first(changes)

    async def _unanswered(self, run: str, kind: type) -> WaitError:
        found = await self._spine.store.waiting(run)
        held = "; ".join(f"{each.agent} ({each.reason}: {each.detail})" for each in found) or "nothing waits"
        return WaitError(f"the run went idle without a {kind.__name__}: {held}")

    async def _may_change_soon(self, run: str) -> bool:
        return any(each.due is not None and each.reason == "after" for each in await self._spine.store.waiting(run))

    # ---- news

    async def follow(self, types: tuple[type[BaseModel], ...], run: str | None, since: int) -> AsyncIterator[Artifact]:
        """Give artifacts as they are committed, after a sequence, until the board is closed."""
        cursor = since
        while True:
            change = self._spine.signals.changed.wait()
            while records := await self._spine.store.follow(cursor, _PAGE):
                for record in records:
                    cursor = record.sequence
                    if run in {None, record.run} and (not types or isinstance(record.snapshot, types)):
                        yield Artifact.of(record)
            if self.closed:
                return
            await change

    @asynccontextmanager
    async def lent(self) -> AsyncGenerator[None, None]:
        """Lend the slots of the activation around this, if there is one, while it waits."""
        actor = acting(self._spine)
        if actor is None:
            yield
            return
        async with actor.lent():
            yield


async def _first(changes: Collection[asyncio.Future[None]]) -> None:
    await asyncio.wait(changes, return_when=asyncio.FIRST_COMPLETED)
    for change in changes:
        change.cancel()


def _count(tallies: tuple[Tally, ...], counts: dict[Tally, int], record: Record, run: str | None) -> None:
    for tally in tallies:
        if tally.correlation_id is None and run is not None and record.run != run:
            continue
        if counted(tally, record):
            counts[tally] += 1


def counted(tally: Tally, record: Record) -> bool:
    """Say whether a tally counts a record, raises what its predicate raises."""
    payload = record.snapshot
    return (
        isinstance(payload, tally.type)
        and (not isinstance(payload, Failure) or issubclass(tally.type, Failure))
        and tally.tags <= record.tags
        and tally.produced_by in {None, record.produced_by}
        and tally.correlation_id in {None, record.run}
        and (tally.where is None or bool(tally.where(payload)))
    )
