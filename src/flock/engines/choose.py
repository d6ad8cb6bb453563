"""Choosing the engines of a declaration that names a function, a model or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flock.engines import function
from flock.engines.schema import SchemaEngine
from flock.model.errors import ConfigurationError

if TYPE_CHECKING:
    from flock.core.agent import Draft
    from flock.ports import Engine


class EngineChooser:
    """Gives drafts their engines; `model` is what agents without an engine use."""

    def __init__(self, model: str | None) -> None:
        """Raises ConfigurationError for a model that this version can't run."""
        self._default = None if model is None else _engine_of(model, "the Flock")

    def __call__(self, draft: Draft) -> None:
        """Complete a draft; raises ConfigurationError when it has no engine, or two."""
        if not draft.engines:
            function.declare(draft)
        elif draft.function is not None and not isinstance(draft.engines[0], function.FunctionEngine):
            message = f"agent {draft.name!r} has both calls(fn) and with_engines(...): choose one"
            raise ConfigurationError(message)
        if draft.engines:
            return
        engine = self._default if draft.model is None else _engine_of(draft.model, draft.name)
        if engine is None:
            message = (
                f'agent {draft.name!r} has no engine: give it calls(fn) or with_engines(...), or use Flock("test")'
            )
            raise ConfigurationError(message)
        draft.engines = (engine,)


def _engine_of(model: str, name: str) -> Engine:
    if model == "test":
        return SchemaEngine()
    advice = 'pip install "flock-board[llm]" once it is there; use "test" until then'
    message = f"model {model!r} of {name} needs an LLM engine: {advice}"
    raise ConfigurationError(message)
