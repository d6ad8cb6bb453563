"""What a study claims and how that will be tested: hypotheses, outcomes and analysis plans, for people and programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from flock.studies.design.reading import fields_in, filled, is_number, mapping_of, names_of, word_of
from flock.studies.stable import ValidationError

_ALWAYS = frozenset({"agent", "problem"})  # what every study varies
_LISTS = ("hypothesis_ids", "tests", "outcomes", "covariates", "random_effects", "plots", "export_tables")


class HypothesisKind(StrEnum):
    """What kind of claim a hypothesis makes."""

    EFFECT = "effect"
    MODERATION = "moderation"
    MEDIATION = "mediation"
    EQUIVALENCE = "equivalence"
    ROBUSTNESS = "robustness"
    EXPLORATORY = "exploratory"


class HypothesisDirection(StrEnum):
    """Which way the effect is expected to go."""

    GREATER = "greater"
    LESS = "less"
    DIFFERENT = "different"
    EQUIVALENT = "equivalent"


@dataclass(frozen=True, slots=True)
class Contrast:
    """Two levels that are compared, by their `operation`."""

    label: str
    left: str
    right: str
    operation: str = "difference"

    def __post_init__(self) -> None:
        """Refuse a contrast of nothing."""
        for name in ("label", "left", "right", "operation"):
            filled(getattr(self, name), f"Contrast.{name}")

    @classmethod
    def from_dict(cls, data: Self | Mapping[str, Any]) -> Self:
        """Give what `to_jsonable` made of one."""
        if isinstance(data, cls):
            return data
        return cls(**fields_in(cls, {"label": "contrast", **mapping_of(data, "a Contrast")}))


@dataclass(frozen=True, slots=True)
class Moderator:
    """What the effect depends on; no levels stands for all of them."""

    name: str
    levels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse an empty name."""
        filled(self.name, "Moderator.name")
        object.__setattr__(self, "levels", names_of(self.levels, "Moderator.levels"))

    @classmethod
    def from_dict(cls, data: Self | Mapping[str, Any]) -> Self:
        """Give what `to_jsonable` made of one."""
        return data if isinstance(data, cls) else cls(**fields_in(cls, data))


@dataclass(frozen=True, slots=True)
class Mediator:
    """What the effect goes through."""

    name: str
    description: str = ""

    def __post_init__(self) -> None:
        """Refuse an empty name."""
        filled(self.name, "Mediator.name")

    @classmethod
    def from_dict(cls, data: Self | Mapping[str, Any]) -> Self:
        """Give what `to_jsonable` made of one."""
        return data if isinstance(data, cls) else cls(**fields_in(cls, data))


@dataclass(frozen=True, slots=True)
class OutcomeSpec:
    """Something that runs are measured by: a column of a table, which is named as the outcome unless given."""

    name: str
    source_table: str = "runs"
    column: str = ""
    aggregation: str = "mean"
    derivation: str | None = None
    primary: bool = False
    expected_type: str = "float"
    missing_data_policy: str = "drop"
    description: str = ""

    def __post_init__(self) -> None:
        """Refuse empty names."""
        object.__setattr__(self, "column", self.column or self.name)
        for name in ("name", "source_table", "column", "aggregation", "expected_type", "missing_data_policy"):
            filled(getattr(self, name), f"OutcomeSpec.{name}")

    @classmethod
    def from_dict(cls, data: Self | Mapping[str, Any]) -> Self:
        """Give what `to_jsonable` made of one."""
        return data if isinstance(data, cls) else cls(**fields_in(cls, data))


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A claim. `minimum_effect_of_interest` is in the units of the outcome or standardized, as its notes say."""

    hypothesis_id: str
    label: str
    statement: str
    kind: HypothesisKind = HypothesisKind.EFFECT
    independent_vars: tuple[str, ...] = ()
    dependent_vars: tuple[str, ...] = ()
    moderators: tuple[Moderator, ...] = ()
    mediators: tuple[Mediator, ...] = ()
    contrast: Contrast | None = None
    direction: HypothesisDirection = HypothesisDirection.DIFFERENT
    minimum_effect_of_interest: float | None = None
    notes: str = ""

    def __post_init__(self) -> None:
        """Refuse a claim that says nothing."""
        place = f"hypothesis {filled(self.hypothesis_id, 'Hypothesis.hypothesis_id')!r}"
        filled(self.label, f"the label of {place}")
        filled(self.statement, f"the statement of {place}")
        if self.minimum_effect_of_interest is not None and not is_number(self.minimum_effect_of_interest):
            raise ValidationError(f"the minimum_effect_of_interest of {place} is a finite number or None")
        for name in ("independent_vars", "dependent_vars"):
            object.__setattr__(self, name, names_of(getattr(self, name), f"the {name} of {place}"))
        object.__setattr__(self, "moderators", tuple(Moderator.from_dict(each) for each in self.moderators))
        object.__setattr__(self, "mediators", tuple(Mediator.from_dict(each) for each in self.mediators))
        object.__setattr__(self, "contrast", None if self.contrast is None else Contrast.from_dict(self.contrast))
        object.__setattr__(self, "kind", word_of(HypothesisKind, self.kind, f"the kind of {place}"))
        object.__setattr__(self, "direction", word_of(HypothesisDirection, self.direction, f"the direction of {place}"))

    @classmethod
    def from_dict(cls, data: Self | Mapping[str, Any]) -> Self:
        """Give what `to_jsonable` made of one."""
        return data if isinstance(data, cls) else cls(**fields_in(cls, data))


@dataclass(frozen=True, slots=True)
class AnalysisPlan:
    """Which tests will be made of which hypotheses and outcomes, laid down before there are results."""

    analysis_plan_id: str
    hypothesis_ids: tuple[str, ...]
    tests: tuple[str, ...]
    outcomes: tuple[str, ...] = ()
    covariates: tuple[str, ...] = ()
    random_effects: tuple[str, ...] = ()
    filters: dict[str, Any] = field(default_factory=dict[str, Any])
    multiple_comparison_policy: str = "none"
    plots: tuple[str, ...] = ()
    export_tables: tuple[str, ...] = ()
    notes: str = ""

    def __post_init__(self) -> None:
        """Refuse a plan without hypothesis or test."""
        place = f"analysis plan {filled(self.analysis_plan_id, 'AnalysisPlan.analysis_plan_id')!r}"
        for name in _LISTS:
            object.__setattr__(self, name, names_of(getattr(self, name), f"the {name} of {place}"))
        for name in ("hypothesis_ids", "tests"):
            if not getattr(self, name):
                raise ValidationError(f"{place} has no {name}: give at least one")
        filled(self.multiple_comparison_policy, f"the multiple_comparison_policy of {place}")
        object.__setattr__(self, "filters", mapping_of(self.filters, f"the filters of {place}"))

    @classmethod
    def from_dict(cls, data: Self | Mapping[str, Any]) -> Self:
        """Give what `to_jsonable` made of one."""
        return data if isinstance(data, cls) else cls(**fields_in(cls, data))


def unknown_references(
    hypotheses: Iterable[Hypothesis],
    plans: Iterable[AnalysisPlan],
    *,
    factors: Iterable[str],
    outcomes: Iterable[str],
) -> list[str]:
    """Say which names of hypotheses and plans stand for nothing; "agent" and "problem" always stand for something."""
    hypotheses, varied, measured = list(hypotheses), _ALWAYS | set(factors), set(outcomes)
    known = {each.hypothesis_id for each in hypotheses}
    found: list[str] = []
    for each in hypotheses:
        place = f"hypothesis {each.hypothesis_id!r}"
        found += _unknown(place, "independent variable", each.independent_vars, varied)
        found += _unknown(place, "dependent variable", each.dependent_vars, measured)
    for plan in plans:
        place = f"analysis plan {plan.analysis_plan_id!r}"
        found += _unknown(place, "hypothesis", plan.hypothesis_ids, known)
        found += _unknown(place, "outcome", plan.outcomes, measured)
    return found


def _unknown(place: str, what: str, names: Iterable[str], known: Iterable[str]) -> Iterator[str]:
    there = sorted(known)
    for name in names:
        if name not in there:
            yield f"{place} names an unknown {what} {name!r}; known: {', '.join(there) or 'none'}"
