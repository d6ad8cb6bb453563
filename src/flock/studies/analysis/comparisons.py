"""Comparisons with a baseline: of agents, of a factor's levels, or of conditions."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from flock.studies.analysis.measurements import AGENT, CONDITION, Measurements, cell
from flock.studies.analysis.statistics import Adjustment, Comparison, adjust, difference, paired_difference
from flock.studies.analysis.tables import CLUSTERED, is_clustered
from flock.studies.design.factors import value_key
from flock.studies.stable import ValidationError

COLUMNS: Final = (
    "what", "baseline", "n", "mean", "baseline_mean", "difference", "low", "high", "p_value", "p_adjusted", "effect",
    "effect_name", "method", "missing", "unpaired",
)  # fmt: skip

Key = tuple[str, ...]  # what two runs have to agree on to be a pair


class _Value(NamedTuple):
    problem: str
    number: float


class _Side(NamedTuple):
    values: dict[Key, _Value]
    missing: int  # runs without a value


def comparison_rows(
    measured: Measurements,
    outcome: str,
    *,
    baseline: object,
    by: str | None = None,
    correction: Adjustment = "holm",
    confidence: float = 0.95,
) -> list[dict[str, Any]]:
    """Give a row per comparison with the baseline, see `COLUMNS`; raises ValidationError for unknown names."""
    numbers = measured.numbers(outcome)
    name, key = _resolved(measured, baseline, by)
    levels = measured.levels(name)
    sides = _sides(measured, numbers, name)
    rows = [
        {"what": levels[other], "baseline": levels[key], **_compared(sides[other], sides[key], confidence)}
        for other in levels
        if other != key
    ]
    adjusted = adjust([row["p_value"] for row in rows], correction)
    return [{**row, "p_adjusted": p_value} for row, p_value in zip(rows, adjusted, strict=True)]


def _resolved(measured: Measurements, baseline: object, by: str | None) -> tuple[str, str]:
    """Give the name that a baseline is a level of, and the level's key."""
    if by is not None:
        name = measured.by(by)[0]
        return name, _level(measured, name, baseline)
    agents, conditions = measured.levels(AGENT), measured.levels(CONDITION)
    key = value_key(cell(baseline))
    for name, levels in ((AGENT, agents), (CONDITION, conditions)):
        if key in levels:
            return name, key
    factors = ", ".join(measured.factors.values()) or "none"
    raise ValidationError(
        f"there is no agent or condition {baseline!r} to compare with; known agents: {_listed(agents)}; known "
        f"conditions: {_listed(conditions)}; by= names a factor whose level it is: {factors}"
    )


def _level(measured: Measurements, name: str, baseline: object) -> str:
    levels = measured.levels(name)
    key = value_key(cell(baseline))
    if key in levels:
        return key
    named = {
        level.name: value_key(cell(level.value))
        for factor in measured.plan.study.factors
        if measured.factors.get(factor.name) == name
        for level in factor.levels
    }
    found = named.get(baseline) if isinstance(baseline, str) else None
    if found is None or found not in levels:
        raise ValidationError(f"{name!r} has no level {baseline!r} to compare with; known levels: {_listed(levels)}")
    return found


def _listed(levels: Mapping[str, object]) -> str:
    shown = [str(each) for each in list(levels.values())[:20]]
    more = [f"{len(levels) - len(shown)} more"] if len(levels) > len(shown) else []
    return ", ".join([*shown, *more]) or "none"


def _sides(measured: Measurements, numbers: Sequence[float | None], by: str) -> dict[str, _Side]:
    """Give what each level has, by what makes pairs; of runs that agree in all of it, the first goes with the first."""
    names = measured.shared(by)
    seen: Counter[Key] = Counter()
    sides = {key: _Side({}, 0) for key in measured.levels(by)}
    for row, number in zip(measured.rows, numbers, strict=True):
        level = value_key(row.keys.get(by))
        key = tuple(value_key(row.keys.get(name)) for name in names)
        seen[level, *key] += 1
        side = sides[level]
        if number is None:
            sides[level] = side._replace(missing=side.missing + 1)
        else:
            side.values[*key, str(seen[level, *key])] = _Value(row.spec.problem_id, number)
    return sides


def _compared(left: _Side, right: _Side, confidence: float) -> dict[str, Any]:
    missing = {"missing": left.missing + right.missing}
    if not left.values or not right.values:
        return _nothing() | missing | {"unpaired": len(left.values) + len(right.values)}
    one, two = list(left.values.values()), list(right.values.values())
    keys = [key for key in left.values if key in right.values]
    unpaired = len(one) + len(two) - 2 * len(keys)
    if len(keys) > 1 or len(one) == len(two) == len(keys):
        pairs = [left.values[key] for key in keys], [right.values[key] for key in keys]
        return _paired(*pairs, confidence) | missing | {"unpaired": unpaired}
    problems = _problem_means(one, two)
    if len(problems[0]) > 1:
        alone = {each.problem for each in one} ^ {each.problem for each in two}
        unpaired = sum(each.problem in alone for each in [*one, *two])
        found = _paired(*problems, confidence)
        return found | {"method": f"{found['method']} of problem means"} | missing | {"unpaired": unpaired}
    return _welch(one, two, confidence) | missing | {"unpaired": 0}


def _paired(left: Sequence[_Value], right: Sequence[_Value], confidence: float) -> dict[str, Any]:
    problems = [each.problem for each in left]
    found = paired_difference(
        _numbers(left), _numbers(right), clusters=problems if is_clustered(problems) else None, confidence=confidence
    )
    return _said(found, _numbers(left), _numbers(right), clustered=is_clustered(problems))


def _welch(left: Sequence[_Value], right: Sequence[_Value], confidence: float) -> dict[str, Any]:
    clusters = [[each.problem for each in side] for side in (left, right)]
    one, two = (labels if is_clustered(labels) else None for labels in clusters)
    found = difference(
        _numbers(left), _numbers(right), clusters_left=one, clusters_right=two, confidence=confidence
    )  # fmt: skip
    return _said(found, _numbers(left), _numbers(right), clustered=any(map(is_clustered, clusters)))


def _problem_means(left: Sequence[_Value], right: Sequence[_Value]) -> tuple[list[_Value], list[_Value]]:
    """Give the means of the problems that both sides have: what is left of pairs where runs differ in all else."""
    one, two = _by_problem(left), _by_problem(right)
    both = [problem for problem in one if problem in two]
    means = ([_Value(name, math.fsum(side[name]) / len(side[name])) for name in both] for side in (one, two))
    first, second = means
    return first, second


def _by_problem(values: Iterable[_Value]) -> dict[str, list[float]]:
    found: defaultdict[str, list[float]] = defaultdict(list)
    for each in values:
        found[each.problem].append(each.number)
    return found


def _numbers(values: Iterable[_Value]) -> list[float]:
    return [each.number for each in values]


def _said(found: Comparison, left: Sequence[float], right: Sequence[float], *, clustered: bool) -> dict[str, Any]:
    return {
        "n": found.n,
        "mean": math.fsum(left) / len(left),
        "baseline_mean": math.fsum(right) / len(right),
        "difference": found.difference.value,
        "low": found.difference.low,
        "high": found.difference.high,
        "p_value": found.p_value,
        "effect": found.effect,
        "effect_name": found.effect_name,
        "method": f"{found.method} {CLUSTERED}" if clustered else found.method,
    }


def _nothing() -> dict[str, Any]:
    numbers = ("mean", "baseline_mean", "difference", "low", "high", "p_value", "effect")
    return {"n": 0, **dict.fromkeys(numbers, math.nan), "effect_name": "", "method": ""}
