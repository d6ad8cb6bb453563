"""Choosing the engines of a declaration that names a function, a model or nothing."""

from __future__ import annotations

from flock.declaring.builder import AgentBuilder
from flock.engines import function
from flock.engines.schema import SchemaEngine
from flock.engines.threads import Threads
from flock.model.errors import ConfigurationError
from flock.ports import Engine


class EngineChooser:
    """Gives declarations their engines; `model` is what agents without an engine use."""

    def __init__(self, model: str | None, threads: Threads) -> None:
        """Raises ConfigurationError for a model that this version can't run."""
        self._default = None if model is None else _engine_of(model, "the Flock")
        self._threads = threads

    def __call__(self, builder: AgentBuilder) -> tuple[Engine, ...]:
        """Choose; raises ConfigurationError when a declaration has no engine, or two."""
        name, fn, model = builder.declared.name, builder.function, builder.declared.model
        if fn is not None and builder.engines:
            raise ConfigurationError(f"agent {name!r} has both calls(fn) and with_engines(...): choose one")
        if fn is not None:
            return (function.FunctionEngine(fn, function.declare(builder, fn), self._threads),)
        if builder.engines:
            return builder.engines
        engine = self._default if model is None else _engine_of(model, name)
        if engine is None:
            message = f'agent {name!r} has no engine: give it calls(fn) or with_engines(...), or use Flock("test")'
            raise ConfigurationError(message)
        return (engine,)


def _engine_of(model: str, name: str) -> Engine:
    if model == "test":
        return SchemaEngine()
    advice = 'pip install "flock-board[llm]" once it is there; use "test" until then'
    raise ConfigurationError(f"model {model!r} of {name} needs an LLM engine: {advice}")
