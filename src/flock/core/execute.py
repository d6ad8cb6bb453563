"""Executing one activation: hooks, engines, outputs, and the one commit that ends it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, NamedTuple

from flock.core.agent import Agent
from flock.core.ambient import Acting, Desk, current
from flock.core.components import ComponentRunner
from flock.core.evaluate import Evaluator
from flock.core.outputs import Item, check_counts, items_of, records_of, result_of
from flock.core.publish import Spine
from flock.core.settle import Settler, is_failing
from flock.core.signals import ignore
from flock.core.slots import Slots
from flock.model.artifact import Artifact, Record
from flock.model.context import Context, Reads
from flock.model.errors import LimitExceeded, ObstructedError, Stale
from flock.model.evaluation import EvalInputs, EvalResult, OutputGroup
from flock.model.ledger import Activation, Commit, Lease, Query, Settle
from flock.model.visibility import Identity
from flock.ports import BoardHandle

_FIRST_DEFERRAL, _LAST_DEFERRAL = 0.05, 5.0  # seconds
_DONE = Settle("done")


class Limits(NamedTuple):
    """How deep and how often agents may fire, and how many chains may run at once on this Flock."""

    max_depth: int
    max_activations: int | None
    max_concurrency: int | None


class Executor:
    """Runs activations that this process has leased."""

    def __init__(
        self,
        *,
        spine: Spine,
        settler: Settler,
        components: ComponentRunner,
        board: BoardHandle,
        reads: Callable[[Identity], Reads],
        limits: Limits,
    ) -> None:
        """Meet the parts; `on_lend` and `on_over` are set by who schedules."""
        self._spine = spine
        self._clock = spine.clock
        self._signals = spine.signals
        self._metrics = spine.metrics
        self._settler = settler
        self._evaluator = Evaluator(spine.clock, spine.signals, spine.metrics, settler.stuck)
        self._components = components
        self._board = board
        self._reads = reads
        self._limits = limits
        self.on_lend: Callable[[Desk, int], None] = ignore
        self.on_over: Callable[[Lease], None] = ignore
        self.reset()

    def reset(self) -> None:
        """Forget the slots of a loop that is gone."""
        count = self._limits.max_concurrency
        self._everyone = None if count is None else Slots(count)
        self._desks: dict[str, Desk] = {}

    def forget(self, agent: str) -> None:
        """Forget an agent that was removed."""
        desk = self._desks.pop(agent, None)
        if desk is not None:
            desk.gone = True

    def run(self, lease: Lease) -> Coroutine[Any, Any, None]:
        """Give the body of an activation's task: it runs one attempt to its end."""
        name = lease.activation.agent
        desk = self._desks.get(name) or self._desk(name)
        if desk is None:
            return self._give_back(lease)
        acting = Acting(self._spine, lease, desk)
        return self._traced(acting) if self._metrics.active() else self._attempt(acting)

    async def _give_back(self, lease: Lease) -> None:
        await self._spine.store.release(lease)
        self.on_over(lease)

    async def _traced(self, acting: Acting) -> None:
        """Run an attempt in a span; a span processor that raises costs the span and nothing else."""
        agent, lease = acting.desk.agent, acting.lease
        try:
            acting.span = span = self._metrics.start_attempt(agent, lease)
        except Exception as raised:  # noqa: BLE001 - the guard of telemetry
            self._signals.hook_failed("telemetry", raised, agent=agent.name)
            span = None
        if span is not None:
            self._record(span.record_inputs, agent, lease.activation.inputs)
        try:
            await self._attempt(acting)
        except BaseException as error:
            acting.error = error
            raise
        finally:
            if span is not None:
                span.end(acting.error)

    def _record(self, write: Callable[..., None], agent: Agent, records: Sequence[Record]) -> None:
        """Put payloads on an attempt's span, if they are wanted there; one that can't be written costs no more."""
        try:
            write([record.snapshot for record in records])
        except Exception as error:  # noqa: BLE001 - the guard of telemetry
            self._signals.hook_failed("telemetry", error, agent=agent.name)

    def _desk(self, name: str) -> Desk | None:
        agent = self._spine.roster.agents.get(name)
        if agent is None:
            return None
        slots, reader = Slots(agent.max_concurrency), self._reads(agent.identity)
        hooks = ComponentRunner(agent.components, self._signals, agent=name) if agent.components else None
        desk = self._desks[name] = Desk(agent, slots, self._everyone, reader, hooks, self.on_lend)
        return desk

    # ---- one attempt

    async def _attempt(self, acting: Acting) -> None:
        """Run one attempt and settle it, whatever happens."""
        current.set(acting)
        desk, lease, spine = acting.desk, acting.lease, self._spine
        activation = lease.activation
        try:
            if self._signals.listened:
                self._signals.tell("started", activation)
            if self._components.components and await self._held_back(desk.agent, lease, acting.ctx):
                return
            self._check_limits(activation)
            if desk.shortcut is not None and desk.agent.best_of == 1:
                # Nobody but the agent's function looks at its inputs.
                shortcut = desk.shortcut if acting.span is None else self._evaluator.spanned(desk.agent, desk.shortcut)
                result = await self._evaluator.hold(acting, shortcut, activation)
                records = self._records(items_of(result), desk.agent.outputs[0], activation)
            else:
                records = await self._evaluate(acting)
            count = len(records)  # beyond these are the Failures of predicates that raised
            offers = spine.route(records) if records else ()
            committed = await spine.settle(Commit(records, offers, (), None, lease, _DONE, spine.roster.limits))
            outputs = acting.streamed or committed.records[:count]
            try:
                if spine.on_published is not None or desk.hooks is not None or acting.span is not None:
                    await self._tell(acting, committed.records, outputs)
            finally:
                self._settler.succeeded(activation, outputs)
        except BaseException as error:  # noqa: BLE001 - the guard of activations: each error becomes one outcome
            await self._ended(acting, error)
        finally:
            try:
                if desk.hooks is not None:
                    await desk.hooks.notify("on_terminate", desk.agent, acting.ctx)
            finally:
                self.on_over(lease)

    async def _tell(self, acting: Acting, committed: Sequence[Record], outputs: Sequence[Record]) -> None:
        """Tell components and the attempt's span what was committed."""
        hooks = acting.desk.hooks
        if self._spine.on_published is not None and committed:
            await self._spine.on_published(committed)
        if acting.span is not None:
            self._record(acting.span.record_outputs, acting.desk.agent, outputs)
        if hooks is not None:
            views = [Artifact.of(record) for record in outputs]
            await hooks.notify("on_post_publish", acting.desk.agent, acting.ctx, views)

    async def _ended(self, acting: Acting, error: BaseException) -> None:
        """Settle an attempt that raised; what is no error of the agent goes on up."""
        task = None if isinstance(error, GeneratorExit) else asyncio.current_task()  # None: the loop is gone
        if task is not None:
            task.add_done_callback(self._tell_end)
        agent, lease, hooks = acting.desk.agent, acting.lease, acting.desk.hooks
        match error:
            case asyncio.CancelledError():
                await self._settler.interrupted(lease)
                raise error
            case Stale():
                self._settler.came_late(lease.activation)
            case Exception():
                acting.error = error
                await self._settler.failed(agent, lease, error)
                if hooks is not None:
                    await hooks.notify("on_error", agent, acting.ctx, error)
            case GeneratorExit():  # nothing can be awaited any more; the next loop finds it running and runs it again
                raise error
            case KeyboardInterrupt() | SystemExit():
                await self._spine.store.release(lease)
                raise error
            case _:
                await self._settler.failed(agent, lease, error)
                told = {"message": f"{agent.name} raised what is no Exception", "exception": error}
                asyncio.get_running_loop().call_exception_handler(told)
                raise error

    def _tell_end(self, task: asyncio.Task[None]) -> None:
        """Take note of what an attempt ended with; an error that is not the agent's own is told here."""
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self._signals.hook_failed("activation", error)

    async def _evaluate(self, acting: Acting) -> list[Record]:
        """Evaluate every output group between the hooks; what a stream gives is committed already."""
        desk, evaluator = acting.desk, self._evaluator
        agent, hooks, ctx = desk.agent, desk.hooks, acting.ctx
        inputs = await self._inputs(acting)
        records: list[Record] = []
        for group in agent.outputs:
            if agent.streams:
                await evaluator.hold(acting, self._stream, acting, inputs, group)
                continue
            if agent.best_of == 1:
                result = await evaluator.hold(acting, evaluator.chain, agent, ctx, inputs, group)
            else:
                result = await evaluator.best(acting, group, self._candidates(acting, inputs, group))
            if hooks is not None:
                result = result_of(result, agent)
                result = await hooks.transform("on_post_evaluate", EvalResult, result, agent, ctx, inputs)
            records += self._records(items_of(result), group, ctx.activation, len(records))
        return records

    def _candidates(self, acting: Acting, inputs: EvalInputs, group: OutputGroup) -> Callable[..., Awaitable[Any]]:
        """Give what evaluates one candidate, each with copies and a state of its own."""
        desk, ctx, evaluator = acting.desk, acting.ctx, self._evaluator

        def evaluate(own: Acting, candidate: int) -> Awaitable[Any]:
            if desk.shortcut is not None and acting.span is None:
                return evaluator.hold(own, desk.shortcut, ctx.activation)
            fresh = [Artifact.of(artifact.record) for artifact in inputs.artifacts]
            groups = [tuple([Artifact.of(artifact.record) for artifact in each]) for each in inputs.groups]
            mine = ctx.for_candidate(candidate, fresh)
            if desk.agent.context is not None:
                mine.state["context"] = [Artifact.of(each.record) for each in ctx.state["context"]]
            given = EvalInputs(fresh, mine.state, groups)
            return evaluator.hold(own, evaluator.chain, desk.agent, mine, given, group, candidate)

        return evaluate

    async def _inputs(self, acting: Acting) -> EvalInputs:
        """Prepare what the engines get: the context that was asked for, and what the hooks make of the inputs."""
        agent, ctx, hooks = acting.desk.agent, acting.ctx, acting.desk.hooks
        groups = [tuple([Artifact.of(record) for record in group]) for group in ctx.activation.groups]
        inputs = EvalInputs(ctx.artifacts, ctx.state, groups)
        if agent.context is not None:
            ctx.state["context"] = await self._context(agent.context, agent, ctx)
        if hooks is not None:
            await hooks.notify("on_initialize", agent, ctx)
            inputs.artifacts = await hooks.transform("on_pre_consume", list, inputs.artifacts, agent, ctx)
            inputs = await hooks.transform("on_pre_evaluate", EvalInputs, inputs, agent, ctx)
        return inputs

    async def _stream(self, acting: Acting, inputs: EvalInputs, group: OutputGroup) -> None:
        """Commit each yield at once as the next slot; slots that an earlier attempt committed stay as they are."""
        agent, ctx, spine = acting.desk.agent, acting.ctx, self._spine
        given: list[Item] = []
        stored: list[Record] = []
        acting.streamed = stored
        stream = await agent.engines[0].evaluate(agent, ctx, inputs, group)
        try:
            async for result in stream:
                for item in items_of(result):
                    records = self._records([item], group, ctx.activation, len(given), counted=False)
                    given.append(item)
                    count, offers = len(records), spine.route(records)
                    if len(records) > count and await self._has(ctx.activation, records[:count]):
                        del records[count:]  # the Failures of predicates came with the first commit of this slot
                        offers = [offer for offer in offers if offer.record in records]
                    commit = Commit(records, offers, lease=acting.lease, limits=spine.roster.limits)
                    committed = await spine.settle(commit)
                    stored.extend(committed.records[:count])
                    if spine.on_published is not None:
                        await spine.on_published(committed.records)
        finally:
            await stream.aclose()
        check_counts(given, agent.name, group)

    async def _has(self, activation: Activation, records: Sequence[Record]) -> bool:
        """Say whether an earlier attempt has committed outputs in the slots of these."""
        slots = {record.slot for record in records}
        found = await self._spine.store.query(Query(activation=activation.id))
        return any(record.slot in slots for record in found)

    def _records(
        self, items: Sequence[Item], group: OutputGroup, activation: Activation, slot: int = 0, *, counted: bool = True
    ) -> list[Record]:
        """Make records of outputs and tell which ones the group left out."""
        agent = activation.agent
        if group.fan_out is not None and counted:
            check_counts(items, agent, group)
        records, left_out = records_of(
            items, group, activation, self._clock, slot=slot, trace=self._metrics.traceparent()
        )
        for kind in left_out:
            reason = f"output {kind} did not pass publishes(where=...)"
            self._signals.dropped("dropped", reason, agent=agent, run=activation.run, activation=activation.id)
        return records

    # ---- around it

    async def _held_back(self, agent: Agent, lease: Lease, ctx: Context) -> bool:
        """Ask the orchestrator's components; SKIP and DEFER settle the attempt."""
        decision = "CONTINUE"
        async for _, answer in self._components.run_hook("on_before_schedule", self._board, agent, ctx.artifacts):
            if decision == "CONTINUE" and answer in {"SKIP", "DEFER"}:
                decision = answer
        if decision == "CONTINUE":
            for hook in ("on_collect_artifacts", "on_before_agent_schedule", "on_agent_scheduled"):
                await self._components.notify(hook, self._board, agent, ctx.artifacts)
            return False
        delay = min(_LAST_DEFERRAL, _FIRST_DEFERRAL * 2**lease.activation.deferrals)
        await self._settler.held_back(lease, Settle("skipped") if decision == "SKIP" else Settle("defer", delay))
        return True

    async def _context(self, provider: Callable[..., Any], agent: Agent, ctx: Context) -> Sequence[Artifact]:
        """Ask the agent's context provider; what the agent may not see is left out whatever it gives."""
        try:
            given = provider(ctx)
            if inspect.isawaitable(given):
                given = await given
            now = self._clock.now()
            return [artifact for artifact in given if artifact.record.seen_by(agent.identity, now)]
        except Exception as error:  # noqa: BLE001 - the guard of providers
            self._signals.hook_failed("context provider", error, agent=agent.name, run=ctx.correlation_id)
            return ()

    def _check_limits(self, activation: Activation) -> None:
        agent, depth, deepest = activation.agent, activation.depth - 1, self._limits.max_depth
        if activation.obstacle is not None:
            raise ObstructedError(f"{agent!r} can't run: {activation.obstacle}")
        # The first Failure beyond the limit may still be handled; what its handler publishes may not go on.
        if depth > deepest and (depth > deepest + 2 or not is_failing(activation)):
            raise LimitExceeded(f"{agent!r} would run at depth {depth}: max_depth={deepest}; is there a loop?")
        most = self._limits.max_activations
        if most is not None and activation.ordinal > most:
            message = f"{agent!r} has had {most} activations in run {activation.run!r}: max_activations={most}"
            raise LimitExceeded(message)
