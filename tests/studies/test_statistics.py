"""S9: what a study says of its numbers is what the published methods say, and it says when nothing can be known."""

from __future__ import annotations

import importlib
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from flock import ConfigurationError
from flock.studies.analysis.effects import cliffs_delta, cohens_d, cohens_dz, cohens_h, correction, hedges_g
from flock.studies.analysis.statistics import (
    Adjustment,
    Comparison,
    Estimate,
    adjust,
    difference,
    mean,
    mean_pass_at_k,
    paired_difference,
    pass_at_k,
    proportion,
)
from flock.studies.stable import ValidationError

MODELS: Any = importlib.import_module("statsmodels.api")
PROPORTIONS: Any = importlib.import_module("statsmodels.stats.proportion")
MULTIPLE: Any = importlib.import_module("statsmodels.stats.multitest")
WEIGHTED: Any = importlib.import_module("statsmodels.stats.weightstats")
META: Any = importlib.import_module("statsmodels.stats.meta_analysis")

# Cushny and Peebles 1905, the additional hours of sleep of Student 1908 and of R's data set `sleep`.
DEXTRO = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
LAEVO = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]

# Benjamini and Hochberg 1995: the fifteen p-values of their example, a trial of thrombolysis, with four rejections.
THROMBOLYSIS = [
    *(0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459),
    *(0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000),
]

# Scores of seven problems that were tried unequally often.
SCORES = [0.2, 0.3, 0.35, 0.9, 0.8, 0.1, 0.15, 0.5, 0.55, 0.52, 0.48, 0.7, 0.66, 1.0]
OTHERS = [0.1, 0.35, 0.2, 0.7, 0.85, 0.1, 0.05, 0.3, 0.5, 0.6, 0.4, 0.5, 0.7, 0.9]
PROBLEMS = ["a", "a", "a", "b", "b", "c", "c", "d", "d", "d", "d", "e", "f", "g"]

NUMBERS = st.floats(-1000, 1000).map(lambda value: round(value, 3))
SAMPLES = st.lists(NUMBERS, min_size=2, max_size=20)
CONFIDENCES = st.floats(0.001, 0.999)
TRIALS = st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
P_VALUES = st.lists(st.floats(0, 1) | st.just(math.nan), max_size=12)
METHODS: list[Adjustment] = ["bonferroni", "holm", "bh", "none"]
DRAWS = st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n)))


Refusal: TypeAlias = tuple[Callable[..., object], tuple[Any, ...], dict[str, Any], str]

REFUSALS: list[Refusal] = [
    (mean, ([],), {}, "values has the shape"),
    (mean, ([[1.0, 2.0]],), {}, "in one row"),
    (mean, ([1.0, math.nan],), {}, r"values\[1\] is nan: leave out what is missing"),
    (mean, ([math.inf],), {}, r"values\[0\] is inf"),
    (mean, ([1e100],), {}, "larger units"),
    (mean, ([10**400],), {}, "values can't be read"),
    (mean, (["good"],), {}, "values can't be read"),
    (mean, (3,), {}, "values can't be read"),
    (mean, ([1, 2],), {"clusters": ["a"]}, "1 labels for 2 values: give one for each"),
    (mean, ([1, 2],), {"clusters": ["a", None]}, "label every value"),
    (mean, ([1, 2],), {"clusters": ["a", math.nan]}, "label every value"),
    (mean, ([1, 2],), {"clusters": [["a"], ["b"]]}, "clusters can't be compared"),
    (mean, ([1, 2],), {"confidence": 1.0}, r"confidence is 1.0: give a part of one"),
    (mean, ([1, 2],), {"confidence": 0.0}, "confidence is 0.0"),
    (mean, ([1, 2],), {"confidence": 95}, "confidence is 95"),
    (mean, ([1, 2],), {"confidence": math.nan}, "confidence is nan"),
    (proportion, (3, 2), {}, "successes is 3 of n = 2"),
    (proportion, (0, 0), {}, "n is 0: give 1 or more"),
    (proportion, (-1, 2), {}, "successes is -1"),
    (proportion, (0.5, 2), {}, "successes is 0.5: give a whole number"),
    (proportion, (1, 2), {"confidence": 95}, "confidence is 95"),
    (paired_difference, ([1, 2], [1]), {}, "left has 2 values and right 1"),
    (paired_difference, ([], []), {}, "left has the shape"),
    (paired_difference, ([1], [math.nan]), {}, r"right\[0\] is nan"),
    (paired_difference, ([1, 2], [1, 2]), {"clusters": [1]}, "clusters has 1 labels"),
    (difference, ([1], []), {}, "right has the shape"),
    (difference, ([1, 2], [1, 2]), {"clusters_left": [1]}, "clusters_left has 1 labels"),
    (difference, ([1, 2], [1, 2]), {"clusters_right": [1]}, "clusters_right has 1 labels"),
    (difference, ([1, 2], [1, 2]), {"confidence": 2}, "confidence is 2"),
    (cohens_d, ([], [1]), {}, "left has the shape"),
    (hedges_g, ([1], [math.nan]), {}, r"right\[0\] is nan"),
    (cohens_dz, ([1], [1, 2]), {}, "give one of each for every pair"),
    (cliffs_delta, ([], [1]), {}, "left has the shape"),
    (cohens_h, (1.5, 0.5), {}, "left is 1.5: give a proportion"),
    (cohens_h, (0.5, math.nan), {}, "right is nan"),
    (adjust, ([0.5, 1.5],), {}, "give values from 0 to 1"),
    (adjust, ([-0.5],), {}, "give values from 0 to 1"),
    (adjust, ([0.5], "sidak"), {}, "method is 'sidak': use 'bonferroni', 'holm', 'bh' or 'none'"),
    (adjust, ([], "sidak"), {}, "method is 'sidak'"),
    (pass_at_k, (3, 1, 4), {}, "k is 4 and n only 3"),
    (pass_at_k, (3, 4, 1), {}, "c is 4 of n = 3"),
    (pass_at_k, (3, 1, 0), {}, "k is 0: give 1 or more"),
    (pass_at_k, (3, -1, 1), {}, "c is -1"),
    (pass_at_k, (3, 1.0, 1), {}, "c is 1.0: give a whole number"),
    (mean_pass_at_k, ([], 1), {}, "counts has the shape"),
    (mean_pass_at_k, ([(3, 1), (1, 1)], 2), {}, "k is 2 and n only 1"),
    (mean_pass_at_k, ([(3, 1)], 2), {"confidence": 2}, "confidence is 2"),
]


def robust_mean(values: list[float], labels: list[str], confidence: float) -> tuple[float, float, float]:
    """Give the standard error and the bounds of statsmodels' regression on a constant, with its own defaults."""
    groups = np.unique(labels, return_inverse=True)[1]
    model = MODELS.OLS(np.asarray(values), np.ones(len(values)))
    fit = model.fit(cov_type="cluster", cov_kwds={"groups": groups}, use_t=True)
    low, high = fit.conf_int(alpha=1 - confidence)[0]
    return float(fit.bse[0]), float(low), float(high)


def sample_with(*, center: float, deviation: float, size: int) -> list[float]:
    """Give a sample that has this very mean and standard deviation."""
    shape = np.arange(size) - (size - 1) / 2
    return [float(value) for value in center + shape / shape.std(ddof=1) * deviation]


def numbers_in(found: Comparison) -> Iterator[float]:
    """Give what n may not tell."""
    yield from (found.difference.low, found.difference.high, found.difference.se)
    yield from (found.statistic, found.p_value)


def test_a_mean_has_the_digits_that_nist_certifies() -> None:
    # NIST Statistical Reference Datasets, NumAcc3: 1001 values with the mean 1000000.2 and the deviation 0.1, exactly.
    found = mean([1000000.2] + [1000000.1, 1000000.3] * 500)
    assert found.value == pytest.approx(1000000.2, rel=1e-15)
    assert found.se * math.sqrt(1001) == pytest.approx(0.1, rel=1e-8)
    assert found.n == 1001


def test_a_mean_has_students_interval_as_r_gives_it() -> None:
    # R, t.test(extra ~ group, sleep, paired = TRUE): the interval of the differences.
    found = mean([laevo - dextro for laevo, dextro in zip(LAEVO, DEXTRO, strict=True)])
    assert (found.value, found.low, found.high) == pytest.approx((1.58, 0.7001142, 2.4598858), abs=5e-8)
    assert (found.n, found.confidence, found.method) == (10, 0.95, "t")


@given(SAMPLES, CONFIDENCES)
def test_a_mean_and_its_interval_are_those_of_statsmodels(values: list[float], confidence: float) -> None:
    assume(len(set(values)) > 1)
    theirs = WEIGHTED.DescrStatsW(values)
    low, high = theirs.tconfint_mean(alpha=1 - confidence)
    found = mean(values, confidence=confidence)
    expected = (theirs.mean, theirs.std_mean, low, high)
    assert (found.value, found.se, found.low, found.high) == pytest.approx(expected, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
def test_a_clustered_mean_is_statsmodels_regression_on_a_constant(confidence: float) -> None:
    found = mean(SCORES, clusters=PROBLEMS, confidence=confidence)
    expected = robust_mean(SCORES, PROBLEMS, confidence)
    assert (found.se, found.low, found.high) == pytest.approx(expected, rel=1e-12)
    assert (found.n, found.method) == (14, "clustered t")


@given(st.lists(st.tuples(NUMBERS, st.sampled_from("abcde")), min_size=2, max_size=20))
def test_any_clustered_mean_is_statsmodels_regression_on_a_constant(rows: list[tuple[float, str]]) -> None:
    values, labels = [value for value, _ in rows], [label for _, label in rows]
    assume(len(set(labels)) > 1)
    found = mean(values, clusters=labels)
    assert (found.se, found.low, found.high) == pytest.approx(robust_mean(values, labels, 0.95), rel=1e-9, abs=1e-9)


def test_a_clustered_standard_error_is_millers_with_the_correction_of_few_clusters() -> None:
    # Miller 2024, "Adding Error Bars to Evals", the clustered standard error: residuals multiplied within clusters.
    center = sum(SCORES) / len(SCORES)
    rows = list(zip(SCORES, PROBLEMS, strict=True))
    products = [(x - center) * (y - center) for (x, one), (y, two) in itertools.product(rows, rows) if one == two]
    uncorrected = math.sqrt(math.fsum(products)) / len(SCORES)
    assert mean(SCORES, clusters=PROBLEMS).se == pytest.approx(uncorrected * math.sqrt(7 / 6), rel=1e-12)


@given(SAMPLES)
def test_clusters_of_one_value_change_nothing(values: list[float]) -> None:
    plain, clustered = mean(values), mean(values, clusters=range(len(values)))
    assert clustered == replace(plain, method="clustered t")


@given(SAMPLES, st.randoms(use_true_random=False))
def test_neither_the_order_nor_the_names_of_clusters_matter(values: list[float], chance: Any) -> None:
    labels = [chance.choice("abc") for _ in values]
    order = chance.sample(range(len(values)), len(values))
    one = mean(values, clusters=labels)
    two = mean([values[index] for index in order], clusters=[(labels[index], 1) for index in order])
    assert (one.se, one.low, one.high) == pytest.approx((two.se, two.low, two.high), rel=1e-9, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_a_proportion_has_the_bounds_of_newcombes_table(successes: int, n: int, low: float, high: float) -> None:
    # Newcombe 1998, "Two-Sided Confidence Intervals for the Single Proportion", method 3 of the examples.
    found = proportion(successes, n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    assert (found.value, found.n, found.confidence, found.method) == (successes / n, n, 0.95, "Wilson")


@given(TRIALS, CONFIDENCES)
def test_a_proportion_is_that_of_statsmodels(trials: tuple[int, int], confidence: float) -> None:
    low, high = PROPORTIONS.proportion_confint(*trials, alpha=1 - confidence, method="wilson")
    found = proportion(*trials, confidence=confidence)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9, abs=1e-12)


@example((0, 20), 0.95)
@example((20, 20), 0.95)
@example((1, 3), math.ulp(0.5))
@given(TRIALS, st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_the_bounds_of_a_proportion_are_proportions_around_it(trials: tuple[int, int], confidence: float) -> None:
    found = proportion(*trials, confidence=confidence)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert (found.low == 0) >= (found.value == 0)
    assert (found.high == 1) >= (found.value == 1)


@given(TRIALS)
def test_failures_mirror_successes(trials: tuple[int, int]) -> None:
    successes, n = trials
    one, two = proportion(successes, n), proportion(n - successes, n)
    assert (one.low, one.high, one.se) == pytest.approx((1 - two.high, 1 - two.low, two.se), abs=1e-12)


def test_a_proportion_of_one_trial_has_bounds() -> None:
    found = proportion(1, 1)
    # Wilson 1927 with p = 1 and n = 1: the lower bound is 1 / (1 + z^2).
    assert (found.low, found.high) == pytest.approx((1 / (1 + 1.959963984540054**2), 1), rel=1e-12)
    assert found.se == 0


def test_the_standard_error_of_a_proportion_is_that_of_the_binomial() -> None:
    assert proportion(20, 100).se == pytest.approx(0.04)


def test_a_paired_difference_is_students() -> None:
    # Student 1908, the sleep of ten patients, with the digits of R, t.test(extra ~ group, sleep, paired = TRUE).
    found = paired_difference(LAEVO, DEXTRO)
    bounds = (found.difference.value, found.difference.low, found.difference.high)
    assert bounds == pytest.approx((1.58, 0.7001142, 2.4598858), abs=5e-8)
    assert found.statistic == pytest.approx(4.0621, abs=5e-5)
    assert found.p_value == pytest.approx(0.002833, abs=5e-7)
    assert (found.df, found.n, found.method) == (9, 10, "paired t")


def test_the_effect_of_a_paired_difference_is_corrected_for_few_pairs() -> None:
    found = paired_difference(LAEVO, DEXTRO)
    c4_of_nine = 0.9693  # Montgomery, appendix VI, see below
    assert found.effect == pytest.approx(4.0621277 / math.sqrt(10) * c4_of_nine * math.sqrt(8 / 9), rel=1e-4)
    assert found.effect_name == "d_z, Hedges-corrected"


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_a_clustered_paired_difference_is_the_clustered_mean_of_the_differences(confidence: float) -> None:
    differences = [one - two for one, two in zip(SCORES, OTHERS, strict=True)]
    found = paired_difference(SCORES, OTHERS, clusters=PROBLEMS, confidence=confidence)
    se, low, high = robust_mean(differences, PROBLEMS, confidence)
    assert (found.difference.se, found.difference.low, found.difference.high) == pytest.approx((se, low, high))
    statistic = float(np.mean(differences)) / se
    assert (found.statistic, found.p_value) == pytest.approx((statistic, 2 * stats.t.sf(statistic, 6)))
    assert (found.df, found.n, found.method) == (6, 14, "clustered paired t")
    assert found.effect == paired_difference(SCORES, OTHERS).effect


def test_a_difference_is_welchs() -> None:
    # R, t.test(extra ~ group, sleep).
    found = difference(DEXTRO, LAEVO)
    bounds = (found.difference.low, found.difference.high)
    assert bounds == pytest.approx((-3.3654832, 0.2054832), abs=5e-8)
    assert (found.statistic, found.df) == pytest.approx((-1.8608, 17.776), rel=5e-5)
    assert found.p_value == pytest.approx(0.07939, abs=5e-6)
    assert found.difference.value == pytest.approx(-1.58)
    assert (found.n, found.method, found.effect_name) == (20, "Welch t", "Hedges' g")
    assert found.effect == hedges_g(DEXTRO, LAEVO)


@given(SAMPLES, SAMPLES, CONFIDENCES)
def test_a_difference_is_that_of_statsmodels(left: list[float], right: list[float], confidence: float) -> None:
    assume(len(set(left)) > 1 < len(set(right)))
    theirs = WEIGHTED.CompareMeans.from_data(left, right)
    statistic, p_value, df = theirs.ttest_ind(usevar="unequal")
    found = difference(left, right, confidence=confidence)
    assert found.statistic == pytest.approx(statistic, rel=1e-8, abs=1e-9)
    assert (found.df, found.p_value) == pytest.approx((df, p_value), rel=1e-7)
    bounds = theirs.tconfint_diff(alpha=1 - confidence, usevar="unequal")
    assert (found.difference.low, found.difference.high) == pytest.approx(bounds, rel=1e-8, abs=1e-8)


def test_a_clustered_difference_has_the_sum_of_the_robust_variances() -> None:
    # A regression on the side has uncorrected variances that add up; with 7 clusters on each side CR1 is 7/6 for both.
    left, right = SCORES, [value / 2 for value in OTHERS]
    groups = np.unique([*PROBLEMS, *(f"other {each}" for each in PROBLEMS)], return_inverse=True)[1]
    sides = MODELS.add_constant(np.repeat([1.0, 0.0], 14))
    uncorrected: dict[str, Any] = {"groups": groups, "use_correction": False}
    fit = MODELS.OLS(np.array([*left, *right]), sides).fit(cov_type="cluster", cov_kwds=uncorrected, use_t=True)
    found = difference(left, right, clusters_left=PROBLEMS, clusters_right=PROBLEMS)
    assert found.difference.value == pytest.approx(fit.params[1])
    assert found.difference.se == pytest.approx(float(fit.bse[1]) * math.sqrt(7 / 6))
    assert found.method == "clustered Welch t"
    assert 6 < found.df < 12


def test_clusters_on_one_side_leave_the_other_as_it_is() -> None:
    found = difference(SCORES, OTHERS, clusters_right=PROBLEMS)
    one, two = mean(SCORES).se, robust_mean(OTHERS, PROBLEMS, 0.95)[0]
    df = (one**2 + two**2) ** 2 / (one**4 / 13 + two**4 / 6)  # Welch 1947 with the degrees of freedom of each side
    assert (found.difference.se, found.df) == pytest.approx((math.hypot(one, two), df))
    mirrored = difference(OTHERS, SCORES, clusters_left=PROBLEMS)
    assert (mirrored.difference.se, mirrored.df) == pytest.approx((found.difference.se, found.df))
    assert (found.method, mirrored.method) == ("clustered Welch t", "clustered Welch t")


@given(SAMPLES, SAMPLES)
def test_to_swap_the_sides_is_to_change_the_sign(left: list[float], right: list[float]) -> None:
    one, two = difference(left, right), difference(right, left)
    assert (one.statistic, one.effect) == pytest.approx((-two.statistic, -two.effect), nan_ok=True)
    assert (one.difference.low, one.p_value) == pytest.approx((-two.difference.high, two.p_value), nan_ok=True)
    assert cliffs_delta(left, right) == -cliffs_delta(right, left)


@given(SAMPLES, SAMPLES)
def test_an_interval_leaves_out_zero_when_the_p_value_is_small(left: list[float], right: list[float]) -> None:
    found = difference(left, right)
    assume(abs(found.p_value - 0.05) > 1e-9)
    assert (found.p_value < 0.05) == (not found.difference.low <= 0 <= found.difference.high)


def test_cohens_d_and_hedges_g_are_those_of_a_worked_example() -> None:
    # Borenstein et al. 2009, "Introduction to Meta-Analysis", chapter 4: d = 0.5970 and g = 0.5924.
    left = sample_with(center=103, deviation=5.5, size=50)
    right = sample_with(center=100, deviation=4.5, size=50)
    assert cohens_d(left, right) == pytest.approx(0.5970, abs=5e-5)
    assert hedges_g(left, right) == pytest.approx(0.5924, abs=5e-5)


@given(st.lists(NUMBERS, min_size=11, max_size=20), st.lists(NUMBERS, min_size=11, max_size=20))
def test_hedges_g_is_that_of_statsmodels(left: list[float], right: list[float]) -> None:
    left[0] += 1 if left[0] == left[1] else 0
    moments = (np.mean(left), np.std(left, ddof=1), len(left), np.mean(right), np.std(right, ddof=1), len(right))
    # Theirs has the approximation 1 - 3/(4m - 1) of the correction, which is off by less than 1e-4 from m = 20 on.
    assert hedges_g(left, right) == pytest.approx(META.effectsize_smd(*moments)[0], rel=1e-4, abs=1e-9)


@pytest.mark.parametrize(("degrees", "c4"), [(2, 0.7979), (3, 0.8862), (4, 0.9213), (5, 0.9400), (10, 0.9727)])
def test_the_correction_follows_from_the_constants_of_control_charts(degrees: int, c4: float) -> None:
    # Montgomery, "Introduction to Statistical Quality Control", appendix VI: c4(n) = sqrt(n / (n-1)) J(n).
    assert correction(degrees) == pytest.approx(c4 * math.sqrt((degrees - 1) / degrees), abs=5e-5)


@pytest.mark.parametrize("degrees", [2, 3, 7, 30])
def test_the_correction_takes_out_the_bias_of_dividing_by_a_deviation(degrees: int) -> None:
    # Why it is: an effect is biased by E[1 / s], where s^2 is a chi-squared over its degrees of freedom.
    bias, _ = integrate.quad(lambda x: math.sqrt(degrees / x) * float(stats.chi2.pdf(x, degrees)), 0, math.inf)
    assert correction(degrees) * bias == pytest.approx(1, rel=1e-6)


def test_the_correction_of_a_large_sample_is_as_exact_as_its_expansion() -> None:
    assert 1 - correction(10**8) == pytest.approx(0.75e-8, rel=1e-6)


def test_cohens_dz_is_the_mean_difference_in_deviations_of_the_differences() -> None:
    # Student 1908: the differences have the mean 1.58 and the deviation 1.17, which he divides by n.
    assert cohens_dz(LAEVO, DEXTRO) == pytest.approx(1.58 / (1.17 * math.sqrt(10 / 9)), rel=5e-3)
    assert cohens_dz(LAEVO, DEXTRO) == pytest.approx(4.0621277 / math.sqrt(10), rel=1e-7)


def test_cliffs_delta_is_that_of_a_worked_example() -> None:
    # Hogarty and Kromrey 1999, "Using SAS to Calculate Tests of Cliff's Delta"; R's effsize gives -0.25 for their data.
    treatment = [10, 10, 20, 20, 20, 30, 30, 30, 40, 50]
    assert cliffs_delta(treatment, [10, 20, 30, 40, 40, 50]) == -0.25


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=12),
    st.lists(st.integers(0, 5), min_size=1, max_size=12),
)
def test_cliffs_delta_counts_every_pair(left: list[int], right: list[int]) -> None:
    signs = [(one > two) - (one < two) for one, two in itertools.product(left, right)]
    assert cliffs_delta(left, right) == pytest.approx(sum(signs) / len(signs), abs=1e-15)
    u = stats.mannwhitneyu(left, right, method="asymptotic").statistic if len({*left, *right}) > 1 else None
    assert u is None or cliffs_delta(left, right) == pytest.approx(2 * float(u) / len(signs) - 1, abs=1e-12)


@pytest.mark.parametrize(("value", "phi"), [(0.05, 0.451), (0.25, 1.047), (0.4, 1.369), (0.5, 1.571), (1.0, 3.142)])
def test_cohens_h_is_that_of_cohens_table(value: float, phi: float) -> None:
    assert cohens_h(value, 0) == pytest.approx(phi, abs=5e-4)  # Cohen 1988, 6.2, the table of phi


@given(st.floats(0, 1), st.floats(0, 1))
def test_cohens_h_is_that_of_statsmodels(left: float, right: float) -> None:
    assert cohens_h(left, right) == pytest.approx(PROPORTIONS.proportion_effectsize(left, right), abs=1e-12)


@pytest.mark.parametrize(("method", "rejected"), [("none", 9), ("bonferroni", 3), ("holm", 3), ("bh", 4)])
def test_the_trial_of_benjamini_and_hochberg_has_their_rejections(method: Adjustment, rejected: int) -> None:
    assert sum(value <= 0.05 for value in adjust(THROMBOLYSIS, method)) == rejected


def test_holm_multiplies_by_what_is_left_and_keeps_the_order() -> None:
    # By hand, Holm 1979: 4 x 0.005, 3 x 0.01, 2 x 0.03, and 0.04, which may not be below the one before it.
    assert adjust([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@settings(max_examples=25)  # for "holm" statsmodels collects garbage every time, which takes longer than all the rest
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@pytest.mark.parametrize(("method", "name"), [("bonferroni", "bonferroni"), ("holm", "holm"), ("bh", "fdr_bh")])
def test_adjusted_p_values_are_those_of_statsmodels(method: Adjustment, name: str, p_values: list[float]) -> None:
    expected = MULTIPLE.multipletests(p_values, method=name)[1]
    assert adjust(p_values, method) == pytest.approx(list(expected), rel=1e-9, abs=1e-300)


@given(P_VALUES, st.sampled_from(METHODS))
def test_adjusting_keeps_the_order_and_never_lowers(p_values: list[float], method: Adjustment) -> None:
    adjusted = adjust(p_values, method)
    pairs = sorted((p, q) for p, q in zip(p_values, adjusted, strict=True) if not math.isnan(p))
    assert all(p <= q <= 1 for p, q in pairs)
    assert [q for _, q in pairs] == sorted(q for _, q in pairs)


@given(P_VALUES, st.sampled_from(METHODS))
def test_a_nan_stays_where_it_is_and_counts_as_no_comparison(p_values: list[float], method: Adjustment) -> None:
    adjusted = adjust(p_values, method)
    assert [math.isnan(value) for value in adjusted] == [math.isnan(value) for value in p_values]
    known = [value for value in p_values if not math.isnan(value)]
    assert [value for value in adjusted if not math.isnan(value)] == adjust(known, method)


def test_adjusting_leaves_what_it_was_given_alone() -> None:
    given_values = np.array([0.01, 0.04])
    assert adjust(given_values, "bonferroni") == [0.02, 0.08]
    assert given_values.tolist() == [0.01, 0.04]


@given(DRAWS)
def test_pass_at_k_is_the_part_of_all_draws_with_a_correct_sample(draw: tuple[int, int, int]) -> None:
    n, c, k = draw
    draws = list(itertools.combinations([True] * c + [False] * (n - c), k))
    assert pass_at_k(n, c, k) == sum(any(each) for each in draws) / len(draws)


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_is_the_hypergeometric_chance_of_any(draw: tuple[int, int, int]) -> None:
    n, c, k = draw
    assert pass_at_k(n, c, k) == pytest.approx(float(stats.hypergeom.sf(0, n, c, k)), rel=1e-9, abs=1e-12)
    assert pass_at_k(n, c, 1) == c / n


def test_pass_at_k_of_many_samples_does_not_overflow() -> None:
    assert pass_at_k(100_000, 1, 50_000) == 0.5
    assert pass_at_k(10_000, 5_000, 5_000) == 1
    assert pass_at_k(10**12, 1, 1) == 1e-12
    assert pass_at_k(10**12, 1, 10**11) == 0.1


def test_pass_at_k_has_no_bias() -> None:
    # Chen et al. 2021, appendix A: over binomial counts the mean is 1 - (1 - p)^k.
    expected = sum(float(stats.binom.pmf(c, 10, 0.3)) * pass_at_k(10, c, 4) for c in range(11))
    assert expected == pytest.approx(1 - 0.7**4)


def test_the_mean_of_pass_at_k_is_over_problems() -> None:
    found = mean_pass_at_k([(4, 1), (10, 5), (3, 3), (5, 0)], 2, confidence=0.9)
    # By hand: 1 - C(3,2)/C(4,2), 1 - C(5,2)/C(10,2), 1 and 0.
    assert found == mean([1 / 2, 35 / 45, 1, 0], confidence=0.9)
    assert found.n == 4


def test_one_value_tells_nothing_of_its_spread() -> None:
    found = mean([3.5])
    assert (found.value, found.n) == (3.5, 1)
    assert all(math.isnan(each) for each in (found.low, found.high, found.se))
    assert math.isnan(mean_pass_at_k([(5, 2)], 1).low)


@pytest.mark.parametrize(
    "found",
    [
        paired_difference([2.0], [1.0]),
        paired_difference([1.0], [1.0]),
        paired_difference([1, 2, 3], [3, 1, 1], clusters="aaa"),
        difference([2.0], [1.0, 3.0]),
        difference([1.0, 1.0], [1.0]),
        difference([2.0], [1.0]),
        difference([1, 2], [2, 5], clusters_left="aa"),
    ],
)
def test_too_little_for_a_comparison_has_its_difference_only(found: Comparison) -> None:
    assert all(math.isnan(each) for each in numbers_in(found))
    assert not math.isnan(found.difference.value)


def test_too_little_for_an_effect_has_none() -> None:
    assert math.isnan(cohens_d([1], [2]))
    assert math.isnan(hedges_g([1], [2, 3]))
    assert math.isnan(cohens_dz([1], [2]))
    assert math.isnan(paired_difference([1, 2], [0, 4]).effect)


@given(NUMBERS, st.integers(2, 30), st.sampled_from([None, "ab"]))
def test_the_interval_of_a_constant_has_no_width(value: float, count: int, labels: str | None) -> None:
    clusters = None if labels is None else [labels[index % 2] for index in range(count)]
    found = mean([value] * count, clusters=clusters)
    assert (found.value, found.low, found.high, found.se) == (value, value, value, 0)


@pytest.mark.parametrize("compare", [paired_difference, difference])
@pytest.mark.parametrize("value", [0.0, 0.1, -3e9])
def test_no_difference_at_all_has_a_p_value_of_one(compare: Callable[..., Comparison], value: float) -> None:
    found = compare([value] * 3, [value] * 3)
    assert (found.statistic, found.p_value, found.effect) == (0, 1, 0)
    assert (found.difference.low, found.difference.high) == (0, 0)


@pytest.mark.parametrize("compare", [paired_difference, difference])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_same_difference_always_has_a_p_value_of_zero(compare: Callable[..., Comparison], sign: int) -> None:
    found = compare([sign * 0.3] * 3, [sign * 0.1] * 3)
    assert (found.statistic, found.p_value, found.effect) == (sign * math.inf, 0, sign * math.inf)
    assert found.df == (2 if compare is paired_difference else 4)
    assert found.difference.low == found.difference.high == pytest.approx(sign * 0.2)


def test_rounding_errors_are_no_difference() -> None:
    sums, same = [0.1 + 0.2, 0.3 + 0.6, 0.7 + 0.1], [0.3, 0.9, 0.8]
    assert sums != same
    found = paired_difference(sums, same)
    assert (found.difference.value, found.statistic, found.p_value, found.effect) == (0, 0, 1, 0)
    found = difference([0.1 + 0.2] * 3, [0.3] * 3)
    assert (found.difference.value, found.statistic, found.p_value, found.effect) == (0, 0, 1, 0)


def test_rounding_errors_are_no_spread() -> None:
    found = paired_difference([0.4, 0.3, 1.1], [0.3, 0.2, 1.0])
    assert (found.statistic, found.p_value, found.effect) == (math.inf, 0, math.inf)
    assert found.difference.low == found.difference.high == pytest.approx(0.1)
    found = difference([0.1 + 0.2, 0.3, 0.3], [0.1, 0.1, 0.1])
    assert (found.statistic, found.p_value, found.effect) == (math.inf, 0, math.inf)


def test_a_difference_that_is_small_for_its_values_is_one_all_the_same() -> None:
    found = paired_difference([1e6 + 2e-6, 1e6 + 1e-6, 1e6 + 3e-6], [1e6] * 3)
    assert found.difference.value == pytest.approx(2e-6, rel=1e-3)
    assert found.statistic == pytest.approx(2 * math.sqrt(3), rel=1e-3)
    assert difference([1e9] * 3, [1e-7, 2e-7, 3e-7]).difference.se == pytest.approx(1e-7 / math.sqrt(3))


def test_one_side_without_spread_leaves_the_other_its_degrees_of_freedom() -> None:
    found = difference([1.0, 1.0, 1.0], [1.0, 2.0, 3.0, 6.0])
    assert found.df == pytest.approx(3)
    assert found.difference.se == pytest.approx(mean([1.0, 2.0, 3.0, 6.0]).se)


def test_tiny_and_huge_values_neither_vanish_nor_overflow() -> None:
    for unit in (1e-200, 1e-99, 1e99):
        found = difference([unit, 2 * unit, 4 * unit], [3 * unit, 5 * unit, 9 * unit])
        plain = difference([1, 2, 4], [3, 5, 9])
        expected = (plain.statistic, plain.df, plain.p_value, plain.effect)
        assert (found.statistic, found.df, found.p_value, found.effect) == pytest.approx(expected)


def test_arrays_and_iterators_are_samples_too() -> None:
    labels = np.array(PROBLEMS)
    assert mean(np.array(SCORES), clusters=labels) == mean(iter(SCORES), clusters=iter(PROBLEMS))
    assert mean([True, False, True]) == mean([1, 0, 1])
    whole: Any = np.int64
    assert proportion(whole(3), whole(4)) == proportion(3, 4)
    assert pass_at_k(whole(5), whole(2), whole(3)) == pass_at_k(5, 2, 3)


@pytest.mark.parametrize(
    ("ask", "given_values", "options", "message"),
    REFUSALS,
    ids=[f"{row[0].__name__}-{number}" for number, row in enumerate(REFUSALS)],
)
def test_what_can_not_be_computed_says_what_to_do(
    ask: Callable[..., object], given_values: tuple[Any, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message) as raised:
        ask(*given_values, **options)
    assert isinstance(raised.value, ConfigurationError)


def test_no_p_values_are_adjusted_to_none() -> None:
    assert [adjust([], method) for method in METHODS] == [[], [], [], []]
    assert math.isnan(adjust([math.nan], "bh")[0])


def test_an_estimate_does_not_change() -> None:
    found: Estimate = mean([1, 2, 3])
    with pytest.raises(AttributeError):
        found.value = 5  # type: ignore[misc]
