"""The built-in "test" engine: valid, deterministic outputs from the declared types; no network, no model."""

from __future__ import annotations

from pydantic import BaseModel
from typing_extensions import override

from flock.engines.example_values import Examples
from flock.model.context import Context
from flock.model.evaluation import EvalInputs, EvalResult, OutputGroup
from flock.ports import AgentInfo, Engine


class SchemaEngine(Engine):
    """Makes as many examples of each declared type as the output group asks for (the lower bound of a range, or 1)."""

    name = "test"

    def __init__(self) -> None:
        """Read each type once."""
        self._examples: dict[type[BaseModel], Examples[BaseModel]] = {}

    @override
    async def evaluate(
        self, agent: AgentInfo, ctx: Context, inputs: EvalInputs, output_group: OutputGroup
    ) -> EvalResult:
        """Seed the examples with the agent's name and the inputs' payloads: equal inputs give equal outputs."""
        seed = "|".join([agent.name, *(a.record.snapshot.model_dump_json() for a in inputs.artifacts)])
        made: list[BaseModel] = []
        for kind, count in output_group.counts.items():
            maker = self._examples.get(kind)
            if maker is None:
                maker = self._examples[kind] = Examples(kind)
            made += [maker.make(seed=f"{seed}|{number}") for number in range(max(1, count.low))]
        return EvalResult.from_objects(*made, agent=agent)
