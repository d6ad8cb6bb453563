"""Agents as declared: frozen data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel

from flock.model.collect import BatchSpec, JoinSpec
from flock.model.conditions import Condition, Tally, leaves
from flock.model.evaluation import EvalResult
from flock.model.ledger import Activation, Target
from flock.model.schedule import Schedule
from flock.ports import AgentComponent, AgentInfo

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
    schedule: Schedule | None = None
    prevent_self_trigger: bool = True
    context: Callable[..., Any] | None = None
    streams: bool = False
    timer: Target
    direct: Target
    direct_call: Hook | None = None  # the only engine's evaluate, if it has no other hooks
    shortcut: Shortcut | None = None  # the same by the inputs alone, if the engine can do so


def counters(subscription: Subscription) -> tuple[Tally, ...]:
    """Give the tallies that a subscription's `when` counts."""
    return () if subscription.when is None else leaves(subscription.when)
