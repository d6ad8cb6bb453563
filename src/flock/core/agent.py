"""Agents as declared: frozen data, and the fluent builder that makes it."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Literal

from pydantic import BaseModel

from flock.core import timers
from flock.model.collect import Batch, BatchSpec, Gather, Hold, JoinSpec, Stage, positive, seconds
from flock.model.conditions import Condition, Tally, leaves
from flock.model.errors import ConfigurationError
from flock.model.evaluation import EvalResult, FanOut, OutputGroup
from flock.model.ledger import Target
from flock.model.schedule import ScheduleSpec
from flock.model.visibility import Identity, Visibility
from flock.ports import AgentComponent, Engine

Mode = Literal["both", "events", "direct"]
Predicate = Callable[[Any], bool]
Score = Callable[[EvalResult], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and when to try again. `delay` and `max_delay` in seconds; `attempts` counts all tries."""

    attempts: int = 1
    delay: float = 0.1
    max_delay: float = 60.0
    backoff: float = 2.0
    jitter: bool = True
    on: tuple[type[BaseException], ...] = (Exception,)

    def pause(self, attempt: int, chance: float) -> float:
        """Give the seconds to wait after this attempt: exponential, with full jitter from half the delay up."""
        pause = min(self.max_delay, self.delay * self.backoff ** (attempt - 1))
        return pause * (0.5 + 0.5 * chance) if self.jitter else pause


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subscription:
    """One condition under which an agent fires: what one `consumes(...)` declared."""

    id: str
    agent: str
    types: tuple[type[BaseModel], ...]
    counts: tuple[int, ...]
    where: Predicate | None = None
    tags: frozenset[str] = frozenset()
    from_agents: frozenset[str] = frozenset()
    join: JoinSpec | None = None
    batch: BatchSpec | None = None
    when: Condition | None = None
    mode: Mode = "both"
    replay: bool = False
    target: Target


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EngineStep:
    """One engine of a chain with the hooks that it really has."""

    name: str
    evaluate: Callable[..., Awaitable[Any]]
    before: Callable[..., Awaitable[Any]] | None = None
    after: Callable[..., Awaitable[Any]] | None = None

    @classmethod
    def of(cls, engine: Any) -> EngineStep:  # noqa: ANN401 - any object with evaluate
        """Look which hooks an engine has of its own."""
        return cls(
            name=str(getattr(engine, "name", None) or type(engine).__name__),
            evaluate=engine.evaluate,
            before=_own_hook(engine, "on_pre_evaluate"),
            after=_own_hook(engine, "on_post_evaluate"),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Agent:
    """One agent as declared; it holds no running state."""

    name: str
    description: str = ""
    subscriptions: tuple[Subscription, ...] = ()
    outputs: tuple[OutputGroup, ...] = ()
    engines: tuple[EngineStep, ...] = ()
    components: tuple[AgentComponent, ...] = ()
    best_of: int = 1
    score: Score | None = None
    max_concurrency: int = 10
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    timeout: float | None = None
    schedule: ScheduleSpec | None = None
    identity: Identity
    prevent_self_trigger: bool = True
    context: Callable[..., Any] | None = None
    model: str | None = None
    tools: tuple[Callable[..., Any], ...] = ()
    streams: bool = False
    timer: Target
    direct: Target
    direct_call: Callable[..., Awaitable[Any]] | None = None  # the only engine's evaluate, if it has no other hooks


@dataclass(slots=True, kw_only=True)
class Consumes:
    """The arguments of one `consumes(...)` call, checked one by one."""

    types: tuple[type[BaseModel], ...]
    where: tuple[Predicate, ...] = ()
    tags: frozenset[str] = frozenset()
    from_agents: frozenset[str] = frozenset()
    join: JoinSpec | None = None
    batch: BatchSpec | None = None
    scope: Literal["run", "board"] = "run"
    when: Condition | None = None
    priority: int = 0
    mode: Mode = "both"
    replay: bool = False
    name: str | None = None


@dataclass(slots=True, kw_only=True)
class Draft:
    """What a builder has collected so far."""

    name: str
    description: str = ""
    consumes: list[Consumes] = field(default_factory=list)
    outputs: list[OutputGroup] = field(default_factory=list)
    function: Callable[..., Any] | None = None
    namespace: dict[str, Any] = field(default_factory=dict)
    engines: tuple[Engine, ...] = ()
    components: tuple[AgentComponent, ...] = ()
    best_of: int = 1
    score: Score | None = None
    max_concurrency: int = 10
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    timeout: float | None = None
    schedule: ScheduleSpec | None = None
    labels: frozenset[str] = frozenset()
    tenant: str | None = None
    prevent_self_trigger: bool = True
    context: Callable[..., Any] | None = None
    model: str | None = None
    tools: tuple[Callable[..., Any], ...] = ()
    streams: bool = False
    frozen: bool = False


class AgentBuilder:
    """Declares an agent step by step; every call checks its own arguments. Call it on a function to set the engine."""

    def __init__(self, name: str) -> None:
        """Start a declaration."""
        if not isinstance(name, str) or not name.strip():
            message = f"an agent needs a name, not {name!r}"
            raise ConfigurationError(message)
        self.draft = Draft(name=name)

    def __call__(self, fn: Callable[..., Any]) -> AgentBuilder:
        """Use the builder as a decorator: the same as `calls`."""
        return self.calls(fn)

    def description(self, text: str) -> AgentBuilder:
        """Say what the agent is for."""
        return self._set(description=str(text))

    def consumes(  # noqa: PLR0913 - one subscription's parts
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
    ) -> AgentBuilder:
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

    def publishes(  # noqa: PLR0913 - one output group's parts
        self,
        *types: type[BaseModel],
        fan_out: int | tuple[int, int] | FanOut | None = None,
        where: Predicate | None = None,
        validate: Predicate | Sequence[Predicate | tuple[Predicate, str]] | None = None,
        visibility: Visibility | Callable[[Any], Visibility] | None = None,
        tags: object = (),
        description: str | None = None,
    ) -> AgentBuilder:
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
            where=_all(_predicates("where", where)),
            validate=_checks(validate),
            visibility=visibility,
            tags=_words("tags", tags),
            description=description,
        )
        self._open().outputs.append(group)
        return self

    def calls(self, fn: Callable[..., Any]) -> AgentBuilder:
        """Make a function the engine."""
        if not callable(fn):
            message = f"calls(...) takes a function, not {fn!r}"
            raise ConfigurationError(message)
        return self._set(function=fn, namespace=caller_names())

    def with_engines(self, *engines: Engine) -> AgentBuilder:
        """Make a chain: each engine's outputs are the next one's inputs."""
        for engine in engines:
            if not callable(getattr(engine, "evaluate", None)):
                message = f"{engine!r} is no engine: it has no evaluate(agent, ctx, inputs, output_group)"
                raise ConfigurationError(message)
        return self._set(engines=tuple(engines))

    def with_utilities(self, *components: AgentComponent) -> AgentBuilder:
        """Add components whose hooks run around the engines."""
        return self._set(components=self.draft.components + tuple(components))

    def best_of(self, n: int, *, score: Score | None = None) -> AgentBuilder:
        """Run n candidates at once and keep the one with the highest score; without a score the first."""
        if score is not None and not callable(score):
            message = f"score= takes a function of an EvalResult, not {score!r}"
            raise ConfigurationError(message)
        return self._set(best_of=positive("best_of(n)", n), score=score)

    def max_concurrency(self, n: int) -> AgentBuilder:
        """Let n activations of this agent run at once."""
        return self._set(max_concurrency=positive("max_concurrency(n)", n))

    def retry(  # noqa: PLR0913 - a policy's parts
        self,
        attempts: int,
        *,
        delay: timedelta | float = 0.1,
        max_delay: timedelta | float = 60.0,
        backoff: float = 2.0,
        jitter: bool = True,
        on: type[BaseException] | tuple[type[BaseException], ...] = Exception,
    ) -> AgentBuilder:
        """Try again after these errors; `attempts` counts all tries."""
        kinds = on if isinstance(on, tuple) else (on,)
        if not kinds or not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
            message = f"retry(on=...) takes exception classes, not {on!r}"
            raise ConfigurationError(message)
        if isinstance(backoff, bool) or not isinstance(backoff, (int, float)) or not backoff >= 1:
            message = f"retry(backoff=...) takes a factor of 1 or more, not {backoff!r}"
            raise ConfigurationError(message)
        policy = RetryPolicy(
            attempts=positive("retry(attempts)", attempts),
            delay=seconds("retry(delay=...)", delay, zero=True),
            max_delay=seconds("retry(max_delay=...)", max_delay, zero=True),
            backoff=float(backoff),
            jitter=bool(jitter),
            on=kinds,
        )
        return self._set(retry=policy)

    def timeout(self, limit: timedelta | float) -> AgentBuilder:
        """End an attempt after so many seconds."""
        return self._set(timeout=seconds("timeout(seconds)", limit))

    def schedule(  # noqa: PLR0913 - a schedule's parts
        self,
        *,
        every: timedelta | float | None = None,
        at: Any = None,  # noqa: ANN401 - ScheduleSpec says what
        cron: str | None = None,
        after: timedelta | float | None = None,
        max_repeats: int | None = None,
        tz: str = "UTC",
    ) -> AgentBuilder:
        """Fire by time as well."""
        spec = ScheduleSpec(every=every, at=at, cron=cron, after=after, max_repeats=max_repeats, tz=tz)
        timers.validate(spec)
        return self._set(schedule=spec)

    def labels(self, *labels: str) -> AgentBuilder:
        """Carry labels that LabelledVisibility asks for."""
        return self._set(labels=_words("labels", labels))

    def tenant(self, id: str) -> AgentBuilder:  # noqa: A002 - the API's word
        """Belong to a tenant."""
        return self._set(tenant=str(id))

    def prevent_self_trigger(self, prevent: bool = True) -> AgentBuilder:  # noqa: FBT001, FBT002 - the API's shape
        """Don't fire on what this agent published itself (the default)."""
        return self._set(prevent_self_trigger=bool(prevent))

    def with_context(self, provider: Callable[..., Any]) -> AgentBuilder:
        """Let a function of `ctx` choose board artifacts that engines find as `inputs.state["context"]`."""
        return self._set(context=provider)

    def model(self, name: str) -> AgentBuilder:
        """Use this model instead of the Flock's."""
        return self._set(model=str(name))

    def tools(self, *fns: Callable[..., Any]) -> AgentBuilder:
        """Offer functions to engines that can call tools."""
        return self._set(tools=tuple(fns))

    def _open(self) -> Draft:
        if self.draft.frozen:
            message = f"agent {self.draft.name!r} is registered: declare everything before the Flock's next operation"
            raise ConfigurationError(message)
        return self.draft

    def _set(self, **parts: object) -> AgentBuilder:
        draft = self._open()
        for name, value in parts.items():
            setattr(draft, name, value)
        return self

    def __repr__(self) -> str:
        """Name the agent."""
        return f"<agent {self.draft.name}>"


def freeze(draft: Draft) -> Agent:
    """Make the agent; raises ConfigurationError for combinations that can never work."""
    name = draft.name
    if draft.streams and draft.best_of > 1:
        message = f"agent {name!r}: an async generator publishes as it goes, so best_of can't choose among candidates"
        raise ConfigurationError(message)
    outputs = tuple(draft.outputs) or (OutputGroup(declared=False),)
    if draft.streams and len(outputs) > 1:
        message = f"agent {name!r}: an async generator serves one publishes(...) group"
        raise ConfigurationError(message)
    subscriptions: list[Subscription] = []
    for spec in draft.consumes:
        made = _subscription(draft, spec)
        same = sum(each.id == made.id or each.id.startswith(made.id + "~") for each in subscriptions)
        if same and spec.name is not None:
            message = f"agent {name!r} has two subscriptions named {spec.name!r}"
            raise ConfigurationError(message)
        if same:
            again = f"{made.id}~{same + 1}"
            made = replace(made, id=again, target=replace(made.target, subscription=again))
        subscriptions.append(made)
    draft.frozen, draft.namespace = True, {}
    engines = tuple(EngineStep.of(engine) for engine in draft.engines)
    alone = len(engines) == 1 and engines[0].before is None and engines[0].after is None
    return Agent(
        name=name,
        description=draft.description,
        subscriptions=tuple(subscriptions),
        outputs=outputs,
        engines=engines,
        direct_call=engines[0].evaluate if alone else None,
        components=tuple(sorted(draft.components, key=_priority)),
        best_of=draft.best_of,
        score=draft.score,
        max_concurrency=draft.max_concurrency,
        retry=draft.retry,
        timeout=draft.timeout,
        schedule=draft.schedule,
        identity=Identity(name=name, labels=draft.labels, tenant=draft.tenant),
        prevent_self_trigger=draft.prevent_self_trigger,
        context=draft.context,
        model=draft.model,
        tools=draft.tools,
        streams=draft.streams,
        timer=Target(subscription=f"{name}/timer", agent=name),
        direct=Target(subscription=f"{name}/direct", agent=name),
    )


def _subscription(draft: Draft, spec: Consumes) -> Subscription:
    types = tuple(dict.fromkeys(spec.types))
    counts = tuple(spec.types.count(kind) for kind in types)
    if spec.join is not None and sum(counts) == 1:
        message = f"agent {draft.name!r}: a join needs two artifacts or more; {types[0].__name__} alone is one"
        raise ConfigurationError(message)
    if spec.replay and spec.mode == "direct":
        message = f"agent {draft.name!r}: replay=True means nothing for mode='direct'"
        raise ConfigurationError(message)
    stages = _stages(counts, spec)
    label = spec.name or _fingerprint(types, counts, spec)
    target = Target(
        subscription=f"{draft.name}/{label}",
        agent=draft.name,
        stages=stages,
        board_wide=spec.scope == "board",
        priority=spec.priority,
        batches=spec.batch is not None,
    )
    return Subscription(
        id=target.subscription, agent=draft.name, types=types, counts=counts, where=_all(spec.where), tags=spec.tags,
        from_agents=spec.from_agents, join=spec.join, batch=spec.batch, when=spec.when, mode=spec.mode,
        replay=spec.replay, target=target,
    )  # fmt: skip


def _stages(counts: tuple[int, ...], spec: Consumes) -> tuple[Stage, ...]:
    stages: list[Stage] = []
    if spec.join is not None:
        window = spec.join.within
        if isinstance(window, timedelta):
            stages.append(Gather(need=counts, keyed=True, within=window.total_seconds()))
        else:
            stages.append(Gather(need=counts, keyed=True, last=window))
    elif sum(counts) > 1:
        stages.append(Gather(need=counts))
    if spec.batch is not None:
        timeout = spec.batch.timeout
        stages.append(Batch(size=spec.batch.size, timeout=None if timeout is None else seconds("timeout", timeout)))
    if spec.when is not None:
        stages.append(Hold(condition=spec.when))
    return tuple(stages)


def caller_names() -> dict[str, Any]:
    """Give the local names around the user's declaration, where string annotations of local classes are found."""
    frame = inspect.currentframe()
    while frame is not None and str(frame.f_globals.get("__name__")).startswith("flock."):
        frame = frame.f_back
    return {} if frame is None or frame.f_locals is frame.f_globals else dict(frame.f_locals)


def counters(subscription: Subscription) -> tuple[Tally, ...]:
    """Give the tallies that a subscription's `when` counts."""
    return () if subscription.when is None else leaves(subscription.when)


def _fingerprint(types: tuple[type[BaseModel], ...], counts: tuple[int, ...], spec: Consumes) -> str:
    """Identify a subscription over restarts by its shape; predicates have no stable text and are left out."""
    join = None if spec.join is None else str(spec.join.within)
    batch = None if spec.batch is None else (spec.batch.size, str(spec.batch.timeout))
    shape = (tuple(f"{kind.__module__}:{kind.__qualname__}" for kind in types), counts, spec.scope, join, batch)
    return hashlib.sha256(repr(shape).encode()).hexdigest()[:12]


def _own_hook(engine: Any, name: str) -> Callable[..., Awaitable[Any]] | None:  # noqa: ANN401
    if getattr(type(engine), name, None) is getattr(Engine, name):
        return None
    return getattr(engine, name, None)


def _priority(component: object) -> float:
    return float(getattr(component, "priority", 0))


def _all(predicates: tuple[Predicate, ...]) -> Predicate | None:
    if len(predicates) < 2:
        return predicates[0] if predicates else None
    return lambda payload: all(predicate(payload) for predicate in predicates)


def _models(call: str, types: tuple[object, ...]) -> tuple[type[BaseModel], ...]:
    for kind in types:
        if not isinstance(kind, type) or not issubclass(kind, BaseModel):
            message = f"{call}(...) takes pydantic models; {kind!r} is none"
            raise ConfigurationError(message)
    return tuple(kind for kind in types if isinstance(kind, type) and issubclass(kind, BaseModel))


def _predicates(name: str, value: object) -> tuple[Predicate, ...]:
    several = () if value is None else tuple(value) if isinstance(value, (list, tuple)) else (value,)
    for each in several:
        if not callable(each):
            message = f"{name}= takes a function of a payload, or several, not {each!r}"
            raise ConfigurationError(message)
    return several


def _checks(value: object) -> tuple[tuple[Predicate, str], ...]:
    several = () if value is None else value if isinstance(value, list) else (value,)
    checks: list[tuple[Predicate, str]] = []
    for each in several:
        check, text = each if isinstance(each, tuple) else (each, "validate= said no")
        if not callable(check):
            message = f"validate= takes functions of a payload or (function, message) pairs, not {each!r}"
            raise ConfigurationError(message)
        checks.append((check, str(text)))
    return tuple(checks)


def _words(name: str, value: object) -> frozenset[str]:
    if isinstance(value, str):
        return frozenset({value})
    if not isinstance(value, (list, tuple, set, frozenset)) or not all(isinstance(word, str) for word in value):
        message = f"{name} takes names, not {value!r}"
        raise ConfigurationError(message)
    return frozenset(value)


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


__all__ = ["Agent", "AgentBuilder", "Draft", "RetryPolicy", "Subscription", "counters", "freeze"]
