"""Blocking twins of async methods, each written once, and the way home for those that are awaited on other loops."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from flock.history import BoardKeeper
from flock.model.artifact import Artifact
from flock.sync import Portal

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound="Located")


class Located(Protocol):
    """Has a home loop."""

    portal: Portal


class Twin(Located, Protocol):
    """Has an object whose methods it calls on the home loop."""

    target: Any


def blocking(method: Callable[Concatenate[Any, P], Awaitable[T]]) -> Callable[Concatenate[Any, P], T]:
    """Make the blocking twin of an async method, with its parameters: it runs on the home loop."""

    @functools.wraps(method)
    def call(self: Twin, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.portal.call(functools.partial(method, self.target, *args, **kwargs))

    return call


def at_home(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Let an async method be awaited on any loop: it runs on the home loop of its object."""

    @functools.wraps(method)
    async def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        if self.portal.is_home():
            return await method(self, *args, **kwargs)
        return await self.portal.hop(method, self, *args, **kwargs)

    return call


class HomeKeeper(BoardKeeper):
    """A board's operator on any loop: what has to be awaited runs at home."""

    __slots__ = ("portal",)

    def bind(self, portal: Portal) -> HomeKeeper:
        """Say where home is."""
        self.portal = portal
        return self


for _name, _method in inspect.getmembers(BoardKeeper, inspect.iscoroutinefunction):
    if not _name.startswith("_"):
        setattr(HomeKeeper, _name, at_home(_method))


class SyncStore:
    """The board as its operator has it, for code that blocks."""

    def __init__(self, portal: Portal, keeper: BoardKeeper) -> None:
        """Read at home."""
        self.portal = portal
        self.target = keeper

    list = blocking(BoardKeeper.list)
    get = blocking(BoardKeeper.get)
    get_by_type = blocking(BoardKeeper.get_by_type)
    query = blocking(BoardKeeper.query)
    lineage = blocking(BoardKeeper.lineage)
    why = blocking(BoardKeeper.why)
    why_not = blocking(BoardKeeper.why_not)
    consumptions = blocking(BoardKeeper.consumptions)
    runs = blocking(BoardKeeper.runs)
    waiting = blocking(BoardKeeper.waiting)
    failures = blocking(BoardKeeper.failures)
    fork = blocking(BoardKeeper.fork)
    prune = blocking(BoardKeeper.prune)
    vacuum = blocking(BoardKeeper.vacuum)
    info = blocking(BoardKeeper.info)

    def replay(self, until: Artifact | int | None = None) -> SyncStore:
        """Give the board as it was at a sequence, as `BoardKeeper.replay` does."""
        return SyncStore(self.portal, self.portal.call(self.target.replay, until))
