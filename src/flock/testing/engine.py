"""An engine that does what a script says."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel
from typing_extensions import override

from flock.model.artifact import Artifact
from flock.model.context import Context
from flock.model.evaluation import EvalInputs, EvalResult, OutputGroup
from flock.ports import AgentInfo, Engine

Output = BaseModel | Artifact | EvalResult | Sequence[BaseModel | Artifact] | None
Step = Output | BaseException | type[BaseException] | Callable[[EvalInputs], Output | Awaitable[Output]]


class ScriptError(AssertionError):
    """Raised when an engine is called more often than its script says."""


class Call(NamedTuple):
    """One call of a scripted engine."""

    agent: str
    payloads: tuple[BaseModel, ...]
    attempt: int
    run: str


class ScriptedEngine(Engine):
    """Plays one step per call, in order, and keeps the calls.

    A step is what to return (a model, several, an EvalResult, None), what to raise (an exception or its class), or a
    function of the EvalInputs, sync or async, that gives what to return. A dict names steps by the number of the call,
    from 1. A call beyond the script raises ScriptError.
    """

    def __init__(self, script: Sequence[Step] | Mapping[int, Step]) -> None:
        """Take the script; it is not changed."""
        numbered = script if isinstance(script, Mapping) else dict(enumerate(script, 1))
        self._steps: dict[int, Step] = dict(numbered)
        self.calls: list[Call] = []

    @property
    def left(self) -> int:
        """How many steps have not been played."""
        return sum(number > len(self.calls) for number in self._steps)

    @override
    async def evaluate(self, agent: AgentInfo, ctx: Context, inputs: EvalInputs, output_group: OutputGroup) -> Any:
        """Play the next step."""
        payloads = tuple(artifact.payload for artifact in inputs.artifacts)
        self.calls.append(Call(agent.name, payloads, ctx.attempt, ctx.correlation_id))
        number = len(self.calls)
        if number not in self._steps:
            known = ", ".join(map(str, sorted(self._steps))) or "none"
            raise ScriptError(f"call {number} by agent {agent.name!r} is not in the script, which has steps {known}")
        step: Any = self._steps[number]
        if _is_error(step):
            raise step
        if callable(step) and not isinstance(step, BaseModel):
            given = step(inputs)
            return await given if inspect.isawaitable(given) else given
        return step

    @override
    def __repr__(self) -> str:
        """Say how far the script is."""
        return f"<ScriptedEngine: {len(self.calls)} calls, {self.left} of {len(self._steps)} steps left>"


def _is_error(step: object) -> bool:
    return isinstance(step, BaseException) or (isinstance(step, type) and issubclass(step, BaseException))
