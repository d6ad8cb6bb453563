"""What engines get and give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict
from typing_extensions import override

from flock.model.artifact import EXTERNAL, Artifact
from flock.model.errors import ConfigurationError
from flock.model.payload import type_name
from flock.model.visibility import Visibility

M = TypeVar("M", bound=BaseModel)


class Failure(BaseModel):
    """An activation, or the matching of an artifact, that failed; published like any artifact."""

    model_config = ConfigDict(frozen=True, defer_build=True)  # a Flock builds it, not the import

    agent: str
    error_type: str
    message: str
    activation_id: str | None = None
    inputs: tuple[str, ...] = ()
    attempts: int = 0
    traceback: str = ""

    @override
    def __str__(self) -> str:
        """Say in one line what failed."""
        return f"{self.agent}: {self.error_type}: {self.message}"


FAILURE = type_name(Failure)


@dataclass(slots=True)
class EvalInputs:
    """The inputs of one engine, in declared type order, then by sequence."""

    artifacts: list[Artifact] = field(default_factory=list[Artifact])
    state: dict[str, Any] = field(default_factory=dict[str, Any])
    groups: list[tuple[Artifact, ...]] = field(default_factory=list[tuple[Artifact, ...]])

    def first_as(self, kind: type[M]) -> M | None:
        """Give the first payload of this type, or None."""
        for artifact in self.artifacts:
            payload = artifact.payload
            if isinstance(payload, kind):
                return payload
        return None

    def all_as(self, kind: type[M]) -> list[M]:
        """Give all payloads of this type."""
        return [artifact.payload for artifact in self.artifacts if isinstance(artifact.payload, kind)]


@dataclass(slots=True)
class EvalResult:
    """The outputs of one engine."""

    artifacts: list[Artifact] = field(default_factory=list[Artifact])
    state: dict[str, Any] = field(default_factory=dict[str, Any])
    metrics: dict[str, float] = field(default_factory=dict[str, float])
    logs: list[str] = field(default_factory=list[str])

    @classmethod
    def from_object(cls, obj: BaseModel | Artifact, *, agent: object = None) -> EvalResult:
        """Wrap one model."""
        return cls.from_objects(obj, agent=agent)

    @classmethod
    def from_objects(cls, *objs: BaseModel | Artifact, agent: object = None) -> EvalResult:
        """Wrap several models."""
        name = str(getattr(agent, "name", agent or EXTERNAL))
        return cls([obj if isinstance(obj, Artifact) else Artifact(obj, produced_by=name) for obj in objs])

    @classmethod
    def empty(cls) -> EvalResult:
        """Give a result without outputs."""
        return cls()


@dataclass(frozen=True, slots=True)
class FanOut:
    """How many artifacts of each type one evaluation has to make."""

    low: int
    high: int

    def __post_init__(self) -> None:
        """Refuse bounds that can never hold."""
        whole = type(self.low) is int and type(self.high) is int
        if not (whole and 0 <= self.low <= self.high and self.high > 0):
            raise ConfigurationError(
                "fan_out takes a count of 1 or more, or (low, high) with 0 <= low <= high and high > 0; "
                f"not {self.low if self.low == self.high else (self.low, self.high)!r}"
            )

    @classmethod
    def of(cls, value: int | tuple[int, int] | FanOut) -> FanOut:
        """Read `n` or `(low, high)`; raises ConfigurationError for what can never hold."""
        match value:
            case FanOut():
                return value
            case tuple((low, high)):
                return cls(low, high)
            case _:
                return cls(value, value)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OutputGroup:
    """What one evaluation may make: one `publishes(...)` call. `types` repeats a type for counts; empty means any."""

    types: tuple[type[BaseModel], ...] = ()
    fan_out: FanOut | None = None
    where: Callable[[Any], bool] | None = None
    validate: tuple[tuple[Callable[[Any], bool], str], ...] = ()
    visibility: Visibility | Callable[[Any], Visibility] | None = None
    tags: frozenset[str] = frozenset()
    description: str | None = None
    declared: bool = True

    @property
    def counts(self) -> Mapping[type[BaseModel], FanOut]:
        """How many of each type an engine that generates outputs should make."""
        return {kind: self.fan_out or FanOut(n, n) for kind, n in Counter(self.types).items()}


def group_types(groups: Sequence[OutputGroup]) -> tuple[type[BaseModel], ...]:
    """Give every declared output type once."""
    return tuple(dict.fromkeys(kind for group in groups for kind in group.types))
