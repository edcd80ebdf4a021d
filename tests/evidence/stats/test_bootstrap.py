"""The bootstrap, against closed forms and against everything that it could draw."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mat.evidence.stats import bootstrap
from mat.evidence.stats.bootstrap import (
    COVERAGE,
    DRAWS,
    bootstrap_bounds,
    comparison,
    interquartile_mean,
    probability_of_improvement,
    stratified,
    stratified_improvement,
    stream,
)
from mat.evidence.stats.intervals import mean_interval, saving_percent
from tests.benchmarks.coverage import coverage


def test_bounds_are_the_quantiles_of_all_resamples():
    values = [1.0, 2.0, 4.0, 8.0]
    every = [np.mean(draw) for draw in itertools.product(values, repeat=4)]
    got = bootstrap_bounds(mean_interval(values), "a name")
    assert got == pytest.approx(np.quantile(every, [0.025, 0.975]), abs=0.3)
    assert min(values) <= got[0] < got[1] <= max(values)


def test_bounds_are_the_same_to_the_byte_and_depend_on_the_stream_alone():
    value = mean_interval([1.0, 2.5, 3.1, 4.4, 9.0])
    first = bootstrap_bounds(value, "C4", "digits")
    stream("another").random(1000)
    assert bootstrap_bounds(value, "C4", "digits") == first
    assert stream("C4", "digits").random() != stream("C4", "hmm").random()
    assert stream("fixed").integers(1000, size=4).tolist() == [195, 675, 247, 641]


def test_savings_are_resampled_on_their_own_scale():
    saved = saving_percent(pd.Series([1.0, 2.0, 3.0]), pd.Series([4.0, 4.0, 4.0]))
    low, high = bootstrap_bounds(saved, "x")
    assert (low, high) == pytest.approx((25.0, 75.0))  # the extreme resamples: three times one seed


def test_limits_cut_and_one_value_has_no_bounds():
    assert bootstrap_bounds(mean_interval([90.0, 130.0]).cut(0, 100), "x")[1] == 100
    assert np.isnan(bootstrap_bounds(mean_interval([1.0]), "x")).all()


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1, 2, 3, 4], 2.5), ([0, 1, 2, 3, 100], 2.0), ([7], 7.0), ([1, 2, 9], 4.0), (list(range(8)), 3.5)],
)
def test_interquartile_mean_by_hand(values, expected):
    assert interquartile_mean(np.array(values, dtype=float)) == pytest.approx(expected)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=30))
def test_interquartile_mean_is_the_quarter_trimmed_mean(values):
    got = interquartile_mean(np.array(values))
    assert got == pytest.approx(stats.trim_mean(values, 0.25), abs=1e-9)


@given(st.lists(st.tuples(st.floats(-100, 100), st.integers(1, 5)), min_size=1, max_size=12))
def test_interquartile_mean_of_repeated_values_is_that_of_all_of_them(pairs):
    values, repeats = zip(*pairs, strict=True)
    got = interquartile_mean(np.array(values), repeats)
    assert got == pytest.approx(interquartile_mean(np.repeat(values, repeats)), abs=1e-9)


def test_tasks_of_many_different_numbers_of_runs_take_no_more_memory_than_their_runs():
    """The least common multiple of 2 … 40 has 16 digits: nothing is repeated that often."""
    groups = {f"task{n}": np.full(n, float(n)) for n in range(2, 41)}
    middle = np.mean(range(12, 31))  # of 39 tasks that weigh alike, all but a quarter of N at each end
    got = stratified(groups, interquartile_mean, "x")
    assert got.mean == pytest.approx((19 * middle + 0.25 * 11 + 0.25 * 31) / 19.5)
    assert got.n == sum(range(2, 41))


@given(st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=3, max_size=3), min_size=2, max_size=5))
def test_counted_resamples_are_the_resamples_one_by_one(rows):
    matrix, draw = np.array(rows), stream("x")
    first, second = (draw.integers(size, size=(DRAWS, size)) for size in matrix.shape)
    each = [matrix[np.ix_(*places)].mean() for places in zip(first[:50], second[:50], strict=True)]
    draw = stream("x")
    counts = [bootstrap._counts(size, draw)[:50] for size in matrix.shape]
    assert ((counts[0] @ matrix) * counts[1]).sum(axis=1) / matrix.size == pytest.approx(each, abs=1e-12)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.lists(st.integers(0, 5), min_size=1, max_size=8))
def test_probability_of_improvement_is_mann_whitney(first, second):
    x, y = np.array(first, dtype=float), np.array(second, dtype=float)
    got = probability_of_improvement(comparison(x, y, True))
    assert got == pytest.approx(stats.mannwhitneyu(x, y).statistic / (len(x) * len(y)))
    assert got + probability_of_improvement(comparison(x, y, False)) == pytest.approx(1)


def test_what_was_never_reached_loses():
    wins = comparison([np.nan, 1.0], [2.0, np.nan], False)
    assert wins.tolist() == [[0.0, 0.5], [1.0, 1.0]]
    assert np.isnan(probability_of_improvement(np.empty((0, 3))))


def mean(values, repeats):
    return np.average(values, axis=-1, weights=repeats)


def test_strata_are_resampled_within_and_never_mixed():
    """Two tasks of constant values: whatever is drawn, the pooled mean is the same."""
    groups = {"a": np.full(3, 1.0), "b": np.full(5, 9.0)}
    got = stratified(groups, mean, "x")
    assert got[:4] == pytest.approx((5.0, 5.0, 5.0, 8))  # tasks weigh alike, whatever their runs
    spread = stratified({"a": np.array([0.0, 1.0]), "b": np.full(2, 9.0)}, mean, "x")
    assert (spread.low, spread.high) == pytest.approx((4.5, 5.0))


def test_tasks_weigh_alike_and_the_reference_is_resampled_too():
    """Nine runs at 9 and one at 1: the pooled mean is 5, not 8.2; a reference of 0.5 and 1.5 divides by 0.5 … 1.5."""
    got = stratified({"a": np.full(9, 9.0), "b": np.full(1, 1.0)}, mean, "x")
    assert (got.mean, got.low, got.high, got.n) == pytest.approx((5, 5, 5, 10))
    base = {"a": np.array([0.5, 1.5])}
    got = stratified({"a": np.full(3, 1.0)}, mean, "x", references=base)
    assert (got.mean, got.low, got.high) == pytest.approx((1, 1 / 1.5, 2))


def test_strata_do_not_depend_on_the_order_of_tasks():
    one, two = np.array([0.1, 0.5, 0.9]), np.array([3.0, 7.0])
    first = stratified({"a": one, "b": two}, interquartile_mean, "x")
    assert stratified({"b": two, "a": one}, interquartile_mean, "x") == first


def test_single_runs_and_nothing_have_no_bounds():
    assert np.isnan(stratified({"a": np.array([1.0])}, interquartile_mean, "x").low)
    assert stratified({"a": np.empty(0)}, interquartile_mean, "x").n == 0
    assert np.isnan(stratified_improvement({"a": np.array([[1.0]])}, "x").low)
    assert stratified_improvement({}, "x").n == 0


def test_improvement_over_tasks_weighs_tasks_alike():
    got = stratified_improvement({"a": np.ones((3, 3)), "b": np.zeros((9, 3))}, "x")
    assert (got.mean, got.low, got.high, got.n) == (0.5, 0.5, 0.5, 12)


def test_improvement_resamples_the_runs_of_the_method():
    """One of four runs wins always: the mean of a resample is binomial(4, 1/4)/4, whose 97.5 % quantile is 3/4."""
    wins = np.array([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    got = stratified_improvement({"a": wins}, "x")
    assert (got.mean, got.low, got.high) == (0.25, 0.0, 0.75)
    got = stratified_improvement({"a": wins.T}, "x")  # and of those of the reference
    assert (got.mean, got.low, got.high) == (0.25, 0.0, 0.75)


@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize("shape", sorted(COVERAGE))
def test_the_stated_coverage_is_what_a_simulation_finds(shape, n):
    """Percentile bootstrap over 3 to 5 seeds holds far less than 95 %: why t intervals decide."""
    t, percentile = coverage(n, 3000, shape)
    assert (t, percentile) == pytest.approx(COVERAGE[shape][n], abs=0.02)
    assert percentile < t - 0.05
