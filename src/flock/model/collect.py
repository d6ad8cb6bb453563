"""How a subscription collects: joins and batches as users declare them, stages as stores apply them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from flock.model.conditions import Condition
from flock.model.errors import ConfigurationError

Predicate = Callable[[Any], bool]


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
            message = f"JoinSpec(by=...) takes a function of a payload, not {self.by!r}"
            raise ConfigurationError(message)
        good = (
            self.within > timedelta(0)
            if isinstance(self.within, timedelta)
            else isinstance(self.within, int) and not isinstance(self.within, bool) and self.within > 0
        )
        if not good:
            message = f"JoinSpec(within=...) takes a timedelta or a count above zero, not {self.within!r}"
            raise ConfigurationError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSpec:
    """Collect by size, by time since the first one (timedelta or seconds), or whichever comes first."""

    size: int | None = None
    timeout: timedelta | float | None = None

    def __post_init__(self) -> None:
        """Refuse batches that would never or always flush."""
        if self.size is None and self.timeout is None:
            message = "BatchSpec needs a size, a timeout or both"
            raise ConfigurationError(message)
        if self.size is not None and (not isinstance(self.size, int) or isinstance(self.size, bool) or self.size < 1):
            message = f"BatchSpec(size=...) takes a count of 1 or more, not {self.size!r}"
            raise ConfigurationError(message)
        if self.timeout is not None:
            seconds("BatchSpec(timeout=...)", self.timeout)


def seconds(name: str, value: object, *, zero: bool = False) -> float:
    """Read a duration above zero (or from zero) as seconds; raises ConfigurationError."""
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not (number > 0 or (zero and number == 0)):
        least = "zero or more" if zero else "above zero"
        message = f"{name} takes a timedelta or seconds {least}, not {value!r}"
        raise ConfigurationError(message)
    if number == float("inf"):
        message = f"{name} takes a finite time; leave it out for none"
        raise ConfigurationError(message)
    return float(number)


def positive(name: str, value: object) -> int:
    """Read a count of 1 or more; raises ConfigurationError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        message = f"{name} takes a count of 1 or more, not {value!r}"
        raise ConfigurationError(message)
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Gather:
    """Stage: fire when every slot holds what it needs, one row per key. `within` in seconds, `last` in artifacts."""

    need: tuple[int, ...]
    within: float | None = None
    last: int | None = None
    keyed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Stage: fire when `size` groups wait or the oldest has waited for `timeout` seconds."""

    size: int | None = None
    timeout: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Stage: hold groups back until the condition over counters is true; then fire each by itself."""

    condition: Condition


Stage = Gather | Batch | Hold
