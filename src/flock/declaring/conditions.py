"""Conditions as users write them: `Until` to wait for, `When` to hold inputs back."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from flock.model.conditions import Condition, Predicate, Tally
from flock.model.errors import ConfigurationError
from flock.model.evaluation import Failure


class When:
    """Conditions that hold a subscription's inputs back."""

    @staticmethod
    def count(
        kind: type[BaseModel],
        *,
        where: Predicate | None = None,
        tags: frozenset[str] | set[str] | list[str] | tuple[str, ...] = (),
        produced_by: str | None = None,
        correlation_id: str | None = None,
    ) -> Tally:
        """Count artifacts of a type: `When.count(Vote).at_least(3)`."""
        if not isinstance(kind, type) or not issubclass(kind, BaseModel):
            raise ConfigurationError(f"a condition counts pydantic models; {kind!r} is none")
        if where is not None and not callable(where):
            raise ConfigurationError(f"where= takes a function of a payload, not {where!r}")
        return Tally(kind, where, frozenset(tags), produced_by, correlation_id)

    @staticmethod
    def exists(kind: type[BaseModel], **filters: Any) -> Condition:  # noqa: ANN401 - see count
        """At least one artifact of a type."""
        return When.count(kind, **filters).at_least(1)

    @staticmethod
    def any_field(kind: type[BaseModel], field: str, predicate: Predicate, **filters: Any) -> Condition:  # noqa: ANN401
        """At least one artifact of a type whose field passes a predicate."""
        if field not in getattr(kind, "model_fields", {}):
            raise ConfigurationError(f"{getattr(kind, '__name__', kind)} has no field {field!r}")

        def where(payload: BaseModel) -> bool:
            return bool(predicate(getattr(payload, field)))

        return When.exists(kind, where=where, **filters)


class Until(When):
    """Conditions to wait for with `run_until`."""

    @staticmethod
    def idle() -> Condition:
        """No work is left."""
        return Condition("idle")

    @staticmethod
    def artifact_count(kind: type[BaseModel], **filters: Any) -> Tally:  # noqa: ANN401
        """Count artifacts of a type: `Until.artifact_count(Report).at_least(1)`."""
        return When.count(kind, **filters)

    @staticmethod
    def failure(**filters: Any) -> Condition:  # noqa: ANN401
        """At least one Failure."""
        return When.exists(Failure, **filters)
