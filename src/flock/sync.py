"""Blocking calls: the one module that runs an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from flock.model.errors import SyncInLoopError

T = TypeVar("T")


def run_sync(async_fn: Callable[..., Awaitable[T]], *args: Any, timeout: float | None = None) -> T:  # noqa: ANN401
    """Run an async function to its end and give what it returned.

    Raises SyncInLoopError inside a running loop (await it there), and TimeoutError after `timeout` seconds.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        name = getattr(async_fn, "__name__", "the function")
        message = f"this is a running event loop: write `await {name}(...)` instead of the blocking call"
        raise SyncInLoopError(message)

    async def whole() -> T:
        async with asyncio.timeout(timeout):
            return await async_fn(*args)

    return asyncio.run(whole())
