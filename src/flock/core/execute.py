"""Executing one activation: hooks, engines, outputs, and the one commit that ends it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flock.core import telemetry
from flock.core.ambient import Acting, Desk, current
from flock.core.board import BoardReader, sees
from flock.core.components import ComponentRunner
from flock.core.evaluate import Evaluator
from flock.core.outputs import Item, check_counts, items_of, records_of, result_of
from flock.core.settle import Settler, is_failing
from flock.core.slots import Slots
from flock.core.telemetry import ActivationSpan, Firing
from flock.model.artifact import Artifact, Record
from flock.model.context import Context
from flock.model.errors import LimitExceeded, Stale
from flock.model.evaluation import EvalInputs, EvalResult
from flock.model.ledger import Commit, Lease, Settle

if TYPE_CHECKING:
    from flock.core.agent import Agent
    from flock.core.publish import Spine
    from flock.model.evaluation import OutputGroup
    from flock.model.ledger import Activation
    from flock.ports import BoardHandle

_FIRST_DEFERRAL, _LAST_DEFERRAL = 0.05, 5.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
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
        self._plans: dict[str, _Plan] = {}

    def forget(self, agent: str) -> None:
        """Forget an agent that was removed."""
        plan = self._plans.pop(agent, None)
        if plan is not None:
            plan.desk.gone = True

    async def run(self, lease: Lease) -> None:
        """Run one attempt to its end; the body of an activation's task."""
        name = lease.activation.agent
        plan = self._plans.get(name) or self._plan(name)
        if plan is None:
            await self._spine.store.release(lease)
            return
        acting = Acting(self._spine, lease, plan.desk)
        current.set(acting)
        if not telemetry.active():
            await self._attempt(plan, acting, None)
            return
        span = self._start_span(plan.agent, lease)
        error: BaseException | None = None
        try:
            error = await self._attempt(plan, acting, span)
        except BaseException as raised:
            error = raised
            raise
        finally:
            if span is not None:
                self._metrics.end_activation(span, error)

    def _start_span(self, agent: Agent, lease: Lease) -> ActivationSpan | None:
        """Start the attempt's span; a span processor that raises costs the span and nothing else."""
        try:
            return self._metrics.start_activation(_firing(agent, lease))
        except Exception as error:  # noqa: BLE001 - the guard of telemetry
            self._signals.hook_failed("telemetry", error, agent=agent.name)
            return None

    def _plan(self, name: str) -> _Plan | None:
        """Gather what all activations of an agent share."""
        spine = self._spine
        agent = spine.roster.agents.get(name)
        if agent is None:
            return None
        slots = Slots(agent.max_concurrency)
        plan = self._plans[name] = _Plan(
            agent=agent,
            desk=Desk(name, slots, self._everyone, self.on_lend),
            reader=BoardReader(spine.store, self._clock, spine.roster.types, agent.identity),
            hooks=ComponentRunner(agent.components, self._signals, agent=name) if agent.components else None,
        )
        return plan

    # ---- one attempt

    async def _attempt(self, plan: _Plan, acting: Acting, span: ActivationSpan | None) -> BaseException | None:
        """Run one attempt and settle it, whatever happens; gives the error that it failed with."""
        agent, lease, hooks = plan.agent, acting.lease, plan.hooks
        ctx = Context(lease, agent, [Artifact.of(record) for record in lease.activation.inputs], plan.reader)
        try:
            await self._try(plan, acting, ctx, span)
        except asyncio.CancelledError:
            await self._settler.interrupted(lease)
            raise
        except Stale:
            self._settler.came_late(lease.activation)
        except Exception as error:  # noqa: BLE001 - the guard of activations: each error becomes one outcome
            await self._settler.failed(agent, lease, error)
            if hooks is not None:
                await hooks.notify("on_error", agent, ctx, error)
            return error
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            await self._spine.store.release(lease)
            raise
        except BaseException as error:
            await self._settler.failed(agent, lease, error)
            raise
        finally:
            if hooks is not None:
                await hooks.notify("on_terminate", agent, ctx)
        return None

    async def _try(self, plan: _Plan, acting: Acting, ctx: Context, span: ActivationSpan | None) -> None:
        agent, lease, spine = plan.agent, acting.lease, self._spine
        if span is not None:
            ctx.span = span.span
            self._metrics.record_inputs(span, [record.snapshot for record in lease.activation.inputs])
        if self._signals.listened:
            self._settler.tell("started", lease.activation)
        if self._components.components and await self._held_back(agent, lease, ctx):
            return
        self._check_limits(agent, lease.activation)
        made = await self._make(plan, acting, ctx)
        records, count = ([], 0) if agent.streams else (made, len(made))
        offers = spine.route(records) if records else ()
        committed = await spine.settle(Commit(records, offers, (), None, lease, _DONE, spine.roster.limits))
        outputs = made if agent.streams else committed.records[:count]
        if span is not None:
            self._metrics.record_outputs(span, [record.snapshot for record in outputs])
        self._settler.succeeded(lease.activation, outputs)
        if spine.on_published is not None and records:
            await spine.on_published(committed.records)
        if plan.hooks is not None:
            await plan.hooks.notify("on_post_publish", agent, ctx, [Artifact.of(each) for each in outputs])

    async def _make(self, plan: _Plan, acting: Acting, ctx: Context) -> list[Record]:
        """Evaluate every output group and give the records to commit; those of a stream have been."""
        agent, hooks = plan.agent, plan.hooks
        inputs = EvalInputs(ctx.artifacts, ctx.state, _groups(ctx.activation) if ctx.is_batch else [])
        if agent.context is not None:
            ctx.state["context"] = await self._context(agent, ctx)
        if hooks is not None:
            inputs = await _prepare(hooks, agent, ctx, inputs)
        if agent.streams:
            return await self._stream(agent, acting, ctx, inputs)
        records: list[Record] = []
        for group in agent.outputs:
            if agent.best_of == 1:
                result = await self._evaluator.turn(agent, ctx, inputs, group, acting)
            else:
                result = await self._best(plan, acting, ctx, inputs, group)
            if hooks is not None:
                result = result_of(result, agent)
                result = await hooks.transform("on_post_evaluate", EvalResult, result, agent, ctx, inputs)
            records += self._record(items_of(result), agent, group, ctx, len(records))
        return records

    def _record(
        self, items: Sequence[Item], agent: Agent, group: OutputGroup, ctx: Context, first_slot: int
    ) -> list[Record]:
        if group.fan_out is not None and not agent.streams:
            check_counts([type(_payload(item)) for item in items], agent, group)
        trace_context = self._metrics.traceparent()
        made, filtered = records_of(
            items, agent, group, ctx.activation, self._clock, first_slot=first_slot, trace_context=trace_context
        )  # fmt: skip
        for each in filtered:
            reason = f"output {each.type} did not pass publishes(where=...)"
            self._signals.dropped(
                "dropped", reason, agent=agent.name, run=ctx.correlation_id, activation=ctx.activation_id
            )
        return made

    async def _best(
        self, plan: _Plan, acting: Acting, ctx: Context, inputs: EvalInputs, group: OutputGroup
    ) -> EvalResult:
        def fresh() -> EvalInputs:
            return EvalInputs(
                [Artifact.of(artifact.record) for artifact in inputs.artifacts],
                {},
                [tuple([Artifact.of(artifact.record) for artifact in each]) for each in inputs.groups],
            )

        def turn() -> Acting:
            return Acting(self._spine, acting.lease, plan.desk)

        return await self._evaluator.best(plan.agent, ctx, group, fresh, turn)

    async def _stream(self, agent: Agent, acting: Acting, ctx: Context, inputs: EvalInputs) -> list[Record]:
        """Commit each yield at once as the next slot; slots that an earlier attempt committed stay as they are."""
        group, spine = agent.outputs[0], self._spine
        stored: list[Record] = []

        async def body(agent: Agent, ctx: Context, inputs: EvalInputs, group: OutputGroup, _: object) -> None:
            kinds: list[type] = []
            stream = await agent.engines[0].evaluate(agent, ctx, inputs, group)
            try:
                async for item in stream:
                    for each in items_of(item):
                        made = self._record([each], agent, group, ctx, len(kinds))
                        kinds.append(type(_payload(each)))
                        count, offers = len(made), spine.route(made)
                        commit = Commit(made, offers, lease=acting.lease, limits=spine.roster.limits)
                        committed = await spine.settle(commit)
                        stored.extend(committed.records[:count])
                        if spine.on_published is not None:
                            await spine.on_published(committed.records)
            finally:
                await stream.aclose()
            check_counts(kinds, agent, group)

        await self._evaluator.turn(agent, ctx, inputs, group, acting, body=body)
        return stored

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

    def _check_limits(self, agent: Agent, activation: Activation) -> None:
        depth = activation.depth - 1
        most = self._limits.max_activations
        # The first Failure beyond the limit may still be handled; what its handler publishes may not go on.
        if depth > self._limits.max_depth and (depth > self._limits.max_depth + 2 or not is_failing(activation)):
            message = f"{agent.name!r} would run at depth {depth}: max_depth={self._limits.max_depth}; is there a loop?"
            raise LimitExceeded(message)
        if most is not None and activation.ordinal > most:
            message = f"{agent.name!r} has had {most} activations in run {activation.run!r}: max_activations={most}"
            raise LimitExceeded(message)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Plan:
    """What all activations of one agent share on this event loop."""

    agent: Agent
    desk: Desk
    reader: BoardReader
    hooks: ComponentRunner | None


_DONE = Settle("done")


async def _prepare(hooks: ComponentRunner, agent: Agent, ctx: Context, inputs: EvalInputs) -> EvalInputs:
    """Run the hooks before the engines."""
    await hooks.notify("on_initialize", agent, ctx)
    inputs.artifacts = await hooks.transform("on_pre_consume", list, inputs.artifacts, agent, ctx)
    prepared: EvalInputs = await hooks.transform("on_pre_evaluate", EvalInputs, inputs, agent, ctx)
    return prepared


def _payload(item: Any) -> object:  # noqa: ANN401 - a model or an artifact
    return item.record.snapshot if isinstance(item, Artifact) else item


def _groups(activation: Activation) -> list[tuple[Artifact, ...]]:
    return [tuple([Artifact.of(record) for record in group]) for group in activation.groups]


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
