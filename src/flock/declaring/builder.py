"""Declaring agents step by step; every call checks its own arguments."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, Self, TypeVar, cast

from pydantic import BaseModel
from typing_extensions import override

from flock.core import timers
from flock.core.agent import Agent, Mode, Predicate, RetryPolicy, Scope, Score, Subscription
from flock.declaring.arguments import checks_of, instance, models, one_of, predicate_of, take, words
from flock.declaring.completing import complete
from flock.declaring.schedule import ScheduleSpec
from flock.model.collect import BatchSpec, JoinSpec, positive, seconds
from flock.model.conditions import Condition
from flock.model.errors import ConfigurationError
from flock.model.evaluation import FanOut, OutputGroup
from flock.model.ledger import Target
from flock.model.visibility import Identity, Visibility
from flock.ports import AgentComponent, Engine

F = TypeVar("F", bound=Callable[..., Any])
_MARK = "__flock_agent__"
_LONGEST = 60.0  # seconds between two tries, unless the declaration says otherwise


class AgentBuilder:
    """Declares an agent step by step; every call checks its own arguments. Call it on a function to set the engine.

    `declared` is what has been said so far. An agent whose engine is a function has `function`, the local `names` where
    its annotations were written, and `parameters` once these have been read.
    """

    def __init__(self, name: str) -> None:
        """Start a declaration."""
        take(name, isinstance(name, str) and name.strip(), "an agent needs a name")
        self.declared = Agent(
            name=name,
            identity=Identity(name=name),
            timer=Target(subscription=f"{name}/timer", agent=name),
            direct=Target(subscription=f"{name}/direct", agent=name),
        )
        self.engines: tuple[Engine, ...] = ()
        self.function: Callable[..., Any] | None = None
        self.names: dict[str, Any] = {}
        self.parameters: tuple[Any, ...] | None = None
        self._frozen = False

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
        scope: Scope = "run",
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
        whole = isinstance(priority, int) and not isinstance(priority, bool)
        subscription = Subscription.to(
            models("consumes", types), where=predicate_of(where), tags=words("tags", tags),
            from_agents=words("from_agents", from_agents), join=instance("join", join, JoinSpec),
            batch=instance("batch", batch, BatchSpec), scope=one_of("scope", scope, Scope),
            when=instance("when", when, Condition), priority=take(priority, whole, "priority= takes an integer"),
            mode=one_of("mode", mode, Mode), replay=bool(replay), name=name,
        )  # fmt: skip
        return self._set(subscriptions=(*self.declared.subscriptions, subscription))

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
        known = visibility is None or isinstance(visibility, Visibility) or callable(visibility)
        take(visibility, known, "visibility= takes a Visibility or a function of a payload")
        group = OutputGroup(
            types=models("publishes", types), fan_out=None if fan_out is None else FanOut.of(fan_out),
            where=predicate_of(where), validate=tuple(checks_of(validate)), visibility=visibility,
            tags=words("tags", tags), description=description,
        )  # fmt: skip
        return self._set(outputs=(*self.declared.outputs, group))

    def calls(self, fn: Callable[..., Any]) -> Self:
        """Make a function the engine."""
        take(fn, callable(fn), "calls(...) takes a function")
        self._open().function, self.names, self.parameters = fn, _caller_names(), None
        return self

    def with_engines(self, *engines: Engine) -> Self:
        """Make a chain: each engine's outputs are the next one's inputs."""
        for engine in engines:
            if not callable(getattr(engine, "evaluate", None)):
                message = f"{engine!r} is no engine: it has no evaluate(agent, ctx, inputs, output_group)"
                raise ConfigurationError(message)
        self._open().engines = engines
        return self

    def with_utilities(self, *components: AgentComponent) -> Self:
        """Add components whose hooks run around the engines."""
        for each in components:
            hooked = not isinstance(each, type) and any(name.startswith("on_") for name in dir(each))
            take(each, hooked, "with_utilities(...) takes components, objects with hooks")
        return self._set(components=self.declared.components + components)

    def best_of(self, n: int, *, score: Score | None = None) -> Self:
        """Run n candidates at once and keep the one with the highest score; without a score the first."""
        take(score, score is None or callable(score), "score= takes a function of an EvalResult")
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
        errors = kinds and all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds)
        take(on, errors, "retry(on=...) takes exception classes")
        factor = not isinstance(backoff, bool) and isinstance(backoff, (int, float)) and backoff >= 1
        take(backoff, factor, "retry(backoff=...) takes a factor of 1 or more")
        first = seconds("retry(delay=...)", delay, zero=True)
        longest = max(first, _LONGEST) if max_delay is None else seconds("retry(max_delay=...)", max_delay, zero=True)
        if longest < first:
            raise ConfigurationError(f"retry(delay={delay!r}) is longer than its max_delay={max_delay!r}")
        tries = positive("retry(attempts)", attempts)
        return self._set(retry=RetryPolicy(tries, first, longest, float(backoff), bool(jitter), kinds))

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
        return self._set(identity=self.declared.identity._replace(labels=words("labels", labels)))

    def tenant(self, id: str) -> Self:
        """Belong to a tenant."""
        return self._set(identity=self.declared.identity._replace(tenant=str(id)))

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
        return self._set(tools=fns)

    def freeze(self, engines: Iterable[object]) -> Agent:
        """Make the agent with these engines; every change from now on raises ConfigurationError."""
        agent = complete(self.declared, engines)
        self._frozen = True
        return agent

    def _open(self) -> Self:
        if self._frozen:
            why = "is registered: declare everything before the Flock's next operation"
            raise ConfigurationError(f"agent {self.declared.name!r} {why}")
        return self

    def _set(self, **parts: Any) -> Self:  # noqa: ANN401 - what an Agent has
        declared = self._open().declared
        for name, value in parts.items():
            object.__setattr__(declared, name, value)  # this one is the builder's own: `complete` makes another
        return self

    @override
    def __repr__(self) -> str:
        """Name the agent."""
        return f"<agent {self.declared.name}>"


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
            name = getattr(source, "__name__", source)
            raise ConfigurationError(f"{name!r} declares no agents: mark functions with @agent")
        yield from declared


def name_of(fn: Any) -> str:  # noqa: ANN401 - any callable
    """Give a function's name, through partials and callable objects."""
    inner = cast("object", fn.func) if isinstance(fn, functools.partial) else fn
    return str(getattr(inner, "__name__", type(inner).__name__))


def _caller_names() -> dict[str, Any]:
    """Give the local names around the user's declaration, where string annotations of local classes are found."""
    frame = inspect.currentframe()
    while frame is not None and str(frame.f_globals.get("__name__")).startswith("flock."):
        frame = frame.f_back
    return {} if frame is None or frame.f_locals is frame.f_globals else dict(frame.f_locals)
