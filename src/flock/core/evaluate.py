"""Evaluating: engine chains one after the other, best-of-N side by side."""

from __future__ import annotations

import asyncio
import math
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from flock.core import telemetry
from flock.core.ambient import Acting, current
from flock.core.clock import within
from flock.core.outputs import check_items, items_of, result_of
from flock.model.errors import FlockError
from flock.model.evaluation import EvalInputs, EvalResult

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flock.core.agent import Agent
    from flock.core.signals import Signals
    from flock.core.telemetry import Telemetry
    from flock.model.context import Context
    from flock.model.evaluation import OutputGroup
    from flock.ports import Clock


PATIENCE = 1.0  # seconds that a body has for its clean-up after a timeout or cancellation


class Evaluator:
    """Runs engines. What it gives is an EvalResult, or what the only engine returned when nobody asks for more."""

    def __init__(self, clock: Clock, signals: Signals, metrics: Telemetry) -> None:
        """Tell failures of candidates here; `on_stuck` is called when a body ignores that its time is over."""
        self._clock = clock
        self._signals = signals
        self._metrics = metrics
        self.on_stuck: Callable[[Agent, Context], None] = _ignore

    async def turn(
        self,
        agent: Agent,
        ctx: Context,
        inputs: EvalInputs,
        group: OutputGroup,
        turn: Acting,
        *,
        candidate: int | None = None,
        body: Callable[..., Awaitable[Any]] | None = None,
    ) -> Any:  # noqa: ANN401 - see the class
        """Evaluate a chain (or another body) while holding its slots and within the agent's timeout."""
        run = body or self.chain
        if not turn.take_free():
            await turn.take()
        try:
            if agent.timeout is None:
                if agent.direct_call is not None and body is None and not telemetry.enabled():
                    return await agent.direct_call(agent, ctx, inputs, group)
                return await run(agent, ctx, inputs, group, candidate)
            over = self._clock.now() + agent.timeout
            watch = self._clock.call_at(over + PATIENCE, partial(self.on_stuck, agent, ctx))
            try:
                return await within(self._clock, agent.timeout, run(agent, ctx, inputs, group, candidate), late(agent))
            finally:
                watch.cancel()
        finally:
            turn.give()

    async def chain(
        self, agent: Agent, ctx: Context, inputs: EvalInputs, group: OutputGroup, candidate: int | None = None
    ) -> Any:  # noqa: ANN401 - see the class
        """Evaluate an agent's engines in order; each one's outputs are the next one's inputs."""
        engines = agent.engines
        if agent.direct_call is not None:
            with self._metrics.engine(agent.name, engines[0].name, candidate=candidate):
                return await agent.direct_call(agent, ctx, inputs, group)
        total = EvalResult(state=inputs.state)
        for number, engine in enumerate(engines):
            traced = telemetry.enabled()
            with self._metrics.engine(agent.name, engine.name, candidate=candidate) if traced else nullcontext():
                if engine.before is not None:
                    inputs = await engine.before(agent, ctx, inputs) or inputs
                result = result_of(await engine.evaluate(agent, ctx, inputs, group), agent)
                if engine.after is not None:
                    result = await engine.after(agent, ctx, inputs, result) or result
            total.state = {**total.state, **result.state}
            total.metrics = {**total.metrics, **result.metrics}
            total.logs = [*total.logs, *result.logs]
            total.artifacts = result.artifacts
            if number + 1 < len(engines):
                inputs = EvalInputs(result.artifacts or inputs.artifacts, total.state, inputs.groups)
        return total

    async def best(
        self,
        agent: Agent,
        ctx: Context,
        group: OutputGroup,
        fresh: Callable[[], EvalInputs],
        turn: Callable[[], Acting],
    ) -> EvalResult:
        """Run `best_of` chains at once and give the result of the best; raises when no candidate is left."""
        results: list[EvalResult | None] = [None] * agent.best_of
        scores: list[float] = [-math.inf] * agent.best_of
        errors: list[Exception] = []

        async def run(candidate: int) -> None:
            own = turn()
            current.set(own)
            try:
                inputs = fresh()
                mine = ctx.for_candidate(candidate, inputs.artifacts)
                inputs.state = mine.state
                result = result_of(await self.turn(agent, mine, inputs, group, own, candidate=candidate), agent)
                check_items(items_of(result), agent, group)
                scores[candidate] = _score(agent, result)
                results[candidate] = result
            except Exception as error:  # noqa: BLE001 - the guard of candidates: a failed one is out of the race
                errors.append(error)
                self._signals.emit(
                    "error", agent=agent.name, run=ctx.correlation_id, activation=ctx.activation_id,
                    reason=f"candidate {candidate}", error=error,
                )  # fmt: skip

        async with asyncio.TaskGroup() as group_of_tasks:
            for candidate in range(agent.best_of):
                group_of_tasks.create_task(run(candidate))
        left = [index for index, result in enumerate(results) if result is not None]
        if not left and not errors:
            raise asyncio.CancelledError
        if not left:
            errors[0].add_note(f"all {agent.best_of} candidates of {agent.name!r} failed")
            raise errors[0]
        winner = results[max(left, key=lambda index: (scores[index], -index))]
        if winner is None:
            raise AssertionError
        return winner


def _score(agent: Agent, result: EvalResult) -> float:
    """Score a candidate; all are equal without a score function."""
    score = 0.0 if agent.score is None else float(agent.score(result))
    if math.isnan(score):
        message = f"score= of agent {agent.name!r} gave NaN"
        raise FlockError(message)
    return score


def late(agent: Agent) -> TimeoutError:
    """Say that an agent's time is over."""
    return TimeoutError(f"agent {agent.name!r} took longer than {agent.timeout:g} s")


def _ignore(*_: object) -> None:
    return
