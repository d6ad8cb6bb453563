"""Executing one activation: hooks, engines, outputs, and the one commit that ends it."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any, NamedTuple

from flock.core import telemetry
from flock.core.ambient import Acting, Desk, current
from flock.core.board import BoardReader, sees
from flock.core.components import ComponentRunner
from flock.core.outputs import Item, check_counts, items_of, records_of, result_of
from flock.core.settle import is_failing
from flock.core.slots import Slots
from flock.core.telemetry import ActivationSpan, Firing
from flock.model.artifact import Artifact
from flock.model.errors import LimitExceeded, Stale
from flock.model.evaluation import EvalInputs, EvalResult
from flock.model.ledger import Commit, Settle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flock.core.agent import Agent, Shortcut
    from flock.core.evaluate import Evaluator
    from flock.core.publish import Spine
    from flock.core.settle import Settler
    from flock.model.artifact import Record
    from flock.model.context import Context
    from flock.model.evaluation import OutputGroup
    from flock.model.ledger import Activation, Lease
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
        evaluator: Evaluator,
        components: ComponentRunner,
        board: BoardHandle,
        limits: Limits,
    ) -> None:
        """Meet the parts; `on_lend` is set by who schedules."""
        self._spine = spine
        self._clock = spine.clock
        self._signals = spine.signals
        self._metrics = spine.metrics
        self._settler = settler
        self._evaluator = evaluator
        evaluator.on_stuck = settler.stuck
        self._components = components
        self._board = board
        self._limits = limits
        self.on_lend: Callable[[Desk, int], None] = _ignore
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

    async def run(self, lease: Lease) -> None:
        """Run one attempt to its end; the body of an activation's task."""
        name = lease.activation.agent
        desk = self._desks.get(name) or self._desk(name)
        if desk is None:
            await self._spine.store.release(lease)
            return
        acting = Acting(self._spine, lease, desk)
        current.set(acting)
        if telemetry.active():
            await self._traced(acting)
        else:
            await self._attempt(acting, None)

    async def _traced(self, acting: Acting) -> None:
        """Run an attempt in a span; a span processor that raises costs the span and nothing else."""
        error: BaseException | None = None
        agent = acting.desk.agent
        try:
            span = self._metrics.start_activation(_firing(agent, acting.lease))
        except Exception as raised:  # noqa: BLE001 - the guard of telemetry
            self._signals.hook_failed("telemetry", raised, agent=agent.name)
            span = None
        try:
            error = await self._attempt(acting, span)
        except BaseException as raised:
            error = raised
            raise
        finally:
            if span is not None:
                self._metrics.end_activation(span, error)

    def _desk(self, name: str) -> Desk | None:
        spine = self._spine
        agent = spine.roster.agents.get(name)
        if agent is None:
            return None
        desk = self._desks[name] = Desk(
            agent,
            slots=Slots(agent.max_concurrency),
            everyone=self._everyone,
            reader=BoardReader(spine.store, self._clock, spine.roster.types, agent.identity),
            hooks=ComponentRunner(agent.components, self._signals, agent=name) if agent.components else None,
            on_lend=self.on_lend,
        )
        return desk

    # ---- one attempt

    async def _attempt(self, acting: Acting, span: ActivationSpan | None) -> BaseException | None:
        """Run one attempt and settle it, whatever happens; gives the error that it failed with."""
        agent, lease, hooks = acting.desk.agent, acting.lease, acting.desk.hooks
        try:
            await self._try(acting, span)
        except asyncio.CancelledError:
            await self._settler.interrupted(lease)
            raise
        except Stale:
            self._settler.came_late(lease.activation)
        except Exception as error:  # noqa: BLE001 - the guard of activations: each error becomes one outcome
            await self._settler.failed(agent, lease, error)
            if hooks is not None:
                await hooks.notify("on_error", agent, acting.ctx, error)
            return error
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            await self._spine.store.release(lease)
            raise
        except BaseException as error:
            await self._settler.failed(agent, lease, error)
            raise
        finally:
            if hooks is not None:
                await hooks.notify("on_terminate", agent, acting.ctx)
        return None

    async def _try(self, acting: Acting, span: ActivationSpan | None) -> None:
        desk, lease = acting.desk, acting.lease
        activation = lease.activation
        if span is not None:
            acting.ctx.span = span.span
            self._metrics.record_inputs(span, [record.snapshot for record in activation.inputs])
        if self._signals.listened:
            self._signals.tell("started", activation)
        if self._components.components and await self._held_back(desk.agent, lease, acting.ctx):
            return
        self._check_limits(activation)
        outputs: Sequence[Record]
        if desk.agent.streams:
            outputs = await self._stream(acting)
            await self._commit(acting, [], _DONE)
        elif desk.shortcut is not None and span is None:
            outputs = await self._commit(acting, await self._call(acting, desk.shortcut), _DONE)
        else:
            outputs = await self._commit(acting, await self._evaluate(acting), _DONE)
        if span is not None:
            self._metrics.record_outputs(span, [record.snapshot for record in outputs])
        self._settler.succeeded(activation, outputs)
        if desk.hooks is not None:
            await desk.hooks.notify(
                "on_post_publish", desk.agent, acting.ctx, [Artifact.of(record) for record in outputs]
            )

    async def _commit(self, acting: Acting, records: list[Record], settle: Settle | None) -> Sequence[Record]:
        """Commit outputs, and the end of the activation with the last of them; gives the outputs as they are stored."""
        spine, count = self._spine, len(records)  # beyond these are the Failures of predicates that raised
        offers = spine.route(records) if records else ()
        committed = await spine.settle(Commit(records, offers, (), None, acting.lease, settle, spine.roster.limits))
        if spine.on_published is not None and records:
            await spine.on_published(committed.records)
        return committed.records[:count]

    async def _call(self, acting: Acting, shortcut: Shortcut) -> list[Record]:
        """Let the agent's function make the outputs of its only group; nobody else looks at its inputs."""
        evaluator, activation = self._evaluator, acting.lease.activation
        agent, (group,) = acting.desk.agent, acting.desk.agent.outputs
        if agent.best_of == 1:
            result = await evaluator.hold(acting, shortcut, activation)
        else:
            result = await evaluator.best(acting, group, lambda own, _: evaluator.hold(own, shortcut, activation))
        return self._records(items_of(result), group, activation)

    async def _evaluate(self, acting: Acting) -> list[Record]:
        """Evaluate every output group between the hooks."""
        desk, evaluator = acting.desk, self._evaluator
        agent, hooks, ctx = desk.agent, desk.hooks, acting.ctx
        inputs = await self._inputs(acting)
        records: list[Record] = []
        for group in agent.outputs:
            if agent.best_of == 1:
                result = await evaluator.hold(acting, evaluator.chain, agent, ctx, inputs, group)
            else:
                result = await self._best(acting, group, inputs)
            if hooks is not None:
                result = result_of(result, agent)
                result = await hooks.transform("on_post_evaluate", EvalResult, result, agent, ctx, inputs)
            records += self._records(items_of(result), group, ctx.activation, len(records))
        return records

    async def _best(self, acting: Acting, group: OutputGroup, inputs: EvalInputs) -> Any:  # noqa: ANN401 - what engines give
        """Give each candidate copies and a state of its own."""
        agent, ctx, evaluator = acting.desk.agent, acting.ctx, self._evaluator

        def evaluate(own: Acting, candidate: int) -> Any:  # noqa: ANN401 - an awaitable
            fresh = [Artifact.of(artifact.record) for artifact in inputs.artifacts]
            groups = [tuple([Artifact.of(artifact.record) for artifact in each]) for each in inputs.groups]
            mine = ctx.for_candidate(candidate, fresh)
            given = EvalInputs(fresh, mine.state, groups)
            return evaluator.hold(own, evaluator.chain, agent, mine, given, group, candidate)

        return await evaluator.best(acting, group, evaluate)

    async def _inputs(self, acting: Acting) -> EvalInputs:
        """Prepare what the engines get: the context that was asked for, and what the hooks make of the inputs."""
        agent, ctx, hooks = acting.desk.agent, acting.ctx, acting.desk.hooks
        groups = [tuple([Artifact.of(record) for record in group]) for group in ctx.activation.groups]
        inputs = EvalInputs(ctx.artifacts, ctx.state, groups)
        if agent.context is not None:
            ctx.state["context"] = await self._context(agent, ctx)
        if hooks is not None:
            await hooks.notify("on_initialize", agent, ctx)
            inputs.artifacts = await hooks.transform("on_pre_consume", list, inputs.artifacts, agent, ctx)
            inputs = await hooks.transform("on_pre_evaluate", EvalInputs, inputs, agent, ctx)
        return inputs

    async def _stream(self, acting: Acting) -> list[Record]:
        """Commit each yield at once as the next slot; slots that an earlier attempt committed stay as they are."""
        agent, ctx, group = acting.desk.agent, acting.ctx, acting.desk.agent.outputs[0]
        inputs = await self._inputs(acting)
        stored: list[Record] = []

        async def body() -> None:
            given: list[Item] = []
            stream = await agent.engines[0].evaluate(agent, ctx, inputs, group)
            try:
                async for result in stream:
                    for item in items_of(result):
                        records = self._records([item], group, ctx.activation, len(given), counted=False)
                        given.append(item)
                        stored.extend(await self._commit(acting, records, None))
            finally:
                await stream.aclose()
            check_counts(given, agent.name, group)

        await self._evaluator.hold(acting, body)
        return stored

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

    async def _context(self, agent: Agent, ctx: Context) -> Sequence[Artifact]:
        """Ask the agent's context provider; what the agent may not see is left out whatever it gives."""
        provider = agent.context
        if provider is None:
            return ()
        try:
            given = provider(ctx)
            if inspect.isawaitable(given):
                given = await given
            now = self._clock.now()
            return [artifact for artifact in given if sees(agent.identity, artifact.record, now)]
        except Exception as error:  # noqa: BLE001 - the guard of providers
            self._signals.hook_failed("context provider", error, agent=agent.name, run=ctx.correlation_id)
            return ()

    def _check_limits(self, activation: Activation) -> None:
        agent, depth, deepest = activation.agent, activation.depth - 1, self._limits.max_depth
        # The first Failure beyond the limit may still be handled; what its handler publishes may not go on.
        if depth > deepest and (depth > deepest + 2 or not is_failing(activation)):
            raise LimitExceeded(f"{agent!r} would run at depth {depth}: max_depth={deepest}; is there a loop?")
        most = self._limits.max_activations
        if most is not None and activation.ordinal > most:
            message = f"{agent!r} has had {most} activations in run {activation.run!r}: max_activations={most}"
            raise LimitExceeded(message)


def _firing(agent: Agent, lease: Lease) -> Firing:
    activation = lease.activation
    latest = max(activation.inputs, key=_sequence, default=None)
    return Firing(
        agent=agent.name,
        correlation_id=activation.run,
        activation_id=activation.id,
        description=agent.description or None,
        attempt=lease.attempt,
        choice_count=agent.best_of,
        trigger=activation.trigger,
        parent=activation.trace_context or (None if latest is None else latest.trace_context),
        links=[record.trace_context for record in activation.inputs if record is not latest],
    )


def _sequence(record: Record) -> int:
    return record.sequence


def _ignore(*_: object) -> None:
    return
