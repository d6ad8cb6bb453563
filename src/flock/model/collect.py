"""How a subscription collects: joins and batches as users declare them, stages as stores apply them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

from flock.model.conditions import Condition
from flock.model.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinSpec:
    """Collect by key: `by` gives the key of a payload; what waits longer than `within` expires.

    `within` is a timedelta, or a count: an artifact expires when more than that many artifacts of the same
    subscription have come after it.
    """

    by: Callable[[Any], object]
    within: timedelta | int

    def __post_init__(self) -> None:
        """Refuse windows that can never hold a second artifact."""
        if not callable(self.by):
            raise ConfigurationError(f"JoinSpec(by=...) takes a function of a payload, not {self.by!r}")
        if not isinstance(self.within, timedelta) or self.within <= timedelta(0):
            positive("JoinSpec(within=...)", self.within, "a timedelta or a count above zero")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSpec:
    """Collect by size, by time since the first one (timedelta or seconds), or whichever comes first."""

    size: int | None = None
    timeout: timedelta | float | None = None

    def __post_init__(self) -> None:
        """Refuse batches that would never or always flush."""
        if self.size is None and self.timeout is None:
            raise ConfigurationError("BatchSpec needs a size, a timeout or both")
        if self.size is not None:
            positive("BatchSpec(size=...)", self.size)
        if self.timeout is not None:
            seconds("BatchSpec(timeout=...)", self.timeout)


def seconds(name: str, value: object, *, zero: bool = False) -> float:
    """Read a duration above zero (or from zero) as seconds; raises ConfigurationError."""
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not (number > 0 or (zero and number == 0)):
        raise ConfigurationError(
            f"{name} takes a timedelta or seconds {'zero or more' if zero else 'above zero'}, not {value!r}"
        )
    if number == math.inf:
        raise ConfigurationError(f"{name} takes a finite time; leave it out for none")
    return float(number)


def positive(name: str, value: object, what: str = "a count of 1 or more") -> int:
    """Read a count of 1 or more; raises ConfigurationError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"{name} takes {what}, not {value!r}")
    return value


class Gather(NamedTuple):
    """Stage: fire when every slot holds what it needs, one row per key. `within` in seconds, `last` in artifacts."""

    need: tuple[int, ...]
    within: float | None = None
    last: int | None = None
    keyed: bool = False


class Batch(NamedTuple):
    """Stage: fire when `size` groups wait or the oldest has waited for `timeout` seconds."""

    size: int | None = None
    timeout: float | None = None


class Hold(NamedTuple):
    """Stage: hold groups back until the condition over counters is true; then fire each by itself."""

    condition: Condition


Stage = Gather | Batch | Hold
