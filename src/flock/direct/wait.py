"""Waiting: for idleness, for a condition, for an answer, for news. Nothing here polls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Self, TypeVar

from pydantic import BaseModel

from flock.core.ambient import acting, here
from flock.core.clock import within
from flock.core.lifecycle import LifecycleManager
from flock.core.publish import Spine
from flock.core.schedule import Scheduler
from flock.core.signals import Channel
from flock.model.artifact import Artifact, Record
from flock.model.conditions import Condition, Tally, holds, leaves
from flock.model.errors import AgentFailedError, ClosedError, ConfigurationError, WaitError
from flock.model.evaluation import FAILURE, Failure
from flock.model.events import RunReport, RunState, RunStatus, Waiting
from flock.model.ledger import Progress, Query
from flock.ports import Store

M = TypeVar("M")
_PAGE = 256  # records read at once
_FAILURES = frozenset({FAILURE})


class Waiter:
    """Waits on one board."""

    def __init__(self, spine: Spine, scheduler: Scheduler, lifecycle: LifecycleManager) -> None:
        """Watch these parts."""
        self._spine = spine
        self._scheduler = scheduler
        self._lifecycle = lifecycle
        self.reported = Progress()  # what the last report of the whole board has counted

    # ---- idleness

    async def idle(self, *, timeout: float | None, run: str | None, drain: bool) -> RunReport:
        """Wait until a run (None: the ambient one, else the board) has no work left."""
        if run is None:
            run = self._run()
        self._refuse_own_run(run)
        started = self._spine.clock.now()
        reached = await self._in_time(timeout, self._until_idle(run, drain=drain))
        return await self.report(run, idle=reached, duration=self._spine.clock.now() - started)

    async def _until_idle(self, run: str | None, *, drain: bool) -> bool:
        """Give True when no work is left, False when the board was closed before."""
        store, signals = self._spine.store, self._spine.signals
        channels = (signals.quiet, signals.room) if drain else (signals.quiet,)
        while True:
            if await store.work(run):
                if self._spine.signals.ended:
                    return False
                change = _next(channels)
                if drain and await self._drained(run):
                    continue
                if await store.work(run):  # it may have ended while the store was asked
                    await change
            elif tasks := self._scheduler.tasks_of(run):
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            elif not drain or not await self._drained(run):
                return True

    async def _drained(self, run: str | None) -> bool:
        """Flush partial batches once they are all that is left; True when that made work, which may have ended."""
        store = self._spine.store
        before = await store.progress(run)
        if before.work > before.timed:
            return False
        self._spine.dispatch(await store.flush(run, self._spine.roster.limits))
        after = await store.progress(run)
        return after.work > after.timed or after.ended != before.ended

    async def report(self, run: str | None, *, idle: bool, duration: float) -> RunReport:
        """Count a run's activations; for the whole board those since the last report."""
        progress = await self._spine.store.progress(run)
        before = Progress() if run is not None else self.reported
        if run is None:
            self.reported = progress
        news = progress.newest_failure > before.sequence
        failures = await self._failures(run, before.sequence) if news else ()
        return RunReport(
            idle=idle,
            succeeded=progress.succeeded - before.succeeded,
            failed=max(0, progress.failed - before.failed),  # what has failed may have been tried again since
            cancelled=progress.cancelled - before.cancelled,
            waiting=tuple(await self._waiting(run, progress)),
            failures=tuple(failures),
            duration=duration,
        )

    async def _waiting(self, run: str | None, progress: Progress) -> list[Waiting]:
        """Say what waits, with reason and due time: in the store, unless it holds nothing, and schedules."""
        held = progress.work or progress.collecting
        return [*(await self._spine.store.waiting(run) if held else ()), *self._lifecycle.waiting()]

    async def _failures(self, run: str | None, since: int = 0) -> list[Failure]:
        found = await self._spine.store.query(Query(types=_FAILURES, run=run, since=since))
        return [record.snapshot for record in found if isinstance(record.snapshot, Failure)]

    async def status(self, run: str) -> RunStatus:
        """Say where a run stands."""
        progress = await self._spine.store.progress(run)
        return status_of(progress, await self._failures(run) if progress.newest_failure else ())

    # ---- conditions and answers

    async def until(self, condition: object, *, timeout: float | None) -> bool:
        """Wait until a condition holds for the ambient run, else for the board.

        False after the timeout; without one also when nothing is left that could still make it true.
        """
        if not isinstance(condition, Condition):
            raise ConfigurationError(f"run_until takes a condition such as Until.exists(Report), not {condition!r}")
        run = self._run()
        if _mentions_idle(condition):
            self._refuse_own_run(run)
        return await self._in_time(timeout, self._until(condition, run, forever=timeout is not None))

    async def _until(self, condition: Condition, run: str | None, *, forever: bool) -> bool:
        signals, store = self._spine.signals, self._spine.store
        counts = dict.fromkeys(leaves(condition), 0)
        with _Watch(store, signals.changed, signals.quiet, signals.room) as watch:
            while True:
                idle = not await store.work(run) and not self._scheduler.tasks_of(run)  # before what it made is read
                while records := await watch.read():
                    _count(counts, records, run)
                if holds(condition, counts, idle=idle):
                    return True
                if self._spine.signals.ended or (idle and not forever and not await self._may_change(run)):
                    return False
                await watch.change()

    async def _may_change(self, run: str | None) -> bool:
        due = [*await self._spine.store.waiting(run), *self._lifecycle.waiting()]
        return any(each.due is not None for each in due)

    async def answer(self, run: str, kind: type[M], asked: Record) -> M:
        """Wait for the first artifact of a type in a run; when it goes idle raises its first Failure, or what waits."""
        signals, store = self._spine.signals, self._spine.store
        failure: Failure | None = None  # an agent may handle it, so that an answer comes all the same
        with _Watch(store, signals.changed, signals.quiet, since=asked.sequence) as watch:
            while True:
                over = not await store.work(run)  # before what it made is read
                while records := await watch.read():
                    for record in records:
                        if record.run == run and isinstance(record.snapshot, kind):
                            payload: M = Artifact.of(record).payload
                            return payload
                        if failure is None and record.run == run and isinstance(record.snapshot, Failure):
                            failure = record.snapshot
                if over:
                    _refuse_to_wait(kind, failure, await store.waiting(run))
                if self._spine.signals.ended:
                    raise ClosedError(f"the Flock was closed before there was a {kind.__name__}")
                await watch.change()

    # ---- news

    async def follow(self, types: tuple[type[BaseModel], ...], run: str | None, since: int) -> AsyncGenerator[Artifact]:
        """Give artifacts as they are committed, after a sequence, until the board is closed."""
        with _Watch(self._spine.store, self._spine.signals.changed, since=since) as watch:
            while True:
                while records := await watch.read():
                    for record in records:
                        if run in {None, record.run} and (not types or isinstance(record.snapshot, types)):
                            yield Artifact.of(record)
                if self._spine.signals.ended:
                    return
                await watch.change()

    # ---- inside an activation

    def lent(self) -> AbstractAsyncContextManager[None]:
        """Lend the slots of the activation around this, if there is one, while it waits."""
        actor = acting(self._spine)
        return nullcontext() if actor is None else actor.lent()

    async def _in_time(self, timeout: float | None, work: Coroutine[None, None, bool]) -> bool:
        """Await some work, with slots lent; False when its time was over before."""
        if timeout is None and acting(self._spine) is None:
            return await work
        over = TimeoutError()
        async with self.lent():
            try:
                return await within(self._spine.clock, timeout, work, over)
            except TimeoutError as error:
                if error is not over:
                    raise
                return False

    def _run(self) -> str | None:
        """Name the ambient run, if there is one."""
        ambient = here(self._spine)
        return None if ambient is None else ambient.run

    def _refuse_own_run(self, run: str | None) -> None:
        """Raise WaitError when an agent would wait for the end of its own run."""
        actor = acting(self._spine)
        if actor is not None and run in {None, actor.run}:
            raise WaitError(
                f"agent {actor.name!r} would wait for its own run to be idle, which can't be before it ends: "
                "open a traced_run() around what you wait for"
            )


class _Watch:
    """Reads on along the board and sees every change of some channels, also one that comes before it is waited for."""

    __slots__ = ("_change", "_channels", "_cursor", "_store")

    def __init__(self, store: Store, *channels: Channel, since: int = 0) -> None:
        self._store = store
        self._channels = channels
        self._cursor = since

    def __enter__(self) -> Self:
        self._change = _next(self._channels)
        return self

    def __exit__(self, *_: object) -> None:
        for channel in self._channels:
            if self._change in channel.waiters:
                channel.waiters.remove(self._change)

    async def change(self) -> None:
        """Wait for the next change."""
        await self._change
        self.__exit__()
        self.__enter__()

    async def read(self) -> Sequence[Record]:
        """Give the next records; nothing when that was all for now."""
        records = await self._store.follow(self._cursor, _PAGE)
        if records:
            self._cursor = records[-1].sequence
        return records


def status_of(progress: Progress, failures: Sequence[Failure]) -> RunStatus:
    """Say where a run stands with these Failures; those of activations may have been made good by another try."""
    states: dict[RunState, object] = {
        "cancelled": progress.was_cancelled,
        "unknown": not progress.known,
        "active": progress.work,
        "waiting": progress.collecting,
        "failed": progress.failed or any(failure.activation_id is None for failure in failures),
        "succeeded": True,
    }
    return RunStatus(
        state=next(state for state, applies in states.items() if applies),
        ready=progress.ready, running=progress.running, delayed=progress.delayed, succeeded=progress.succeeded,
        failed=progress.failed, cancelled=progress.cancelled, waiting=progress.collecting,
        artifacts=progress.artifacts,
    )  # fmt: skip


def _next(channels: Sequence[Channel]) -> asyncio.Future[None]:
    """Give a future that is done at the next change of any of these channels."""
    change = channels[0].wait()
    for channel in channels[1:]:
        channel.waiters.append(change)
    return change


def _refuse_to_wait(kind: type, failure: Failure | None, held: Sequence[Waiting]) -> None:
    """Raise for an answer that can't come any more; only what is not visible yet could still bring it."""
    if any(each.due is not None and each.reason == "after" for each in held):
        return
    if failure is not None:
        raise AgentFailedError((failure,))
    waits = "; ".join(f"{each.agent} ({each.reason}: {each.detail})" for each in held) or "nothing waits"
    raise WaitError(f"the run went idle without a {kind.__name__}: {waits}")


def _count(counts: dict[Tally, int], records: Sequence[Record], run: str | None) -> None:
    for record in records:
        for tally in counts:
            if (tally.correlation_id is not None or run in {None, record.run}) and _counted(tally, record):
                counts[tally] += 1


def _counted(tally: Tally, record: Record) -> bool:
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


def _mentions_idle(condition: Condition) -> bool:
    """Say whether a condition asks about idleness, which only a waiter can answer."""
    return condition.kind == "idle" or any(map(_mentions_idle, condition.parts))
