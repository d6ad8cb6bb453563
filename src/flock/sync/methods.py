"""Methods that can be called from anywhere: blocking twins of async ones, and async ones that run at home."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from flock.sync.portal import Portal

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
