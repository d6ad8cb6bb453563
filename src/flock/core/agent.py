"""Agents as declared: frozen data, and the fluent builder that makes it."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Literal

from pydantic import BaseModel

from flock.model.collect import Batch, BatchSpec, Gather, Hold, JoinSpec, Stage, seconds
from flock.model.conditions import Condition, Tally, leaves
from flock.model.errors import ConfigurationError
from flock.model.evaluation import EvalResult, OutputGroup
from flock.model.ledger import Activation, Target
from flock.model.schedule import ScheduleSpec
from flock.model.visibility import Identity
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
    shortcut: Callable[[Activation], Awaitable[Any]] | None = None

    @classmethod
    def of(cls, engine: Any) -> EngineStep:  # noqa: ANN401 - any object with evaluate
        """Look which hooks an engine has of its own."""
        return cls(
            name=str(getattr(engine, "name", None) or type(engine).__name__),
            evaluate=engine.evaluate,
            before=_own_hook(engine, "on_pre_evaluate"),
            after=_own_hook(engine, "on_post_evaluate"),
            shortcut=getattr(engine, "shortcut", None),
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
    shortcut: Callable[[Activation], Awaitable[Any]] | None = None  # the same with the inputs alone, if it can do so


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
    consumes: list[Consumes] = field(default_factory=list[Consumes])
    outputs: list[OutputGroup] = field(default_factory=list[OutputGroup])
    function: Callable[..., Any] | None = None
    namespace: dict[str, Any] = field(default_factory=dict[str, Any])
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
        shortcut=engines[0].shortcut if alone else None,
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
        slots=tuple(kind.__name__ for kind in types),
    )
    return Subscription(
        id=target.subscription, agent=draft.name, types=types, counts=counts, where=all_of(spec.where), tags=spec.tags,
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
    kind: type[object] = engine.__class__
    if getattr(kind, name, None) is getattr(Engine, name):
        return None
    return getattr(engine, name, None)


def _priority(component: object) -> float:
    return float(getattr(component, "priority", 0))


def all_of(predicates: tuple[Predicate, ...]) -> Predicate | None:
    """Make one predicate of several."""
    if not predicates:
        return None
    if len(predicates) == 1:
        return predicates[0]
    return lambda payload: all(predicate(payload) for predicate in predicates)
