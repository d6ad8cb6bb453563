"""Coroutines that wait for nothing, run without an event loop."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from flock.model.errors import FlockError

T = TypeVar("T")


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that suspends nowhere: whatever it has to wait for blocks. Raises what it raised."""
    try:
        work.send(None)
    except StopIteration as end:
        given: T = end.value
        return given
    work.close()
    raise FlockError("what blocks has awaited something that does not")
