"""Agents as declared: frozen data, and what is settled once a declaration is complete."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal, NamedTuple, NoReturn

from pydantic import BaseModel

from flock.model.collect import Batch, BatchSpec, Gather, Hold, JoinSpec, Stage, seconds
from flock.model.conditions import Condition, Tally, leaves
from flock.model.errors import ConfigurationError
from flock.model.evaluation import EvalResult, OutputGroup
from flock.model.ledger import Activation, Target
from flock.model.payload import type_name
from flock.model.schedule import ScheduleSpec
from flock.ports import AgentComponent, AgentInfo, Engine

Mode = Literal["both", "events", "direct"]
Scope = Literal["run", "board"]
Predicate = Callable[[Any], bool]
Score = Callable[[EvalResult], float]
Hook = Callable[..., Awaitable[Any]]
Shortcut = Callable[[Activation], Awaitable[Any]]


class RetryPolicy(NamedTuple):
    """How often and when to try again. `delay` and `max_delay` in seconds; `attempts` counts all tries."""

    attempts: int = 1
    delay: float = 0.1
    max_delay: float = 60.0
    backoff: float = 2.0
    jitter: bool = True
    on: tuple[type[BaseException], ...] = (Exception,)

    def again(self, attempt: int, error: BaseException) -> bool:
        """Say whether this attempt, which has failed so, may be followed by another."""
        return attempt < self.attempts and isinstance(error, self.on)

    def pause(self, attempt: int, chance: float) -> float:
        """Give the seconds to wait after this attempt: exponential, with full jitter from half the delay up."""
        try:
            pause = min(self.max_delay, self.delay * self.backoff ** (attempt - 1))
        except OverflowError:
            pause = self.max_delay
        return pause * (0.5 + 0.5 * chance) if self.jitter else pause


ONCE = RetryPolicy()


@dataclass(frozen=True, slots=True, eq=False)
class Every:
    """One predicate of several."""

    predicates: tuple[Predicate, ...]

    def __call__(self, payload: Any) -> bool:  # noqa: ANN401 - as a predicate
        """Ask them in order up to the first that says no."""
        return all(predicate(payload) for predicate in self.predicates)


class Subscription(NamedTuple):
    """One condition under which an agent fires: what one `consumes(...)` declared.

    `types` names each type once and `counts` how many of it; `id` and `target` are settled with the agent.
    """

    types: tuple[type[BaseModel], ...]
    counts: tuple[int, ...]
    where: Predicate | None = None
    tags: frozenset[str] = frozenset()
    from_agents: frozenset[str] = frozenset()
    join: JoinSpec | None = None
    batch: BatchSpec | None = None
    scope: Scope = "run"
    when: Condition | None = None
    priority: int = 0
    mode: Mode = "both"
    replay: bool = False
    name: str | None = None
    id: str = ""
    target: Target = Target(subscription="", agent="")

    @classmethod
    def to(cls, types: Iterable[type[BaseModel]], **conditions: Any) -> Subscription:  # noqa: ANN401 - the fields above
        """Subscribe to all these types; one that is there twice has to come twice."""
        counts = Counter(types)
        return cls(tuple(counts), tuple(counts.values()), **conditions)


class EngineStep(NamedTuple):
    """One engine of a chain with the hooks that it really has."""

    name: str
    evaluate: Hook
    before: Hook | None = None
    after: Hook | None = None
    shortcut: Shortcut | None = None

    @classmethod
    def of(cls, engine: Any) -> EngineStep:  # noqa: ANN401 - any object with evaluate
        """Look which hooks an engine has of its own."""
        name = str(getattr(engine, "name", None) or type(engine).__name__)
        before, after = (_own_hook(engine, hook) for hook in ("on_pre_evaluate", "on_post_evaluate"))
        return cls(name, engine.evaluate, before, after, engine.shortcut if isinstance(engine, Engine) else None)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Agent(AgentInfo):
    """One agent as declared; it holds no running state."""

    subscriptions: tuple[Subscription, ...] = ()
    engines: tuple[EngineStep, ...] = ()
    components: tuple[AgentComponent, ...] = ()
    score: Score | None = None
    max_concurrency: int = 10
    retry: RetryPolicy = ONCE
    timeout: float | None = None
    schedule: ScheduleSpec | None = None
    prevent_self_trigger: bool = True
    context: Callable[..., Any] | None = None
    streams: bool = False
    timer: Target
    direct: Target
    direct_call: Hook | None = None  # the only engine's evaluate, if it has no other hooks
    shortcut: Shortcut | None = None  # the same by the inputs alone, if the engine can do so


def settle(declared: Agent, engines: Iterable[object]) -> Agent:
    """Complete an agent; raises ConfigurationError for combinations that can never work."""
    if declared.streams and declared.best_of > 1:
        _refuse(declared, "an async generator publishes as it goes, so best_of can't choose among candidates")
    if declared.streams and len(declared.outputs) > 1:
        _refuse(declared, "an async generator serves one publishes(...) group")
    steps = tuple(map(EngineStep.of, engines))
    alone = len(steps) == 1 and steps[0].before is None and steps[0].after is None
    return replace(
        declared,
        subscriptions=tuple(_settled(declared)),
        outputs=declared.outputs or (OutputGroup(declared=False),),
        engines=steps,
        direct_call=steps[0].evaluate if alone else None,
        shortcut=steps[0].shortcut if alone else None,
    )


def _settled(declared: Agent) -> Iterator[Subscription]:
    """Refuse subscriptions that can never fire, and give the others their ids and targets."""
    labels: Counter[str] = Counter()
    for each in declared.subscriptions:
        if each.join is not None and sum(each.counts) == 1:
            _refuse(declared, f"a join needs two artifacts or more; {each.types[0].__name__} alone is one")
        if each.replay and each.mode == "direct":
            _refuse(declared, "replay=True means nothing for mode='direct'")
        label = each.name or _fingerprint(each)
        labels[label] += 1
        if labels[label] > 1:
            if each.name is not None:
                raise ConfigurationError(f"agent {declared.name!r} has two subscriptions named {each.name!r}")
            label = f"{label}~{labels[label]}"
        target = Target(
            subscription=f"{declared.name}/{label}", agent=declared.name, stages=tuple(_stages(each)),
            board_wide=each.scope == "board", priority=each.priority, batches=each.batch is not None,
            slots=tuple(kind.__name__ for kind in each.types),
        )  # fmt: skip
        yield each._replace(id=target.subscription, target=target)


def _refuse(declared: Agent, why: str) -> NoReturn:
    raise ConfigurationError(f"agent {declared.name!r}: {why}")


def _stages(subscription: Subscription) -> Iterator[Stage]:
    need, join, batch = subscription.counts, subscription.join, subscription.batch
    if join is None:
        if sum(need) > 1:
            yield Gather(need=need)
    elif isinstance(join.within, timedelta):
        yield Gather(need=need, keyed=True, within=join.within.total_seconds())
    else:
        yield Gather(need=need, keyed=True, last=join.within)
    if batch is not None:
        yield Batch(size=batch.size, timeout=None if batch.timeout is None else seconds("timeout", batch.timeout))
    if subscription.when is not None:
        yield Hold(condition=subscription.when)


def counters(subscription: Subscription) -> tuple[Tally, ...]:
    """Give the tallies that a subscription's `when` counts."""
    return () if subscription.when is None else leaves(subscription.when)


def _fingerprint(of: Subscription) -> str:
    """Identify a subscription over restarts by its shape; predicates have no stable text and are left out."""
    join = None if of.join is None else str(of.join.within)
    batch = None if of.batch is None else (of.batch.size, str(of.batch.timeout))
    shape = (tuple(type_name(kind) for kind in of.types), of.counts, of.scope, join, batch)
    return hashlib.sha256(repr(shape).encode()).hexdigest()[:12]


def _own_hook(engine: Any, name: str) -> Hook | None:  # noqa: ANN401
    inherited = getattr(engine.__class__, name, None) is getattr(Engine, name)
    return None if inherited else getattr(engine, name, None)
