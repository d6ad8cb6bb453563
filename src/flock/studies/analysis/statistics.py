"""Estimates with their uncertainty, comparisons and corrections, each by the published method its docstring names."""

from __future__ import annotations

import math
import operator
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple, SupportsIndex, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from flock.studies.analysis.effects import (
    Sample,
    center_of,
    cohens_dz,
    correction,
    hedges_g,
    numbers_of,
    pairs_of,
    ratio,
    sample_of,
    scale_of,
    settled,
)
from flock.studies.stable import ValidationError

Adjustment: TypeAlias = Literal["bonferroni", "holm", "bh", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value with its confidence bounds and standard error, in the unit of the values; nan is what n can't tell."""

    value: float
    low: float
    high: float
    n: int
    se: float
    confidence: float
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A difference, left minus right, with its two-sided test and its effect size; nan is what n can't tell.

    `n` counts pairs, or the values of both sides; an infinite `statistic` or `effect` is of values without spread.
    """

    difference: Estimate
    statistic: float
    df: float
    p_value: float
    effect: float
    effect_name: str
    n: int
    method: str


class _Mean(NamedTuple):
    value: float
    se: float
    df: float


def mean(values: Iterable[float], *, clusters: Iterable[Hashable] | None = None, confidence: float = 0.95) -> Estimate:
    """Estimate a mean with Student's t interval, of n - 1 degrees of freedom; `clusters` has a label for each value.

    Sources: Student 1908, "The Probable Error of a Mean". With G clusters: the cluster-robust standard error of Liang
    and Zeger 1986, "Longitudinal Data Analysis Using Generalized Linear Models", as for evals in Miller 2024, "Adding
    Error Bars to Evals", with the correction CR1 of the variance, G/(G-1) * (n-1)/(n-k), here G/(G-1) as k = 1, and
    G - 1 degrees of freedom (Cameron and Miller 2015, "A Practitioner's Guide to Cluster-Robust Inference").
    Raises ValidationError.
    """
    sample = sample_of("values", values)
    of = _mean_of(sample, _groups("clusters", clusters, sample), scale=scale_of(sample))
    return _interval(of, n=sample.size, confidence=confidence, method=_named("t", clusters))


def proportion(successes: int, n: int, *, confidence: float = 0.95) -> Estimate:
    """Estimate a proportion with Wilson's score interval; `se` is sqrt(p(1-p)/n), which the interval does not use.

    Source: Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference". Raises ValidationError.
    """
    trials, hits = _count("n", n, least=1), _count("successes", successes)
    if hits > trials:
        raise ValidationError(f"successes is {hits} of n = {trials}: give (successes, n), in this order")
    value = hits / trials
    z = float(stats.norm.isf((1 - _checked(confidence)) / 2))
    center = (hits + z**2 / 2) / (trials + z**2)
    half = z * math.sqrt(hits * (trials - hits) / trials + z**2 / 4) / (trials + z**2)
    return Estimate(
        value=value,
        low=max(0.0, min(center - half, value)),
        high=min(1.0, max(center + half, value)),
        n=trials,
        se=math.sqrt(value * (1 - value) / trials),
        confidence=confidence,
        method="Wilson",
    )


def paired_difference(
    left: Iterable[float],
    right: Iterable[float],
    *,
    clusters: Iterable[Hashable] | None = None,
    confidence: float = 0.95,
) -> Comparison:
    """Compare pairs, in order, by the mean of left minus right; `clusters` has a label for each pair.

    Sources: the paired t of Student 1908, "The Probable Error of a Mean"; with clusters, the standard error of `mean`.
    The effect is `cohens_dz` times the `correction` of Hedges 1981 for n - 1 degrees of freedom (nan for n < 3), and
    does not know of clusters. Raises ValidationError.
    """
    one, two = pairs_of(left, right)
    differences, scale = one - two, scale_of(one, two)
    return _comparison(
        _mean_of(differences, _groups("clusters", clusters, differences), scale=scale),
        scale=scale,
        n=differences.size,
        confidence=confidence,
        method=_named("paired t", clusters),
        effect=correction(differences.size - 1) * cohens_dz(one, two),
        effect_name="d_z, Hedges-corrected",
    )


def difference(
    left: Iterable[float],
    right: Iterable[float],
    *,
    clusters_left: Iterable[Hashable] | None = None,
    clusters_right: Iterable[Hashable] | None = None,
    confidence: float = 0.95,
) -> Comparison:
    """Compare two independent samples, of whatever variances, by the difference of their means.

    Sources: Welch 1947, "The Generalization of 'Student's' Problem when Several Different Population Variances are
    Involved", with the degrees of freedom of Satterthwaite 1946, "An Approximate Distribution of Estimates of Variance
    Components"; the effect is `hedges_g`. With clusters each mean has the standard error and the G - 1 degrees of
    freedom of `mean`; a cluster is of one side only, so the same problems on both need `paired_difference`; and the
    effect does not know of clusters. Raises ValidationError.
    """
    one, two = sample_of("left", left), sample_of("right", right)
    mean_one = _mean_of(one, _groups("clusters_left", clusters_left, one), scale=scale_of(one))
    mean_two = _mean_of(two, _groups("clusters_right", clusters_right, two), scale=scale_of(two))
    se = math.hypot(mean_one.se, mean_two.se)
    return _comparison(
        _Mean(mean_one.value - mean_two.value, se, _welch_df(mean_one, mean_two, se)),
        scale=scale_of(one, two),
        n=one.size + two.size,
        confidence=confidence,
        method=_named("Welch t", clusters_right if clusters_left is None else clusters_left),
        effect=hedges_g(one, two),
        effect_name="Hedges' g",
    )


def adjust(p_values: Iterable[float], method: Adjustment = "holm") -> list[float]:
    """Give the p-values adjusted for being many, in their order; nan stays nan and counts as no comparison.

    Sources: "holm" is Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure"; "bh" is Benjamini and
    Hochberg 1995, "Controlling the False Discovery Rate"; "bonferroni" is Dunn 1961, "Multiple Comparisons Among
    Means". Raises ValidationError.
    """
    given = numbers_of("p_values", p_values)
    known = ~np.isnan(given)
    if np.any((given[known] < 0) | (given[known] > 1)):
        raise ValidationError(f"p_values are {given.tolist()}: give values from 0 to 1, nan for a test without one")
    given[known] = _adjusted(given[known], method)
    return [float(value) for value in given]


def pass_at_k(n: int, c: int, k: int) -> float:
    """Estimate, without bias, the chance that any of k samples is correct, from n samples with c correct ones.

    Source: Chen et al. 2021, "Evaluating Large Language Models Trained on Code", equation 1: 1 - C(n-c, k) / C(n, k),
    here in whole numbers, so that only the result is rounded. Raises ValidationError.
    """
    samples, correct, drawn = _count("n", n, least=1), _count("c", c), _count("k", k, least=1)
    if correct > samples:
        raise ValidationError(f"c is {correct} of n = {samples}: give (n, c, k), in this order")
    if drawn > samples:
        raise ValidationError(f"k is {drawn} and n only {samples}: take at least k samples, or ask for a smaller k")
    fewer, more = sorted((correct, drawn))  # C(n-c, k) / C(n, k) is the same with c and k swapped
    ways = math.comb(samples, fewer)
    return (ways - math.comb(samples - more, fewer)) / ways


def mean_pass_at_k(counts: Iterable[tuple[int, int]], k: int, *, confidence: float = 0.95) -> Estimate:
    """Estimate the mean of `pass_at_k` over problems, each a pair (n, c), with Student's t interval over problems.

    Source: Chen et al. 2021, "Evaluating Large Language Models Trained on Code", equation 1; the interval is that of
    `mean`, for problems that stand for more like them. Raises ValidationError.
    """
    sample = sample_of("counts", [pass_at_k(n, c, k) for n, c in counts])
    return _interval(_mean_of(sample, None, scale=1.0), n=sample.size, confidence=confidence, method="t")


def _mean_of(sample: Sample, groups: NDArray[np.intp] | None, *, scale: float) -> _Mean:
    """Give the mean and its standard error by the totals of residuals in groups; without any, each value is one."""
    value = center_of(sample)
    residuals = sample - value
    totals = residuals if groups is None else np.bincount(groups, weights=residuals)
    if totals.size == 1:
        return _Mean(value, math.nan, math.nan)
    se = math.sqrt(totals.size / (totals.size - 1)) * math.hypot(*totals.tolist()) / sample.size
    return _Mean(value, settled(se, scale), totals.size - 1)


def _welch_df(left: _Mean, right: _Mean, se: float) -> float:
    if se == 0:
        return left.df + right.df
    return 1 / ((left.se / se) ** 4 / left.df + (right.se / se) ** 4 / right.df)


def _interval(of: _Mean, *, n: int, confidence: float, method: str) -> Estimate:
    half = float(stats.t.isf((1 - _checked(confidence)) / 2, of.df)) * of.se
    low, high = of.value - half, of.value + half
    return Estimate(value=of.value, low=low, high=high, n=n, se=of.se, confidence=confidence, method=method)


def _comparison(
    of: _Mean, *, scale: float, n: int, confidence: float, method: str, effect: float, effect_name: str
) -> Comparison:
    of = of._replace(value=settled(of.value, scale))
    statistic = ratio(of.value, of.se)
    return Comparison(
        difference=_interval(of, n=n, confidence=confidence, method=method),
        statistic=statistic,
        df=of.df,
        p_value=2 * float(stats.t.sf(abs(statistic), of.df)),
        effect=effect,
        effect_name=effect_name,
        n=n,
        method=method,
    )


def _adjusted(p_values: Sample, method: Adjustment) -> Sample:
    match method:
        case "none":
            return p_values
        case "bonferroni":
            return np.minimum(p_values * p_values.size, 1)
        case "holm":
            order = np.argsort(p_values)
            steps = np.maximum.accumulate(p_values[order] * np.arange(p_values.size, 0, -1))
            return np.minimum(steps, 1)[np.argsort(order)]
        case "bh":
            return stats.false_discovery_control(p_values, method="bh")
        case _:
            raise ValidationError(f"method is {method!r}: use 'bonferroni', 'holm', 'bh' or 'none'")


def _named(method: str, clusters: object) -> str:
    return method if clusters is None else f"clustered {method}"


def _groups(name: str, clusters: Iterable[Hashable] | None, sample: Sample) -> NDArray[np.intp] | None:
    if clusters is None:
        return None
    labels = list(clusters)
    if len(labels) != sample.size:
        raise ValidationError(f"{name} has {len(labels)} labels for {sample.size} values: give one for each value")
    try:
        missing = any(label is None or label != label for label in labels)  # noqa: PLR0124 - nan equals no label
        numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    except (TypeError, ValueError) as error:
        raise ValidationError(f"{name} can't be compared ({error}): use texts or numbers as labels") from error
    if missing:
        raise ValidationError(f"{name} has a label that is None or nan: label every value")
    return np.asarray([numbers[label] for label in labels], dtype=np.intp)


def _count(name: str, value: SupportsIndex, *, least: int = 0) -> int:
    try:
        count = operator.index(value)
    except TypeError as error:
        raise ValidationError(f"{name} is {value!r}: give a whole number") from error
    if count < least:
        raise ValidationError(f"{name} is {count}: give {least} or more")
    return count


def _checked(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValidationError(f"confidence is {confidence}: give a part of one, such as 0.95")
    return confidence
