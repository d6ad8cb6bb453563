"""Designs: which combinations of factors and blocks a study runs, in which order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, Self

from flock.studies.design.cells import Table, read_table, rows_of
from flock.studies.design.conditions import conditions_of
from flock.studies.design.expressions import MAPPINGS, names_in
from flock.studies.design.factors import Block, Condition, Constraint, Factor, value_key
from flock.studies.design.layouts import (
    Assignment,
    Row,
    chance_of,
    crossed,
    every_block,
    every_treatment,
    interleaved,
    latin_square,
    repeated,
    shuffled,
)
from flock.studies.design.reading import fields_in, filled, mapping_of, whole, word_of
from flock.studies.design.treatments import centre, fraction, hypercube
from flock.studies.stable import ValidationError

_POINTS = 10  # of a Latin hypercube per factor, unless given: Loeppky, Sacks and Welch 2009
_OPTIONS = ("resolution", "generator", "bounds", "strength", "row_factor", "column_factor", "treatment_factor")
_SIDES = ("row_factor", "column_factor", "treatment_factor")


class DesignKind(StrEnum):
    """The designs that there are."""

    FULL_FACTORIAL = "full_factorial"
    CONSTRAINED_FACTORIAL = "constrained_factorial"
    RANDOMIZED_BLOCK = "randomized_block"
    REPEATED_MEASURES = "repeated_measures"
    LATIN_SQUARE = "latin_square"
    CUSTOM_MATRIX = "custom_matrix"
    LATIN_HYPERCUBE = "latin_hypercube"
    FRACTIONAL_FACTORIAL_2LEVEL = "fractional_factorial_2level"


_ALIASES = {
    "full": DesignKind.FULL_FACTORIAL,
    "factorial": DesignKind.FULL_FACTORIAL,
    "constrained": DesignKind.CONSTRAINED_FACTORIAL,
    "lhs": DesignKind.LATIN_HYPERCUBE,
    "frac2": DesignKind.FRACTIONAL_FACTORIAL_2LEVEL,
    "fractional": DesignKind.FRACTIONAL_FACTORIAL_2LEVEL,
    "latin": DesignKind.LATIN_SQUARE,
    "matrix": DesignKind.CUSTOM_MATRIX,
    "custom": DesignKind.CUSTOM_MATRIX,
}


@dataclass(frozen=True, slots=True)
class DesignSpec:
    """How conditions come about.

    `n_samples` of a Latin hypercube are ten per factor unless given (Loeppky, Sacks and Welch 2009). `replicates`
    repeats the whole design and `center_points` are added to it; `block_randomization_key` names the factor or block
    within whose levels `randomize` shuffles. `matrix` has the rows of a custom matrix in memory.
    """

    kind: DesignKind = DesignKind.FULL_FACTORIAL
    replicates: int = 1
    randomize: bool = False
    counterbalance: bool = False
    matrix_path: str | None = None
    n_samples: int | None = None
    center_points: int = 0
    block_randomization_key: str | None = None
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    matrix: tuple[Mapping[str, Any], ...] | None = None

    def __post_init__(self) -> None:
        """Refuse an unknown kind, counts below what makes sense, and two matrices at once."""
        word = str(self.kind).strip().lower().replace("-", "_").replace(" ", "_")
        kind = word_of(DesignKind, _ALIASES.get(word, word), "DesignSpec.kind")
        object.__setattr__(self, "kind", kind)
        whole(self.replicates, "DesignSpec.replicates", least=1)
        whole(self.center_points, "DesignSpec.center_points", least=0)
        if self.n_samples is not None:
            whole(self.n_samples, "DesignSpec.n_samples", least=1)
        object.__setattr__(self, "options", mapping_of(self.options, "DesignSpec.options"))
        object.__setattr__(self, "matrix_path", None if self.matrix_path is None else str(self.matrix_path))
        if self.matrix is not None and self.matrix_path is not None:
            raise ValidationError("a design has a matrix or a matrix_path, not both")
        if self.matrix is not None:
            rows = [mapping_of(each, f"row {number} of the matrix") for number, each in enumerate(self.matrix, 1)]
            object.__setattr__(self, "matrix", tuple(rows))

    @classmethod
    def from_dict(cls, data: Self | Mapping[str, Any]) -> Self:
        """Give what `to_jsonable` made of one; some fields may be among its options instead."""
        if isinstance(data, cls):
            return data
        given = mapping_of(data, "a design")
        beside = {name: given.pop(name) for name in _OPTIONS if name in given}
        found = fields_in(cls, given)
        options = mapping_of(found.get("options") or {}, "DesignSpec.options") | beside
        for name in ("matrix_path", "n_samples", "center_points", "block_randomization_key"):
            if found.get(name) is None and options.get(name) is not None:
                found[name] = options[name]
        found["options"] = options
        return cls(**found)


class Seeded(Protocol):
    """What says where chance begins."""

    @property
    def base_seed(self) -> int:
        """The seed of the study."""
        ...


class Designed(Protocol):
    """What a design is made for: a study."""

    @property
    def factors(self) -> Sequence[Factor]:
        """What it varies."""
        ...

    @property
    def blocks(self) -> Sequence[Block]:
        """In which surroundings."""
        ...

    @property
    def constraints(self) -> Sequence[Constraint]:
        """What is ruled out."""
        ...

    @property
    def design_spec(self) -> DesignSpec:
        """The design."""
        ...

    @property
    def seed_policy(self) -> Seeded:
        """Where its chance begins."""
        ...


def build_design(study: Designed, design_spec: DesignSpec | Mapping[str, Any] | None = None) -> list[Condition]:
    """Give the conditions of a study in their order, those that constraints rule out among them.

    Equal studies have equal conditions in every process. Raises ValidationError for what can't be designed.
    """
    spec = DesignSpec.from_dict(study.design_spec if design_spec is None else design_spec)
    _check(study.factors, study.blocks, study.constraints)
    if spec.block_randomization_key is not None:
        _known(spec.block_randomization_key, study, "block_randomization_key")
    rows = _BUILDERS[spec.kind](study, spec)
    return conditions_of(rows, study.factors, study.constraints, spec.kind)


def materialize_conditions(
    factors: Sequence[Factor] | Designed,
    blocks: Sequence[Block] = (),
    constraints: Sequence[Constraint] = (),
    *,
    seed: int | None = None,
    randomize: bool = False,
    counterbalance: bool = False,
) -> list[Condition]:
    """Give every combination of factors and blocks, or of a study's; no seed is seed 0. Raises ValidationError."""
    if not isinstance(factors, Sequence):
        study = factors
        factors, blocks, constraints = study.factors, study.blocks, study.constraints
    _check(factors, blocks, constraints)
    rows = crossed(every_treatment(factors), every_block(blocks))
    rows = interleaved(rows) if counterbalance else rows
    rows = shuffled(rows, seed) if randomize else rows
    return conditions_of(rows, factors, constraints, DesignKind.FULL_FACTORIAL)


def design_balance_report(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Say by column how many values it has, and how often the most frequent is there per the least frequent."""
    rows = list(rows)
    report: dict[str, dict[str, float]] = {}
    for column in dict.fromkeys(name for row in rows for name in row):
        counts = Counter(value_key(row.get(column)) for row in rows).values()
        report[column] = {"n_levels": float(len(counts)), "max_to_min_ratio": max(counts) / min(counts)}
    return report


def _check(factors: Sequence[Factor], blocks: Sequence[Block], constraints: Sequence[Constraint]) -> None:
    names = Counter(_names(factors, blocks))
    if twice := [name for name, count in names.items() if count > 1]:
        raise ValidationError(f"several factors or blocks are named {', '.join(twice)}: give each its own name")
    for each in constraints:
        unknown = names_in(each.expression) - {*names, *MAPPINGS} if each.expression is not None else ()
        if unknown:
            known = ", ".join([*names, *sorted(MAPPINGS)])
            raise ValidationError(
                f"constraint {each.expression!r} names {', '.join(sorted(unknown))}; known names: {known}"
            )


def _names(factors: Sequence[Factor], blocks: Sequence[Block]) -> list[str]:
    return [*(each.name for each in factors), *(each.name for each in blocks)]


def _known(name: object, study: Designed, what: str) -> str:
    names = _names(study.factors, study.blocks)
    if name not in names:
        raise ValidationError(f"{what} is the name of a factor or block, {', '.join(names)}, not {name!r}")
    return str(name)


def _treatments(study: Designed, spec: DesignSpec) -> list[Assignment]:
    """Give the treatments once per replicate, and the centre points."""
    seed = study.seed_policy.base_seed
    match spec.kind:
        case DesignKind.LATIN_HYPERCUBE if study.factors:
            fallback = spec.options.get("n_samples", _POINTS * len(study.factors))
            samples = fallback if spec.n_samples is None else spec.n_samples
            count = whole(samples, "n_samples of a Latin hypercube", least=1)
            once = hypercube(study.factors, count, seed, spec.options)
        case DesignKind.FRACTIONAL_FACTORIAL_2LEVEL:
            once = fraction(study.factors, spec.options)
        case _:
            once = every_treatment(study.factors)
    middle = [centre(study.factors, spec.options)] if spec.center_points else []
    return once * spec.replicates + middle * spec.center_points


def _ordered(rows: list[Row], study: Designed, spec: DesignSpec) -> list[Row]:
    rows = interleaved(rows) if spec.counterbalance else rows
    if not spec.randomize:
        return rows
    key = spec.block_randomization_key
    return shuffled(
        rows, study.seed_policy.base_seed, lambda row: None if key is None else (row.factors | row.blocks)[key]
    )


def _factorial(study: Designed, spec: DesignSpec) -> list[Row]:
    return _ordered(crossed(_treatments(study, spec), every_block(study.blocks)), study, spec)


def _randomized_block(study: Designed, spec: DesignSpec) -> list[Row]:
    """Give every treatment in every block, in an order of its own in each. Fisher 1926."""
    rows = crossed(_treatments(study, spec), every_block(study.blocks))
    return shuffled(rows, study.seed_policy.base_seed, lambda row: row.blocks)


def _repeated_measures(study: Designed, spec: DesignSpec) -> list[Row]:
    chance = chance_of(study.seed_policy.base_seed) if spec.randomize else None
    return repeated(_treatments(study, spec), every_block(study.blocks), chance)


def _latin_square(study: Designed, spec: DesignSpec) -> list[Row]:
    """Give one square per replicate and combination of the other blocks; rows and columns may be blocks."""
    _refuse_centre(spec)
    names = [_known(spec.options.get(side), study, f'options["{side}"] of a Latin square') for side in _SIDES]
    values = {each.name: each.iter_values() for each in study.factors} | {
        each.name: each.levels for each in study.blocks
    }
    size = len(values[names[2]])
    if len(set(names)) != len(names) or any(len(values[name]) != size for name in names):
        raise ValidationError(f"a Latin square needs three factors with equally many levels, not {', '.join(names)}")
    rest = [each for each in study.factors if each.name not in names]
    if several := [each.name for each in rest if len(each.iter_values()) > 1]:
        raise ValidationError(f"a Latin square has no place for {', '.join(several)}: give these one level each")
    chance = chance_of(study.seed_policy.base_seed) if spec.randomize else None
    rows: list[Row] = []
    for others in every_block([each for each in study.blocks if each.name not in names]) * spec.replicates:
        for row, symbols in enumerate(latin_square(size, chance)):
            for column, symbol in enumerate(symbols):
                places = zip(names, (row, column, symbol), strict=True)
                given = every_treatment(rest)[0] | others | {name: values[name][place] for name, place in places}
                rows.append(_placed(given, study, {"latin_square_row": row, "latin_square_col": column}))
    return interleaved(rows) if spec.counterbalance else rows


def _placed(given: Assignment, study: Designed, notes: Mapping[str, Any]) -> Row:
    factors = {each.name: given[each.name] for each in study.factors}
    return Row(factors, {each.name: given[each.name] for each in study.blocks}, notes)


def _custom_matrix(study: Designed, spec: DesignSpec) -> list[Row]:
    _refuse_centre(spec)
    path = spec.matrix_path or spec.options.get("matrix_path")
    if spec.matrix is None and path is None:
        raise ValidationError("a custom matrix needs its rows: give matrix or matrix_path")
    table = read_table(Path(filled(path, "matrix_path"))) if spec.matrix is None else Table(spec.matrix)
    return _ordered(rows_of(table, study.factors, study.blocks) * spec.replicates, study, spec)


def _refuse_centre(spec: DesignSpec) -> None:
    if spec.center_points:
        raise ValidationError(f"a {spec.kind} has no centre points: set center_points to 0")


_BUILDERS: Mapping[DesignKind, Callable[[Designed, DesignSpec], list[Row]]] = {
    DesignKind.FULL_FACTORIAL: _factorial,
    DesignKind.CONSTRAINED_FACTORIAL: _factorial,
    DesignKind.RANDOMIZED_BLOCK: _randomized_block,
    DesignKind.REPEATED_MEASURES: _repeated_measures,
    DesignKind.LATIN_SQUARE: _latin_square,
    DesignKind.CUSTOM_MATRIX: _custom_matrix,
    DesignKind.LATIN_HYPERCUBE: _factorial,
    DesignKind.FRACTIONAL_FACTORIAL_2LEVEL: _factorial,
}
