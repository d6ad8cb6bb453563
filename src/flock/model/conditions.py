"""Conditions over what is on the board, combined with `&`, `|` and `~`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel

from flock.model.errors import ConfigurationError

Predicate = Callable[[Any], bool]


class Tally(NamedTuple):
    """A count of artifacts that still needs its bound: `.at_least(n)`, `.at_most(n)` or `.exactly(n)`.

    It counts a type, subclasses included; the other parts are what the artifacts must agree with.
    """

    type: type[BaseModel]
    where: Predicate | None = None
    tags: frozenset[str] = frozenset()
    produced_by: str | None = None
    correlation_id: str | None = None

    def at_least(self, n: int) -> Condition:
        """N or more."""
        return Condition("count", tally=self, low=_whole(n))

    def at_most(self, n: int) -> Condition:
        """N or fewer."""
        return Condition("count", tally=self, high=_whole(n))

    def exactly(self, n: int) -> Condition:
        """Just n."""
        return Condition("count", tally=self, low=_whole(n), high=n)


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition; `a & b`, `a | b` and `~a` combine conditions.

    `both`, `either` and `not` are about their `parts`; `count` says that what `tally` counts lies from `low` to `high`
    (None: no bound); `idle` that no work is left.
    """

    kind: Literal["both", "either", "not", "count", "idle"]
    parts: tuple[Condition, ...] = ()
    tally: Tally | None = None
    low: int = 0
    high: int | None = None

    def __and__(self, other: Condition) -> Condition:
        """Both hold."""
        return Condition("both", (self, _condition(other)))

    def __or__(self, other: Condition) -> Condition:
        """At least one holds."""
        return Condition("either", (self, _condition(other)))

    def __invert__(self) -> Condition:
        """This one does not hold."""
        return Condition("not", (self,))

    def __bool__(self) -> bool:
        """Refuse `and`, `or` and `not`, which can't be overloaded."""
        raise ConfigurationError("combine conditions with & | ~ instead of and, or, not")


def leaves(condition: Condition) -> tuple[Tally, ...]:
    """Give every counter that a condition needs, once each, in a fixed order."""
    if condition.tally is not None:
        return (condition.tally,)
    return tuple(dict.fromkeys(tally for part in condition.parts for tally in leaves(part)))


def holds(condition: Condition, counts: Mapping[Tally, int], *, idle: bool = False) -> bool:
    """Evaluate a condition on counted artifacts."""
    if condition.tally is not None:
        count = counts.get(condition.tally, 0)
        return condition.low <= count and (condition.high is None or count <= condition.high)
    parts = (holds(part, counts, idle=idle) for part in condition.parts)
    match condition.kind:
        case "both":
            return all(parts)
        case "either":
            return any(parts)
        case "not":
            return not any(parts)
        case _:
            return idle


def _condition(value: object) -> Condition:
    if not isinstance(value, Condition):
        raise ConfigurationError(f"{value!r} is no condition: a count needs .at_least(n), .at_most(n) or .exactly(n)")
    return value


def _whole(n: object) -> int:
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        raise ConfigurationError(f"a bound is a count of zero or more, not {n!r}")
    return n
