"""Declaring agents step by step; every call checks its own arguments."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, Literal, Self, TypeVar, cast

from pydantic import BaseModel
from typing_extensions import override

from flock.core import timers
from flock.core.agent import Consumes, Draft, Mode, Predicate, RetryPolicy, Score, all_of
from flock.model.collect import BatchSpec, JoinSpec, positive, seconds
from flock.model.conditions import Condition
from flock.model.errors import ConfigurationError
from flock.model.evaluation import FanOut, OutputGroup
from flock.model.payload import members
from flock.model.schedule import ScheduleSpec
from flock.model.visibility import Visibility
from flock.ports import AgentComponent, Engine

F = TypeVar("F", bound=Callable[..., Any])
_MARK = "__flock_agent__"
_LONGEST = 60.0  # seconds between two tries, unless the declaration says otherwise


class AgentBuilder:
    """Declares an agent step by step; every call checks its own arguments. Call it on a function to set the engine."""

    def __init__(self, name: str) -> None:
        """Start a declaration."""
        if not isinstance(name, str) or not name.strip():
            message = f"an agent needs a name, not {name!r}"
            raise ConfigurationError(message)
        self.draft = Draft(name=name)

    def __call__(self, fn: Callable[..., Any]) -> Self:
        """Use the builder as a decorator: the same as `calls`."""
        return self.calls(fn)

    def description(self, text: str) -> Self:
        """Say what the agent is for."""
        return self._set(description=str(text))

    def consumes(
        self,
        *types: type[BaseModel],
        where: Predicate | Sequence[Predicate] | None = None,
        tags: object = (),
        from_agents: object = (),
        join: JoinSpec | None = None,
        batch: BatchSpec | None = None,
        scope: Literal["run", "board"] = "run",
        when: Condition | None = None,
        semantic_match: object = None,
        priority: int = 0,
        mode: Mode = "both",
        replay: bool = False,
        name: str | None = None,
    ) -> Self:
        """Add one subscription: all these types (repeat one for counts)."""
        if semantic_match is not None:
            message = "semantic_match needs an embedding model, which this version does not have: use where="
            raise ConfigurationError(message)
        spec = Consumes(
            types=_models("consumes", types),
            where=_predicates("where", where),
            tags=_words("tags", tags),
            from_agents=_words("from_agents", from_agents),
            join=_instance("join", join, JoinSpec),
            batch=_instance("batch", batch, BatchSpec),
            scope=_one_of("scope", scope, ("run", "board")),
            when=_instance("when", when, Condition),
            priority=_integer("priority", priority),
            mode=_one_of("mode", mode, ("both", "events", "direct")),
            replay=bool(replay),
            name=name,
        )
        if not spec.types:
            message = "consumes(...) needs at least one type"
            raise ConfigurationError(message)
        self._open().consumes.append(spec)
        return self

    def publishes(
        self,
        *types: type[BaseModel],
        fan_out: int | tuple[int, int] | FanOut | None = None,
        where: Predicate | None = None,
        validate: Predicate | Sequence[Predicate | tuple[Predicate, str]] | None = None,
        visibility: Visibility | Callable[[Any], Visibility] | None = None,
        tags: object = (),
        description: str | None = None,
    ) -> Self:
        """Add one output group: one engine evaluation that makes these types."""
        if not types:
            message = "publishes(...) needs at least one type"
            raise ConfigurationError(message)
        if visibility is not None and not isinstance(visibility, Visibility) and not callable(visibility):
            message = f"visibility= takes a Visibility or a function of a payload, not {visibility!r}"
            raise ConfigurationError(message)
        group = OutputGroup(
            types=_models("publishes", types),
            fan_out=None if fan_out is None else FanOut.of(fan_out),
            where=all_of(_predicates("where", where)),
            validate=_checks(validate),
            visibility=visibility,
            tags=_words("tags", tags),
            description=description,
        )
        self._open().outputs.append(group)
        return self

    def calls(self, fn: Callable[..., Any]) -> Self:
        """Make a function the engine."""
        if not callable(fn):
            message = f"calls(...) takes a function, not {fn!r}"
            raise ConfigurationError(message)
        return self._set(function=fn, namespace=caller_names())

    def with_engines(self, *engines: Engine) -> Self:
        """Make a chain: each engine's outputs are the next one's inputs."""
        for engine in engines:
            if not callable(getattr(engine, "evaluate", None)):
                message = f"{engine!r} is no engine: it has no evaluate(agent, ctx, inputs, output_group)"
                raise ConfigurationError(message)
        return self._set(engines=tuple(engines))

    def with_utilities(self, *components: AgentComponent) -> Self:
        """Add components whose hooks run around the engines."""
        for each in components:
            if isinstance(each, type) or not any(name.startswith("on_") for name in dir(each)):
                message = f"with_utilities(...) takes components, objects with hooks, not {each!r}"
                raise ConfigurationError(message)
        return self._set(components=self.draft.components + tuple(components))

    def best_of(self, n: int, *, score: Score | None = None) -> Self:
        """Run n candidates at once and keep the one with the highest score; without a score the first."""
        if score is not None and not callable(score):
            message = f"score= takes a function of an EvalResult, not {score!r}"
            raise ConfigurationError(message)
        return self._set(best_of=positive("best_of(n)", n), score=score)

    def max_concurrency(self, n: int) -> Self:
        """Let n activations of this agent run at once."""
        return self._set(max_concurrency=positive("max_concurrency(n)", n))

    def retry(
        self,
        attempts: int,
        *,
        delay: timedelta | float = 0.1,
        max_delay: timedelta | float | None = None,
        backoff: float = 2.0,
        jitter: bool = True,
        on: type[BaseException] | tuple[type[BaseException], ...] = Exception,
    ) -> Self:
        """Try again after these errors; `attempts` counts all tries.

        The n-th pause is `delay * backoff ** (n - 1)`, at most `max_delay` (a minute, or `delay` if that is longer);
        jitter shortens it by up to a half.
        """
        kinds = on if isinstance(on, tuple) else (on,)
        if not kinds or not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
            message = f"retry(on=...) takes exception classes, not {on!r}"
            raise ConfigurationError(message)
        if isinstance(backoff, bool) or not isinstance(backoff, (int, float)) or not backoff >= 1:
            message = f"retry(backoff=...) takes a factor of 1 or more, not {backoff!r}"
            raise ConfigurationError(message)
        first = seconds("retry(delay=...)", delay, zero=True)
        longest = max(first, _LONGEST) if max_delay is None else seconds("retry(max_delay=...)", max_delay, zero=True)
        if longest < first:
            message = f"retry(delay={delay!r}) is longer than its max_delay={max_delay!r}"
            raise ConfigurationError(message)
        policy = RetryPolicy(
            attempts=positive("retry(attempts)", attempts),
            delay=first,
            max_delay=longest,
            backoff=float(backoff),
            jitter=bool(jitter),
            on=kinds,
        )
        return self._set(retry=policy)

    def timeout(self, limit: timedelta | float) -> Self:
        """End an attempt after so many seconds."""
        return self._set(timeout=seconds("timeout(seconds)", limit))

    def schedule(
        self,
        *,
        every: timedelta | float | None = None,
        at: Any = None,  # noqa: ANN401 - ScheduleSpec says what
        cron: str | None = None,
        after: timedelta | float | None = None,
        max_repeats: int | None = None,
        tz: str = "UTC",
    ) -> Self:
        """Fire by time as well."""
        spec = ScheduleSpec(every=every, at=at, cron=cron, after=after, max_repeats=max_repeats, tz=tz)
        timers.validate(spec)
        return self._set(schedule=spec)

    def labels(self, *labels: str) -> Self:
        """Carry labels that LabelledVisibility asks for."""
        return self._set(labels=_words("labels", labels))

    def tenant(self, id: str) -> Self:
        """Belong to a tenant."""
        return self._set(tenant=str(id))

    def prevent_self_trigger(self, prevent: bool = True) -> Self:  # noqa: FBT001, FBT002 - the API's shape
        """Don't fire on what this agent published itself (the default)."""
        return self._set(prevent_self_trigger=bool(prevent))

    def with_context(self, provider: Callable[..., Any]) -> Self:
        """Let a function of `ctx` choose board artifacts that engines find as `inputs.state["context"]`."""
        return self._set(context=provider)

    def model(self, name: str) -> Self:
        """Use this model instead of the Flock's."""
        return self._set(model=str(name))

    def tools(self, *fns: Callable[..., Any]) -> Self:
        """Offer functions to engines that can call tools."""
        return self._set(tools=tuple(fns))

    def _open(self) -> Draft:
        if self.draft.frozen:
            message = f"agent {self.draft.name!r} is registered: declare everything before the Flock's next operation"
            raise ConfigurationError(message)
        return self.draft

    def _set(self, **parts: object) -> Self:
        draft = self._open()
        for name, value in parts.items():
            setattr(draft, name, value)
        return self

    @override
    def __repr__(self) -> str:
        """Name the agent."""
        return f"<agent {self.draft.name}>"


def agent(name: F | str) -> F | AgentBuilder:
    """Mark a module's function as an agent for `flock.include(module)`, or start a builder by name."""
    if isinstance(name, str):
        return AgentBuilder(name)
    setattr(name, _MARK, True)
    return name


def declared_in(sources: Iterable[object]) -> Iterator[AgentBuilder | Callable[..., Any]]:
    """Give the builders and marked functions in modules, or given directly.

    Raises ConfigurationError for a module or function that declares nothing.
    """
    for source in sources:
        found: list[Any] = list(vars(source).values()) if isinstance(source, types.ModuleType) else [source]
        declared = [each for each in found if isinstance(each, AgentBuilder) or getattr(each, _MARK, None) is True]
        if not declared:
            message = f"{getattr(source, '__name__', source)!r} declares no agents: mark functions with @agent"
            raise ConfigurationError(message)
        yield from declared


def caller_names() -> dict[str, Any]:
    """Give the local names around the user's declaration, where string annotations of local classes are found."""
    frame = inspect.currentframe()
    while frame is not None and str(frame.f_globals.get("__name__")).startswith("flock."):
        frame = frame.f_back
    return {} if frame is None or frame.f_locals is frame.f_globals else dict(frame.f_locals)


def _models(call: str, types: tuple[object, ...]) -> tuple[type[BaseModel], ...]:
    for kind in types:
        if not isinstance(kind, type) or not issubclass(kind, BaseModel):
            message = f"{call}(...) takes pydantic models; {kind!r} is none"
            raise ConfigurationError(message)
    return tuple(kind for kind in types if isinstance(kind, type) and issubclass(kind, BaseModel))


def _predicates(name: str, value: object) -> tuple[Predicate, ...]:
    found: list[Predicate] = []
    for each in [] if value is None else members(value):
        if not callable(each):
            message = f"{name}= takes a function of a payload, or several, not {each!r}"
            raise ConfigurationError(message)
        found.append(cast("Predicate", each))
    return tuple(found)


def _checks(value: object) -> tuple[tuple[Predicate, str], ...]:
    checks: list[tuple[Predicate, str]] = []
    several: list[object] = [] if value is None else [value] if isinstance(value, tuple) else members(value)
    for each in several:
        check, *text = members(each) or [None]
        if not callable(check) or len(text) > 1:
            message = f"validate= takes functions of a payload or (function, message) pairs, not {each!r}"
            raise ConfigurationError(message)
        checks.append((cast("Predicate", check), str(text[0]) if text else "validate= said no"))
    return tuple(checks)


def _words(name: str, value: object) -> frozenset[str]:
    if isinstance(value, str):
        return frozenset({value})
    words = [word for word in members(value) if isinstance(word, str)]
    if len(words) != len(members(value)):
        message = f"{name} takes names, not {value!r}"
        raise ConfigurationError(message)
    return frozenset(words)


def _instance(name: str, value: Any, kind: type) -> Any:  # noqa: ANN401 - gives back what came in
    if value is not None and not isinstance(value, kind):
        message = f"{name}= takes a {kind.__name__}, not {value!r}"
        raise ConfigurationError(message)
    return value


def _one_of(name: str, value: Any, allowed: tuple[str, ...]) -> Any:  # noqa: ANN401 - gives back what came in
    if value not in allowed:
        message = f"{name}= is one of {', '.join(map(repr, allowed))}, not {value!r}"
        raise ConfigurationError(message)
    return value


def _integer(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        message = f"{name}= takes an integer, not {value!r}"
        raise ConfigurationError(message)
    return value
