"""Scheduling: one tracked task per leased activation, started when its agent has a free slot."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from flock.core.agent import Agent
from flock.core.ambient import Desk, current
from flock.core.clock import deadline
from flock.core.execute import Executor
from flock.core.publish import Spine
from flock.core.settle import Settler
from flock.model.artifact import Artifact, Record
from flock.model.errors import ClosedError, FlockError, VisibilityError
from flock.model.ledger import Direct, Lease, Withdrawn

_MOST = 1_000  # leases asked for at once
_LAST_PATIENCE = 1.0  # seconds that cancelled tasks have for their clean-up at shutdown


class Scheduler:
    """Owns every task that runs an activation, and the helpers that end one from outside."""

    def __init__(self, spine: Spine, executor: Executor, settler: Settler) -> None:
        """Take leases from the spine and run them."""
        self._spine = spine
        self._executor = executor
        self._tasks: dict[Lease, asyncio.Task[None]] = {}
        self._helpers: set[asyncio.Task[Any]] = set()
        self._settler = settler
        self._abandoned: set[asyncio.Task[None]] = set()
        self._context = contextvars.Context()
        self._given_up: list[Lease] = []  # leased while the loop was ending
        self.stopping = False
        spine.on_leases = self.start
        executor.on_lend = self._lend
        executor.on_over = self._over
        settler.on_abandon = self._abandon

    @property
    def tasks(self) -> Sequence[asyncio.Task[None]]:
        """The tasks of running activations."""
        return tuple([task for task in self._tasks.values() if not task.done()])

    def adopt(self) -> None:
        """Work on the running loop from now on, with the context variables of this moment but in no run."""
        for tracked in (self._tasks, self._helpers, self._abandoned, self._settler.results):
            tracked.clear()
        for name, agent in self._spine.roster.agents.items():  # loans ended with their loop
            self._spine.roster.limits[name] = agent.max_concurrency
        self._context = contextvars.copy_context()
        self._context.run(current.set, None)
        self._executor.reset()

    def start(self, leases: Sequence[Lease]) -> None:
        """Make a tracked task for each lease; the commit of a task that is being cancelled starts none.

        That is how a loop ends: what stays leased runs again on the next loop, or at the next use of this one.
        """
        caller = asyncio.current_task()
        if caller is not None and caller.cancelling() and caller in self._tasks.values():
            self.give_up(leases)
            return
        create_task, context = asyncio.get_running_loop().create_task, self._context
        for lease in leases:
            self._tasks[lease] = create_task(self._executor.run(lease), context=context.copy())

    def give_up(self, leases: Sequence[Lease]) -> None:
        """Keep leases that nobody runs until the next claim."""
        self._given_up += leases
        self._spine.leave()

    async def claim(self) -> None:
        """Take up what is ready and not leased."""
        self._spine.unclaimed = False
        given_up, self._given_up = self._given_up, []
        try:
            for lease in given_up:
                await self._spine.store.release(lease)
            while not self.stopping:
                leases = await self._spine.store.claim(self._spine.roster.limits, _MOST)
                self.start(leases)
                if len(leases) < _MOST:
                    return
        except BaseException:
            self.give_up(given_up)
            raise

    # ---- direct activations

    def schedule_task(
        self,
        agent: Agent,
        artifacts: Iterable[Artifact],
        is_batch: bool = False,  # noqa: FBT001, FBT002, ARG002 - the API's shape
    ) -> asyncio.Task[list[Artifact]]:
        """Commit a direct activation with artifacts of the board, then run it; the task gives its outputs."""
        records = tuple(artifact.record for artifact in artifacts)
        run = records[-1].run if records else self._spine.default_run

        async def go() -> list[Artifact]:
            return [Artifact.of(record) for record in await self.direct(agent, [], records, run)]

        return self.spawn(go())

    async def direct(self, agent: Agent, fresh: list[Record], inputs: tuple[Record, ...], run: str) -> list[Record]:
        """Run an agent once with just these inputs and give its outputs; publishes the fresh ones for all others.

        Raises what the agent raised, and VisibilityError for an input that it may not see. Cancelling the wait cancels
        the activation.
        """
        now = self._spine.clock.now()
        for record in inputs:
            if not record.seen_by(agent.identity, now):
                raise VisibilityError(f"agent {agent.name!r} may not see {record.type} {record.id}")
        key = self._spine.clock.new_id()
        future: asyncio.Future[list[Record]] = asyncio.get_running_loop().create_future()
        self._settler.results[key] = future
        try:
            direct = Direct(key, agent.direct, inputs, run, self._spine.metrics.traceparent())
            await self._spine.publish(fresh, without=agent.name, direct=direct)
            return await future
        except asyncio.CancelledError:
            await asyncio.shield(self.spawn(self._call_off(key)))
            raise
        finally:
            self._settler.results.pop(key, None)

    # ---- cancelling

    def cancel(self, ids: Iterable[str]) -> list[asyncio.Task[None]]:
        """Cancel the tasks of these activations."""
        wanted = set(ids)
        found = {lease: task for lease, task in self._tasks.items() if lease.activation.id in wanted}
        for lease, task in found.items():
            task.cancel()
            task.add_done_callback(partial(self._over, lease))  # it may never have started
        return list(found.values())

    async def cancel_run(self, run: str) -> int:
        """End a run: its tasks are cancelled and have a moment for their clean-up; gives how many activations ended."""
        return await asyncio.shield(self.spawn(self._end_run(run, asyncio.current_task())))

    async def _call_off(self, activation: str) -> None:
        _, tasks = await self._withdraw(activation=activation)
        await self._see_off(tasks)

    async def _see_off(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        """Give cancelled tasks a moment for their clean-up; those that take longer are abandoned."""
        if tasks:
            await self._wait(tasks, _LAST_PATIENCE)
            self._abandoned.update(task for task in tasks if not task.done())

    async def _end_run(self, run: str, caller: asyncio.Task[Any] | None) -> int:
        signals = self._spine.signals
        withdrawn, tasks = await self._withdraw(run=run)
        self._settler.end_waits(withdrawn.ended, FlockError(f"run {run!r} was cancelled"))
        ids = tuple([record.id for record in withdrawn.records])
        if ids:
            signals.dropped("withdrawn", "run cancelled", run=run, artifacts=ids)
        signals.emit("cancelled", run=run, count=len(withdrawn.ended))
        await self._see_off([task for task in tasks if task is not caller])
        return len(withdrawn.ended)

    async def _withdraw(self, **which: str) -> tuple[Withdrawn, list[asyncio.Task[None]]]:
        """Take a run or an activation off the board and cancel its tasks; what gets their slots starts soon."""
        withdrawn = await self._spine.store.cancel(**which)
        tasks = self.cancel(withdrawn.running)
        self._spine.dispatch(withdrawn.committed)
        self._spine.signals.changed.wake()
        self._spine.signals.room.wake()
        self._spine.leave()
        return withdrawn, tasks

    async def stop(self, grace: float) -> list[str]:
        """Let tasks end within the grace period (s), cancel the others; names the agents whose bodies did not stop."""
        self.stopping = True
        self._spine.roster.limits.clear()  # no commit leases anything any more
        me = asyncio.current_task()
        for last, patience in ((False, grace), (True, _LAST_PATIENCE)):
            left = [task for task in (*self._tasks.values(), *self._helpers) if task is not me]
            if not left:
                break
            for task in left if last else ():
                task.cancel()
            await self._wait(left, patience)
        self._settler.end_waits(self._settler.results, ClosedError("the Flock was closed before the agent was done"))
        stuck = [lease for lease, task in self._tasks.items() if not task.done() and task is not me]
        return sorted({lease.activation.agent for lease in stuck})

    async def _wait(self, tasks: Sequence[asyncio.Future[Any]], seconds: float) -> None:
        with suppress(TimeoutError):
            async with deadline(self._spine.clock, seconds):
                await asyncio.wait(tasks)

    # ---- tasks

    def tasks_of(self, run: str | None) -> list[asyncio.Task[None]]:
        """Give the tasks that work for a run (None: any), without the caller's own and the abandoned."""
        if not self._tasks:
            return []
        left_out = {asyncio.current_task(), *self._abandoned}
        return [
            task
            for lease, task in self._tasks.items()
            if not task.done() and task not in left_out and (run is None or run in lease.activation.runs)
        ]

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a helper that is awaited or cancelled at shutdown."""
        task = asyncio.get_running_loop().create_task(work, context=self._context.copy())
        self._helpers.add(task)
        task.add_done_callback(self._helpers.discard)
        return task

    def _over(self, lease: Lease, task: asyncio.Task[None] | None = None) -> None:
        """Let go of a task that ends now, or has ended."""
        done = self._tasks.pop(lease, task)
        if self._abandoned and done is not None:
            self._abandoned.discard(done)
        if self._spine.signals.room.waiters:
            self._spine.signals.room.wake()

    def _lend(self, desk: Desk, count: int) -> None:
        limits, agent = self._spine.roster.limits, desk.agent.name
        if agent in limits and not desk.gone:
            limits[agent] += count
            if count > 0:
                _ = self.spawn(self.claim())

    def _abandon(self, lease: Lease, ending: Coroutine[Any, Any, Any]) -> None:
        """End an attempt whose body does not stop; its task keeps its slots until it returns."""
        stuck = self._tasks.get(lease)
        if stuck is None or stuck in self._abandoned:  # another candidate of the same attempt was there first
            ending.close()
            return
        self._abandoned.add(stuck)
        activation = lease.activation
        self._spine.signals.emit("abandoned", agent=activation.agent, run=activation.run, activation=activation.id)
        _ = self.spawn(ending)
