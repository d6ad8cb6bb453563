"""Evaluating: engine chains one after the other, best-of-N side by side."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

from flock.core.agent import Agent, Score, Shortcut
from flock.core.ambient import Acting, current
from flock.core.clock import within
from flock.core.outputs import Item, check_items, items_of, result_of
from flock.core.signals import Signals
from flock.model.artifact import Artifact
from flock.model.context import Context
from flock.model.errors import FlockError
from flock.model.evaluation import EvalInputs, EvalResult, OutputGroup
from flock.model.ledger import Activation
from flock.ports import Clock, Telemetry

PATIENCE = 1.0  # seconds that a body has for its clean-up after a timeout or cancellation


class Evaluator:
    """Runs engines. What it gives is an EvalResult, or what the only engine returned when nobody asks for more."""

    def __init__(self, clock: Clock, signals: Signals, metrics: Telemetry, on_stuck: Callable[[Acting], None]) -> None:
        """Tell failures of candidates here; `on_stuck` is called when a body ignores that its time is over."""
        self._clock = clock
        self._signals = signals
        self._metrics = metrics
        self._on_stuck = on_stuck

    async def hold(self, acting: Acting, body: Callable[..., Awaitable[Any]], *args: Any) -> Any:  # noqa: ANN401 - what body gives
        """Await `body(*args)` while holding the slots of a chain and within the agent's timeout."""
        if not acting.take_free():
            await acting.take()
        try:
            agent = acting.desk.agent
            if agent.timeout is None:
                return await body(*args)
            over = self._clock.now() + agent.timeout
            watch = self._clock.call_at(over + PATIENCE, partial(self._on_stuck, acting))
            try:
                return await within(self._clock, agent.timeout, body(*args), late(agent))
            finally:
                watch.cancel()
        finally:
            acting.give()

    async def chain(
        self, agent: Agent, ctx: Context, inputs: EvalInputs, group: OutputGroup, candidate: int | None = None
    ) -> Any:  # noqa: ANN401 - see the class
        """Evaluate an agent's engines in order; each one's outputs are the next one's inputs."""
        engines, traced = agent.engines, self._metrics.enabled()
        if agent.direct_call is not None:
            if not traced:
                return await agent.direct_call(agent, ctx, inputs, group)
            with self._metrics.engine(agent.name, engines[0].name, candidate=candidate):
                return await agent.direct_call(agent, ctx, inputs, group)
        total = EvalResult(state=inputs.state)
        for number, engine in enumerate(engines):
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

    def spanned(self, agent: Agent, shortcut: Shortcut) -> Shortcut:
        """Give a shortcut that runs in its engine's span."""

        async def run(activation: Activation) -> Any:  # noqa: ANN401 - see the class
            with self._metrics.engine(agent.name, agent.engines[0].name):
                return await shortcut(activation)

        return run

    async def best(self, acting: Acting, group: OutputGroup, evaluate: Callable[[Acting, int], Awaitable[Any]]) -> Any:  # noqa: ANN401 - see the class
        """Run `best_of` candidates at once and give what the best one gave; raises when no candidate is left."""
        agent = acting.desk.agent
        results: dict[int, Any] = {}
        scores: dict[int, float] = {}
        errors: list[Exception] = []

        async def run(candidate: int) -> None:
            own = Acting(acting.board, acting.lease, acting.desk)
            current.set(own)
            try:
                result = await evaluate(own, candidate)
                items = items_of(result)
                check_items(items, agent.name, group)
                scores[candidate] = 0.0 if agent.score is None else _score(agent.score, agent.name, result, items)
                results[candidate] = result
            except Exception as error:  # noqa: BLE001 - the guard of candidates: a failed one is out of the race
                errors.append(error)
                self._signals.tell("error", acting.lease.activation, reason=f"candidate {candidate}", error=error)

        async with asyncio.TaskGroup() as candidates:
            for candidate in range(agent.best_of):
                candidates.create_task(run(candidate))
        if results:
            return results[max(results, key=lambda candidate: (scores[candidate], -candidate))]
        if not errors:
            raise asyncio.CancelledError
        errors[0].add_note(f"all {agent.best_of} candidates of {agent.name!r} failed")
        raise errors[0]


def _score(score_of: Score, agent: str, result: object, items: Sequence[Item]) -> float:
    """Score a candidate; a score sees the outputs themselves and must be pure."""
    if not isinstance(result, EvalResult):
        result = EvalResult([item if isinstance(item, Artifact) else Artifact.around(item, agent) for item in items])
    score = float(score_of(result))
    if math.isnan(score):
        raise FlockError(f"score= of agent {agent!r} gave NaN")
    return score


def late(agent: Agent) -> TimeoutError:
    """Say that an agent's time is over."""
    return TimeoutError(f"agent {agent.name!r} took longer than {agent.timeout:g} s")
