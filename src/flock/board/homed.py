"""A board's operator on any event loop."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from typing_extensions import override

from flock.board.keeper import BoardKeeper
from flock.ports import Store
from flock.sync import Portal, at_home

P = ParamSpec("P")
T = TypeVar("T")


class Board(Protocol):
    """Can be opened."""

    async def begin(self) -> None:
        """Open it, unless it is open."""


class _Opened:
    """A board that is open."""

    async def begin(self) -> None:
        return


class HomeKeeper(BoardKeeper):
    """A board's operator on any loop: what has to be awaited runs at home, once the board is open."""

    __slots__ = ("board", "portal")

    def bind(self, portal: Portal, board: Board) -> HomeKeeper:
        """Say where home is, and what is to be opened."""
        self.portal, self.board = portal, board
        return self

    @override
    def _reading(self, store: Store) -> HomeKeeper:
        return HomeKeeper(store, self._clock, self._types, self._program).bind(self.portal, _Opened())


def _opening(
    method: Callable[Concatenate[HomeKeeper, P], Awaitable[T]],
) -> Callable[Concatenate[HomeKeeper, P], Coroutine[Any, Any, T]]:
    @functools.wraps(method)
    async def call(self: HomeKeeper, /, *args: P.args, **kwargs: P.kwargs) -> T:
        await self.board.begin()
        return await method(self, *args, **kwargs)

    return call


for _name, _method in inspect.getmembers(BoardKeeper, inspect.iscoroutinefunction):
    if not _name.startswith("_"):
        setattr(HomeKeeper, _name, at_home(_opening(_method)))
