"""A board's operator on any event loop."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

from typing_extensions import override

from flock.board.keeper import BoardKeeper
from flock.ports import Store
from flock.sync import Portal, at_home

P = ParamSpec("P")
T = TypeVar("T")


class HomeKeeper(BoardKeeper):
    """A board's operator on any loop: what has to be awaited runs at home, once the board is open."""

    __slots__ = ("_begin", "portal")

    def bind(self, portal: Portal, begin: Callable[[], Awaitable[None]]) -> HomeKeeper:
        """Say where home is, and what opens the board."""
        self.portal, self._begin = portal, begin
        return self

    @override
    def _reading(self, store: Store) -> HomeKeeper:
        return HomeKeeper(store, self._clock, self._types, self._program).bind(self.portal, _is_open)


async def _is_open() -> None:
    return


def _opening(
    method: Callable[Concatenate[HomeKeeper, P], Awaitable[T]],
) -> Callable[Concatenate[HomeKeeper, P], Coroutine[Any, Any, T]]:
    @functools.wraps(method)
    async def call(self: HomeKeeper, /, *args: P.args, **kwargs: P.kwargs) -> T:
        await self._begin()
        return await method(self, *args, **kwargs)

    return call


for _name, _method in inspect.getmembers(BoardKeeper, inspect.iscoroutinefunction):
    if not _name.startswith("_"):
        setattr(HomeKeeper, _name, at_home(_opening(_method)))
