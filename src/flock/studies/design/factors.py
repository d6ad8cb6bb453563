"""What a study varies: factors with their levels, blocks, and the constraints on combinations of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self, TypeGuard, cast

from flock.studies.design.expressions import evaluate, names_in
from flock.studies.design.reading import fields_in, filled, mapping_of, word_of
from flock.studies.stable import ValidationError, is_numpy, stable_json_dumps, to_jsonable, unstable

_LEVEL = frozenset({"name", "value"})  # what a mapping that stands for a level has at least


class FactorKind(StrEnum):
    """What a factor is to the experiment."""

    MANIPULATED = "manipulated"
    MEASURED = "measured"
    BLOCKED = "blocked"
    NUISANCE = "nuisance"


class ConstraintSeverity(StrEnum):
    """Whether a violated constraint rules a condition out or is only noted."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Level:
    """One value of a factor. `label` is its name unless given.

    `metadata` with `is_baseline` or `role` ("baseline", "treatment") says what it is in comparisons.
    """

    name: str
    value: Any
    label: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        """Refuse an empty name and a value whose text could differ next time."""
        filled(self.name, "Level.name")
        object.__setattr__(self, "value", stable_value(self.value, f"the value of level {self.name!r}"))
        object.__setattr__(self, "label", self.name if self.label is None else self.label)
        object.__setattr__(self, "metadata", mapping_of(self.metadata, f"Level.metadata of {self.name!r}"))

    @classmethod
    def from_dict(cls, data: Self | Mapping[str, Any]) -> Self:
        """Give what `to_jsonable` made of one."""
        return data if isinstance(data, cls) else cls(**fields_in(cls, data))


@dataclass(frozen=True, slots=True)
class Factor:
    """Something that varies between conditions, over its levels, or stays at its default where it has none.

    A level that is a plain value is named by its text. `dtype` "int" makes designs draw whole numbers.
    """

    name: str
    description: str
    kind: FactorKind = FactorKind.MANIPULATED
    levels: tuple[Level, ...] = ()
    dtype: str | None = None
    default: Any = None
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        """Refuse what can't be varied: no level, or two of the same name or value."""
        filled(self.name, "Factor.name")
        place = f"factor {self.name!r}"
        levels = tuple(_level(each) for each in _several(self.levels, place))
        default = stable_value(self.default, f"the default of {place}")
        if not levels and default is None:
            raise ValidationError(f"{place} has no levels: give it levels, or a default to stay at")
        _distinct([each.name for each in levels], f"level names of {place}")
        _distinct([each.value for each in levels], f"level values of {place}")
        object.__setattr__(self, "levels", levels)
        object.__setattr__(self, "default", default)
        object.__setattr__(self, "kind", word_of(FactorKind, self.kind, f"the kind of {place}"))
        object.__setattr__(self, "metadata", mapping_of(self.metadata, f"the metadata of {place}"))

    def iter_values(self) -> tuple[Any, ...]:
        """Give the values of the levels in order, or the default alone."""
        return tuple(each.value for each in self.levels) or (self.default,)

    @classmethod
    def from_dict(cls, data: Self | Mapping[str, Any]) -> Self:
        """Give what `to_jsonable` made of one; a level may be a mapping with name and value, or a plain value."""
        if isinstance(data, cls):
            return data
        parts = fields_in(cls, {"description": "", **mapping_of(data, "a Factor")})
        levels = [_read_level(each) for each in _several(parts.get("levels", ()), f"factor {parts['name']!r}")]
        parts["levels"] = tuple(levels)
        return cls(**parts)


@dataclass(frozen=True, slots=True)
class Block:
    """Surroundings in which every treatment occurs: days, machines, subjects; its levels are plain values."""

    name: str
    levels: tuple[Any, ...]
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        """Refuse a block without levels, or with the same level twice."""
        filled(self.name, "Block.name")
        place = f"block {self.name!r}"
        found = [each.value if isinstance(each, Level) else each for each in _several(self.levels, place)]
        levels = tuple(stable_value(each, f"a level of {place}") for each in found)
        if not levels:
            raise ValidationError(f"{place} has no levels: give it at least one")
        _distinct(levels, f"levels of {place}")
        object.__setattr__(self, "levels", levels)
        object.__setattr__(self, "metadata", mapping_of(self.metadata, f"the metadata of {place}"))

    @classmethod
    def from_dict(cls, data: Self | Mapping[str, Any]) -> Self:
        """Give what `to_jsonable` made of one."""
        return data if isinstance(data, cls) else cls(**fields_in(cls, data))


@dataclass(frozen=True, slots=True)
class Constraint:
    """A rule for combinations: an expression, a function "module:function" of two dicts, or both, which both must hold.

    An expression knows `factors` and `blocks` as mappings, and each factor and block by its own name.
    """

    constraint_id: str
    description: str
    expression: str | None = None
    callable_ref: str | None = None
    severity: ConstraintSeverity = ConstraintSeverity.ERROR

    def __post_init__(self) -> None:
        """Refuse a constraint without a rule, or with one that can't be read."""
        place = f"constraint {filled(self.constraint_id, 'Constraint.constraint_id')!r}"
        if self.expression is None and self.callable_ref is None:
            raise ValidationError(f"{place} has no rule: give it an expression or a callable_ref")
        if self.expression is not None:
            names_in(filled(self.expression, f"the expression of {place}"))
        if self.callable_ref is not None:
            _split(self.callable_ref)
        object.__setattr__(self, "severity", word_of(ConstraintSeverity, self.severity, f"the severity of {place}"))

    def evaluate(self, factors: Mapping[str, Any], blocks: Mapping[str, Any]) -> bool:
        """Say whether the rule holds; raises ValidationError when it fails or gives no truth value."""
        own = {"factors": dict(factors), "blocks": dict(blocks)}
        if self.expression is not None and not evaluate(self.expression, {**factors, **blocks, **own}):
            return False
        return self.callable_ref is None or self._ask(self.callable_ref, **own)

    def _ask(self, reference: str, factors: dict[str, Any], blocks: dict[str, Any]) -> bool:
        function = load_callable(reference)
        try:
            found = to_jsonable(function(factors, blocks))
        except Exception as error:
            kind = type(error).__name__
            raise ValidationError(f"constraint {self.constraint_id!r}: {reference} raised {kind}: {error}") from error
        if not isinstance(found, bool):
            raise ValidationError(f"constraint {self.constraint_id!r}: {reference} gave {found!r}, not true or false")
        return found

    @classmethod
    def from_dict(cls, data: Self | Mapping[str, Any]) -> Self:
        """Give what `to_jsonable` made of one."""
        if isinstance(data, cls):
            return data
        return cls(**fields_in(cls, {"description": "", **mapping_of(data, "a Constraint")}))


@dataclass(frozen=True, slots=True)
class Condition:
    """One combination of values that a study runs, or would but for constraints that rule it out."""

    condition_id: str
    factor_assignments: dict[str, Any]
    block_assignments: dict[str, Any]
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    admissible: bool = True
    constraint_messages: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        """Refuse an empty id."""
        filled(self.condition_id, "Condition.condition_id")

    @classmethod
    def from_dict(cls, data: Self | Mapping[str, Any]) -> Self:
        """Give what `to_jsonable` made of one."""
        return data if isinstance(data, cls) else cls(**fields_in(cls, data))


def load_callable(reference: str) -> Callable[..., Any]:
    """Give the function that "module:function" names; raises ValidationError when there is none."""
    module, name = _split(reference)
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ValidationError(f"{reference!r} can't be loaded: {error}") from error
    if not callable(found):
        raise ValidationError(f"{reference!r} is a {type(found).__name__}, not a function")
    return cast("Callable[..., Any]", found)


def value_key(value: object) -> str:
    """Give a text that is the same for values that a study takes for the same: 1 and 1.0, but not 1 and true."""
    return stable_json_dumps(int(value) if isinstance(value, float) and value.is_integer() else value)


def _split(reference: object) -> tuple[str, str]:
    module, colon, name = reference.partition(":") if isinstance(reference, str) else ("", "", "")
    if not (module.strip() and colon and name.strip()):
        raise ValidationError(f"a function is named by 'package.module:function', not by {reference!r}")
    return module, name


def _several(levels: object, place: str) -> list[Any]:
    if is_numpy(levels):
        return _several(levels.tolist(), place)
    if not isinstance(levels, Sequence) or isinstance(levels, str | bytes):
        raise ValidationError(f"the levels of {place} are a list or tuple in their order, not {levels!r}")
    return [*_members(levels)]


def _level(value: object) -> Level:
    if isinstance(value, Level):
        return value
    value = stable_value(value, "a level")
    name = str(value)
    return Level(name if name.strip() else repr(name), value)


def _read_level(value: object) -> Level:
    return Level.from_dict(value) if _is_level(value) else _level(value)


def _is_level(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping) and _LEVEL.issubset(_members(value))


def stable_value(value: object, place: str) -> Any:  # noqa: ANN401 - whatever a factor varies
    """Give the value in plain Python; raises ValidationError for one whose text could differ next time."""
    if (problem := next(unstable(value, place), None)) is not None:
        raise ValidationError(problem)
    return _plain(value)


def _plain(value: object) -> Any:  # noqa: ANN401 - as above
    if is_numpy(value):
        return _plain(value.tolist())
    if type(value) is list:
        return [_plain(each) for each in _members(value)]
    if type(value) is tuple:
        return tuple(_plain(each) for each in _members(value))
    if type(value) is dict:
        return {key: _plain(each) for key, each in cast("dict[object, object]", value).items()}
    return value


def _distinct(values: Sequence[object], what: str) -> None:
    seen: set[str] = set()
    for value in values:
        if (key := value_key(value)) in seen:
            raise ValidationError(f"the {what} are not distinct: {value!r} is there twice")
        seen.add(key)


def _members(value: Any) -> Iterator[Any]:  # noqa: ANN401 - of any collection
    yield from value
