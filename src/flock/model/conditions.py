"""Conditions over the board: `Until` to wait for, `When` to hold inputs back; combined with `&`, `|` and `~`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from flock.model.errors import ConfigurationError
from flock.model.evaluation import Failure

Predicate = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition; `a & b`, `a | b` and `~a` combine conditions."""

    def __and__(self, other: Condition) -> Condition:
        """Both hold."""
        return Both(self, _condition(other))

    def __or__(self, other: Condition) -> Condition:
        """At least one holds."""
        return Either(self, _condition(other))

    def __invert__(self) -> Condition:
        """This one does not hold."""
        return Not(self)

    def __bool__(self) -> bool:
        """Refuse `and`, `or` and `not`, which can't be overloaded."""
        message = "combine conditions with & | ~ instead of and, or, not"
        raise ConfigurationError(message)


@dataclass(frozen=True, slots=True)
class Both(Condition):
    """Two conditions hold."""

    left: Condition
    right: Condition


@dataclass(frozen=True, slots=True)
class Either(Condition):
    """One of two conditions holds."""

    left: Condition
    right: Condition


@dataclass(frozen=True, slots=True)
class Not(Condition):
    """A condition does not hold."""

    inner: Condition


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Which artifacts a counter counts: a type (subclasses included) and what they must agree with."""

    type: type[BaseModel]
    where: Predicate | None = None
    tags: frozenset[str] = frozenset()
    produced_by: str | None = None
    correlation_id: str | None = None


@dataclass(frozen=True, slots=True)
class Count(Condition):
    """The number of artifacts that a tally counts lies from `low` to `high` (None: no bound)."""

    tally: Tally
    low: int = 0
    high: int | None = None


@dataclass(frozen=True, slots=True)
class Idle(Condition):
    """No work is left."""


@dataclass(frozen=True, slots=True)
class Counting:
    """A count that still needs its bound: `.at_least(n)`, `.at_most(n)` or `.exactly(n)`."""

    tally: Tally

    def at_least(self, n: int) -> Condition:
        """N or more."""
        return Count(self.tally, low=_whole(n))

    def at_most(self, n: int) -> Condition:
        """N or fewer."""
        return Count(self.tally, high=_whole(n))

    def exactly(self, n: int) -> Condition:
        """Just n."""
        return Count(self.tally, low=_whole(n), high=n)


def tally(
    kind: type[BaseModel],
    *,
    where: Predicate | None = None,
    tags: frozenset[str] | set[str] | list[str] | tuple[str, ...] = (),
    produced_by: str | None = None,
    correlation_id: str | None = None,
) -> Tally:
    """Build a tally; raises ConfigurationError for what is no model or no predicate."""
    if not isinstance(kind, type) or not issubclass(kind, BaseModel):
        message = f"a condition counts pydantic models; {kind!r} is none"
        raise ConfigurationError(message)
    if where is not None and not callable(where):
        message = f"where= takes a function of a payload, not {where!r}"
        raise ConfigurationError(message)
    return Tally(
        type=kind, where=where, tags=frozenset(tags), produced_by=produced_by, correlation_id=correlation_id
    )  # fmt: skip


def field_tally(kind: type[BaseModel], field: str, predicate: Predicate, **filters: Any) -> Tally:  # noqa: ANN401
    """Build a tally of the artifacts whose field passes a predicate."""
    if field not in getattr(kind, "model_fields", {}):
        message = f"{getattr(kind, '__name__', kind)} has no field {field!r}"
        raise ConfigurationError(message)
    return tally(kind, where=lambda payload: bool(predicate(getattr(payload, field))), **filters)


def leaves(condition: Condition) -> tuple[Tally, ...]:
    """Give every counter that a condition needs, once each, in a fixed order."""
    match condition:
        case Both(left, right) | Either(left, right):
            return tuple(dict.fromkeys(leaves(left) + leaves(right)))
        case Not(inner):
            return leaves(inner)
        case Count(found):
            return (found,)
        case _:
            return ()


def holds(condition: Condition, counts: Mapping[Tally, int], *, idle: bool = False) -> bool:
    """Evaluate a condition on counted artifacts."""
    match condition:
        case Both(left, right):
            return holds(left, counts, idle=idle) and holds(right, counts, idle=idle)
        case Either(left, right):
            return holds(left, counts, idle=idle) or holds(right, counts, idle=idle)
        case Not(inner):
            return not holds(inner, counts, idle=idle)
        case Count(found, low, high):
            return low <= counts.get(found, 0) and (high is None or counts.get(found, 0) <= high)
        case Idle():
            return idle
        case _:
            message = f"{condition!r} is no condition"
            raise ConfigurationError(message)


def mentions_idle(condition: Condition) -> bool:
    """Say whether a condition asks about idleness, which only a waiter can answer."""
    match condition:
        case Both(left, right) | Either(left, right):
            return mentions_idle(left) or mentions_idle(right)
        case Not(inner):
            return mentions_idle(inner)
        case other:
            return isinstance(other, Idle)


def _condition(value: object) -> Condition:
    if not isinstance(value, Condition):
        message = f"{value!r} is no condition: a count needs .at_least(n), .at_most(n) or .exactly(n)"
        raise ConfigurationError(message)
    return value


def _whole(n: object) -> int:
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        message = f"a bound is a count of zero or more, not {n!r}"
        raise ConfigurationError(message)
    return n


class When:
    """Conditions that hold a subscription's inputs back."""

    @staticmethod
    def count(kind: type[BaseModel], **filters: Any) -> Counting:  # noqa: ANN401 - see tally
        """Count artifacts of a type: `When.count(Vote).at_least(3)`."""
        return Counting(tally(kind, **filters))

    @staticmethod
    def exists(kind: type[BaseModel], **filters: Any) -> Condition:  # noqa: ANN401
        """At least one artifact of a type."""
        return Count(tally(kind, **filters), low=1)

    @staticmethod
    def any_field(kind: type[BaseModel], field: str, predicate: Predicate, **filters: Any) -> Condition:  # noqa: ANN401
        """At least one artifact of a type whose field passes a predicate."""
        return Count(field_tally(kind, field, predicate, **filters), low=1)


class Until(When):
    """Conditions to wait for with `run_until`."""

    @staticmethod
    def idle() -> Condition:
        """No work is left."""
        return Idle()

    @staticmethod
    def artifact_count(kind: type[BaseModel], **filters: Any) -> Counting:  # noqa: ANN401
        """Count artifacts of a type: `Until.artifact_count(Report).at_least(1)`."""
        return Counting(tally(kind, **filters))

    @staticmethod
    def failure(**filters: Any) -> Condition:  # noqa: ANN401
        """At least one Failure."""
        return Count(tally(Failure, **filters), low=1)
