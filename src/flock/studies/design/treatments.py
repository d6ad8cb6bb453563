"""Treatments that are not all combinations: samples, fractions and centre points."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

from flock.studies.design.factors import Factor, value_key
from flock.studies.design.generators import generator_for
from flock.studies.design.layouts import Assignment
from flock.studies.design.reading import is_number, mapping_of
from flock.studies.stable import ValidationError

_DIGITS = 12  # significant ones, so that ids don't hang on how the last bit was rounded
_PAIR = 2

_Bounds = Mapping[str, tuple[float, float]]


class _Matrices(Protocol):
    """What `flock.studies.design.matrices` gives."""

    def latin_hypercube(self, samples: int, dimensions: int, *, seed: int, strength: int) -> list[list[float]]: ...

    def two_level(self, generator: str) -> list[list[int]]: ...


def hypercube(factors: Sequence[Factor], samples: int, seed: int, options: Mapping[str, Any]) -> list[Assignment]:
    """Give a Latin hypercube sample (McKay, Beckman and Conover 1979) of these factors.

    Numeric factors lie between their lowest and highest level, or within `options["bounds"]`; whole numbers (dtype
    "int") and the levels of other factors have equal parts of the range each; a single value stays.
    """
    bounds = bounds_in(factors, options)
    scales = [_scale(each, bounds) for each in factors]
    varied = sum(scale is not None for scale in scales)
    strength = options.get("strength", 1)
    sample: list[list[float]] = [[]] * samples
    if varied:
        sample = _matrices().latin_hypercube(samples, varied, seed=seed, strength=strength)
    treatments: list[Assignment] = []
    for point in sample:
        places = iter(point)
        pairs = zip(factors, scales, strict=True)
        treatments.append({f.name: f.iter_values()[0] if scale is None else scale(next(places)) for f, scale in pairs})
    return treatments


def fraction(factors: Sequence[Factor], options: Mapping[str, Any]) -> list[Assignment]:
    """Give a fraction of the combinations of two levels each (Box and Hunter 1961); the first level is -1.

    It has `options["resolution"]` ("III" unless given) or is made by `options["generator"]`, one word per factor. A
    factor without levels stays at its default.
    """
    varied = [each for each in factors if each.levels]
    for each in varied:
        if len(each.levels) != _PAIR:
            raise ValidationError(f"factor {each.name!r} has {len(each.levels)} levels: a two-level fraction needs two")
    generator = options.get("generator")
    if generator is None:
        generator = generator_for(len(varied), options.get("resolution", "III"))
    if not isinstance(generator, str) or len(generator.split()) != len(varied):
        raise ValidationError(f"a generator has one word for each of {len(varied)} factors, as 'a b ab': {generator!r}")
    runs: list[list[int]] = _matrices().two_level(" ".join(generator.split())) if varied else [[]]
    fixed = {each.name: each.default for each in factors}
    return [
        fixed | {each.name: each.levels[sign > 0].value for each, sign in zip(varied, run, strict=True)} for run in runs
    ]


def centre(factors: Sequence[Factor], options: Mapping[str, Any]) -> Assignment:
    """Give the centre point: numeric factors in the middle of their range, others at their first level.

    The middle is rounded for dtype "int". Numbers have 12 significant digits here and in samples.
    """
    bounds = bounds_in(factors, options)
    return {each.name: _middle(each, bounds) for each in factors}


def bounds_in(factors: Sequence[Factor], options: Mapping[str, Any]) -> _Bounds:
    """Give `options["bounds"]`, lowest and highest value by factor; raises ValidationError."""
    given = mapping_of(options.get("bounds") or {}, 'options["bounds"]')
    names = [each.name for each in factors]
    found: dict[str, tuple[float, float]] = {}
    for name, pair in given.items():
        if name not in names:
            raise ValidationError(f'options["bounds"] has {name!r}, which is no factor: {", ".join(names)}')
        if not isinstance(pair, list | tuple):
            raise ValidationError(f"the bounds of {name!r} are [lowest, highest], not {pair!r}")
        ends: list[Any] = [*cast("Sequence[Any]", pair)]
        if len(ends) != _PAIR or not all(is_number(each) for each in ends) or not ends[0] < ends[1]:
            raise ValidationError(f"the bounds of {name!r} are two finite numbers, the lower first, not {pair!r}")
        found[name] = (ends[0], ends[1])
    return found


def _range(factor: Factor, bounds: _Bounds) -> tuple[float, float] | None:
    values = factor.iter_values()
    if factor.name in bounds:
        return bounds[factor.name]
    return (min(values), max(values)) if all(is_number(each) for each in values) else None


def _is_whole(factor: Factor) -> bool:
    return factor.dtype in {"int", "integer"}


def _scale(factor: Factor, bounds: _Bounds) -> Callable[[float], Any] | None:
    """Give what makes a value of a place from 0 up to 1, or None for a factor that stays."""
    values = factor.iter_values()
    span = _range(factor, bounds)
    if span is None:
        return None if len(values) == 1 else lambda place: values[_bin(place, len(values))]
    low, high = span
    if low == high:
        return None
    if not _is_whole(factor):
        return lambda place: _rounded(low + place * (high - low))
    first, last = math.ceil(low), math.floor(high)
    if first > last:
        raise ValidationError(f"there is no whole number from {low} to {high} for factor {factor.name!r}")
    return lambda place: first + _bin(place, last - first + 1)


def _bin(place: float, count: int) -> int:
    return min(int(place * count), count - 1)


def _middle(factor: Factor, bounds: _Bounds) -> object:
    values = factor.iter_values()
    span = _range(factor, bounds)
    if span is None:
        return values[0]
    middle = _rounded((span[0] + span[1]) / 2)
    if _is_whole(factor):
        return round(middle)
    same = next((each for each in values if value_key(each) == value_key(middle)), None)
    if same is not None:
        return same
    return int(middle) if middle.is_integer() and all(isinstance(each, int) for each in values) else middle


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}") + 0.0  # no negative zero


def _matrices() -> _Matrices:
    try:
        return cast("_Matrices", importlib.import_module("flock.studies.design.matrices"))
    except ImportError as error:
        raise ValidationError(
            "this design needs numpy, scipy and pyDOE3: pip install 'flock-board[studies]'"
        ) from error
