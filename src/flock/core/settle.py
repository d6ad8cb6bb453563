"""Settling: the ways in which an attempt ends, each with one commit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Literal

from flock.core.agent import Agent
from flock.core.ambient import Acting
from flock.core.evaluate import late
from flock.core.publish import Spine, said, unheard
from flock.core.signals import ignore
from flock.model.artifact import Record
from flock.model.errors import FlockError, LimitExceeded, ObstructedError, RunCancelledError, Stale, StoreError
from flock.model.evaluation import FAILURE
from flock.model.ledger import Activation, Commit, Lease, Query, Settle, State

logger = logging.getLogger("flock")
_HOPELESS = (LimitExceeded, ObstructedError)  # another attempt would end in the same way


class Settler:
    """Ends attempts and tells everybody, above all who waits for one; `on_abandon` is set by who schedules."""

    def __init__(self, spine: Spine) -> None:
        """Settle through this spine."""
        self._spine = spine
        self._signals = spine.signals
        self.results: dict[str, asyncio.Future[list[Record]]] = {}  # of direct activations
        self.on_abandon: Callable[[Lease, Coroutine[Any, Any, None]], None] = ignore

    def succeeded(self, activation: Activation, records: Sequence[Record]) -> None:
        """Tell that an attempt has been committed."""
        if self._spine.metrics.metering():
            self._count(activation, "succeeded")
        if self._signals.listened:
            self._signals.tell("finished", activation)
        if self.results:
            self._answer(activation.id, records, None)

    async def failed(self, agent: Agent, lease: Lease, error: BaseException) -> None:
        """Settle an attempt that raised: try again later, or fail with a Failure in the same commit."""
        activation, policy, spine = lease.activation, agent.retry, self._spine
        text = f"{type(error).__name__}: {said(error)}"
        again = policy.again(lease.attempt, error) and not isinstance(error, _HOPELESS)
        records: list[Record] = []
        if again:
            settle = Settle("retry", policy.pause(lease.attempt, spine.clock.random()), text)
        else:
            settle = Settle("failed", 0.0, text)
            if not is_failing(activation):
                records.append(spine.failure(error, activation.agent, activation.inputs, activation, lease.attempt))
        offers = spine.route(records)
        if not await self._settle(Commit(records, offers, lease=lease, settle=settle)):
            return
        self._count(activation, "retried" if again else "failed")
        self._tell_failed(activation, error, again=again)
        if again:
            return
        if records:
            unheard(records[0], offers)
        self._answer(activation.id, records, error)

    async def interrupted(self, lease: Lease) -> None:
        """Settle an attempt that was cancelled: given back when the task was, ended when the body chose so."""
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            await self._spine.store.release(lease)
            self._spine.leave()
            if lease.activation.id in self.results:
                await self._answer_anyway(lease.activation.id)
        elif await self._settle(Commit(lease=lease, settle=Settle("cancelled"))):
            self._signals.tell("cancelled", lease.activation)
            self._answer(lease.activation.id, [], FlockError(f"{lease.activation.agent} cancelled itself"))

    async def held_back(self, lease: Lease, settle: Settle) -> None:
        """Settle an attempt that a component skipped or deferred."""
        activation = lease.activation
        if not await self._settle(Commit(lease=lease, settle=settle)):
            return
        self._signals.tell("deferred" if settle.outcome == "defer" else "skipped", activation)
        if settle.outcome != "defer":
            self._count(activation, "skipped")
            self._answer(activation.id, [], None)

    def stuck(self, acting: Acting) -> None:
        """Settle an attempt whose body ignores that its time is over; what it still gives is discarded."""
        agent = acting.desk.agent
        self.on_abandon(acting.lease, self.failed(agent, acting.lease, late(agent)))

    def came_late(self, activation: Activation) -> None:
        """Tell that the result of an attempt was discarded: another had settled the activation."""
        self._signals.dropped("dropped", "late result discarded", agent=activation.agent, run=activation.run)

    def end_waits(self, ids: Iterable[str], error: FlockError) -> None:
        """Tell those who wait for these activations that they are over."""
        for id in ids:
            self._answer(id, [], error)

    async def _answer_anyway(self, id: str) -> None:
        """Answer for an attempt whose outputs were committed as it was cancelled."""
        ended = await self._spine.store.activation(id)
        if ended is not None and ended.state is State.DONE:
            self._answer(id, await self._spine.store.query(Query(activation=id)), None)

    def _answer(self, id: str, records: Sequence[Record], error: BaseException | None) -> None:
        future = self.results.get(id)
        if future is None or future.done():
            return
        if error is None:
            future.set_result(list(records))
        else:
            future.set_exception(error)

    async def _settle(self, commit: Commit) -> bool:
        """Commit; False when the activation is no longer ours or the store refuses for good."""
        commit.limits = self._spine.roster.limits
        try:
            committed = await self._spine.settle(commit)
            if self._spine.on_published is not None and committed.records:
                await self._spine.on_published(committed.records)
        except Stale:
            return False
        except RunCancelledError as error:
            await self._cancelled(commit, error)
            return False
        except StoreError:
            logger.exception("the store refuses to settle: %s", commit.lease)
            return False
        return True

    async def _cancelled(self, commit: Commit, error: RunCancelledError) -> None:
        """End an attempt whose run was cancelled before it started; its outputs may not join that run any more."""
        if commit.lease is not None:
            ending = Commit(lease=commit.lease, settle=Settle("cancelled"), limits=self._spine.roster.limits)
            await self._spine.settle(ending)
            self._signals.tell("cancelled", commit.lease.activation, error=error)
            self._answer(commit.lease.activation.id, [], error)

    def _tell_failed(self, activation: Activation, error: BaseException, *, again: bool) -> None:
        if not again and is_failing(activation):
            logger.error("%s raised while it handled a Failure", activation.agent, exc_info=error)
        if not again and isinstance(error, LimitExceeded):
            ids = tuple([record.id for record in activation.inputs])
            self._signals.dropped(
                "limited", "limit reached", agent=activation.agent, run=activation.run, artifacts=ids, error=error
            )
        self._signals.tell("retried" if again else "failed", activation, error=error)

    def _count(self, activation: Activation, outcome: Literal["succeeded", "failed", "retried", "skipped"]) -> None:
        self._spine.metrics.count("activations", agent=activation.agent, outcome=outcome)


def is_failing(activation: Activation) -> bool:
    """Say whether a Failure is among an activation's inputs: then it makes no other."""
    return any(record.type == FAILURE for record in activation.inputs)
