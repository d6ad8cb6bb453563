"""Checks of what declarations are given: each gives the argument back, or raises ConfigurationError that says why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, cast, get_args

from pydantic import BaseModel

from flock.core.agent import Predicate
from flock.model.errors import ConfigurationError
from flock.model.payload import members

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class All:
    """One predicate of several."""

    predicates: tuple[Predicate, ...]

    def __call__(self, payload: Any) -> bool:  # noqa: ANN401 - as a predicate
        """Ask them in order up to the first that says no."""
        return all(predicate(payload) for predicate in self.predicates)


def take(value: T, fits: object, what: str) -> T:
    """Give an argument back if it fits what its call takes."""
    if not fits:
        raise ConfigurationError(f"{what}, not {value!r}")
    return value


def instance(name: str, value: T, kind: type) -> T:
    """Take an instance of a class, or None."""
    return take(value, value is None or isinstance(value, kind), f"{name}= takes a {kind.__name__}")


def one_of(name: str, value: T, allowed: object) -> T:
    """Take one of the values of a Literal."""
    words = get_args(allowed)
    return take(value, value in words, f"{name}= is one of {', '.join(map(repr, words))}")


def models(call: str, types: tuple[type[BaseModel], ...]) -> tuple[type[BaseModel], ...]:
    """Take one model or several."""
    if not types:
        raise ConfigurationError(f"{call}(...) needs at least one type")
    for kind in types:
        if not isinstance(kind, type) or not issubclass(kind, BaseModel):
            raise ConfigurationError(f"{call}(...) takes pydantic models; {kind!r} is none")
    return types


def predicate_of(value: object) -> Predicate | None:
    """Take a predicate or several, and make them one."""
    predicates = [] if value is None else cast("list[Predicate]", members(value))
    for each in predicates:
        take(each, callable(each), "where= takes a function of a payload, or several")
    if len(predicates) > 1:
        return All(tuple(predicates))
    return predicates[0] if predicates else None


def checks_of(value: object) -> Iterator[tuple[Predicate, str]]:
    """Take functions of a payload, each with or without what to say when it says no."""
    several: list[object] = [] if value is None else [value] if isinstance(value, tuple) else members(value)
    for each in several:
        check, *text = members(each) or [None]
        pair = callable(check) and len(text) <= 1
        take(each, pair, "validate= takes functions of a payload or (function, message) pairs")
        yield cast("Predicate", check), str(text[0]) if text else "validate= said no"


def words(name: str, value: object) -> frozenset[str]:
    """Take one name or several."""
    given = cast("list[str]", members(value))
    take(value, all(isinstance(word, str) for word in given), f"{name} takes names")
    return frozenset(given)
