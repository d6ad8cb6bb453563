"""Effect sizes, each by the published method its docstring names, and the samples that statistics are made of.

What is within rounding error of the values it comes from counts as zero, so that a constant is one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

from flock.studies.stable import ValidationError

Sample: TypeAlias = NDArray[np.float64]

_ROUNDING = 8 * math.ulp(1.0)
_LARGEST = 1e100  # squares and sums of such values are still far from overflow


def cohens_d(left: Iterable[float], right: Iterable[float]) -> float:
    """Give the difference of two means in pooled standard deviations; nan for fewer than three values in all.

    Source: Cohen 1988, "Statistical Power Analysis for the Behavioral Sciences", chapter 2, with the pooled variance
    of n1 + n2 - 2 degrees of freedom. Infinite where nothing spreads. Raises ValidationError.
    """
    one, two = sample_of("left", left), sample_of("right", right)
    degrees, scale = one.size + two.size - 2, scale_of(one, two)
    if degrees < 1:
        return math.nan
    center_one, center_two = center_of(one), center_of(two)
    residuals = np.concatenate((one - center_one, two - center_two))
    return ratio(settled(center_one - center_two, scale), settled(_deviation(residuals, degrees), scale))


def hedges_g(left: Iterable[float], right: Iterable[float]) -> float:
    """Give `cohens_d` without its bias in small samples; nan for fewer than four values in all.

    Source: Hedges 1981, "Distribution Theory for Glass's Estimator of Effect Size and Related Estimators", with the
    exact correction for n1 + n2 - 2 degrees of freedom, see `correction`. Raises ValidationError.
    """
    one, two = sample_of("left", left), sample_of("right", right)
    return correction(one.size + two.size - 2) * cohens_d(one, two)


def cohens_dz(left: Iterable[float], right: Iterable[float]) -> float:
    """Give the mean difference of pairs in standard deviations of the differences; nan for one pair.

    Source: Cohen 1988, "Statistical Power Analysis for the Behavioral Sciences", chapter 2. Infinite where nothing
    spreads. Raises ValidationError.
    """
    one, two = pairs_of(left, right)
    differences, scale = one - two, scale_of(one, two)
    if differences.size == 1:
        return math.nan
    center = center_of(differences)
    deviation = _deviation(differences - center, differences.size - 1)
    return ratio(settled(center, scale), settled(deviation, scale))


def cliffs_delta(left: Iterable[float], right: Iterable[float]) -> float:
    """Give P(left > right) - P(left < right) over all pairs of a left and a right value, from -1 to 1.

    Source: Cliff 1993, "Dominance Statistics: Ordinal Analyses to Answer Ordinal Questions". Raises ValidationError.
    """
    one, two = sample_of("left", left), np.sort(sample_of("right", right))
    pairs = one.size * two.size
    won = int(np.searchsorted(two, one, side="left").sum())
    lost = pairs - int(np.searchsorted(two, one, side="right").sum())
    return (won - lost) / pairs


def cohens_h(left: float, right: float) -> float:
    """Give the difference of two proportions, each from 0 to 1, after the transformation 2 asin(sqrt(p)).

    Source: Cohen 1988, "Statistical Power Analysis for the Behavioral Sciences", chapter 6. Raises ValidationError.
    """
    for name, value in (("left", left), ("right", right)):
        if not 0 <= value <= 1:
            raise ValidationError(f"{name} is {value}: give a proportion from 0 to 1")
    return 2 * math.asin(math.sqrt(left)) - 2 * math.asin(math.sqrt(right))


def correction(degrees: int) -> float:
    """Give what takes the bias out of an effect with m degrees of freedom; nan for m < 2, where it has no expectation.

    Source: Hedges 1981, "Distribution Theory for Glass's Estimator of Effect Size and Related Estimators", the exact
    J(m) = gamma(m/2) / (sqrt(m/2) gamma((m-1)/2)).
    """
    return float(special.poch((degrees - 1) / 2, 0.5)) / math.sqrt(degrees / 2) if degrees > 1 else math.nan


def sample_of(name: str, values: Iterable[float]) -> Sample:
    """Give one or more finite numbers as an array of one dimension. Raises ValidationError."""
    sample = numbers_of(name, values)
    if sample.ndim != 1 or not sample.size:
        raise ValidationError(f"{name} has the shape {sample.shape}: give one or more numbers, in one row")
    usable = np.abs(sample) < _LARGEST
    if not usable.all():
        index = int(np.argmin(usable))
        raise ValidationError(
            f"{name}[{index}] is {sample[index]}: leave out what is missing or infinite, and use larger units "
            f"from {_LARGEST:g} on"
        )
    return sample


def pairs_of(left: Iterable[float], right: Iterable[float]) -> tuple[Sample, Sample]:
    """Give two samples of the same size. Raises ValidationError."""
    one, two = sample_of("left", left), sample_of("right", right)
    if one.size != two.size:
        raise ValidationError(f"left has {one.size} values and right {two.size}: give one of each for every pair")
    return one, two


def numbers_of(name: str, values: Iterable[float]) -> Sample:
    """Give numbers as an array, nan and infinity among them. Raises ValidationError."""
    try:
        return np.asarray(list(values), dtype=np.float64)
    except (OverflowError, TypeError, ValueError) as error:
        raise ValidationError(f"{name} can't be read ({error}): give numbers, one for each") from error


def center_of(sample: Sample) -> float:
    """Give the mean, which rounding does not take beyond the values."""
    return min(max(math.fsum(sample.tolist()) / sample.size, float(sample.min())), float(sample.max()))


def scale_of(*samples: Sample) -> float:
    """Give the largest magnitude of samples, which rounding errors are in proportion to."""
    return max(float(np.abs(sample).max()) for sample in samples)


def settled(value: float, scale: float) -> float:
    """Give a value that came from values of this scale, zero where it may be a rounding error."""
    return 0.0 if abs(value) <= _ROUNDING * scale else value


def ratio(value: float, spread: float) -> float:
    """Give value / spread; without any spread, zero for zero and else an infinity of the value's sign."""
    if spread == 0:
        return math.copysign(math.inf, value) if value else 0.0
    return value / spread


def _deviation(residuals: Sample, degrees: int) -> float:
    return math.hypot(*residuals.tolist()) / math.sqrt(degrees)
