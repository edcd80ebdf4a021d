import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mat.evidence.stats.intervals import (
    LINKS,
    Interval,
    geometric_interval,
    interval_of,
    known_interval,
    mean_interval,
    paired_difference,
    paired_ratio,
    saving_percent,
)


def test_mean_interval_agrees_with_scipy():
    values = [1.0, 2.5, 2.0, 4.0]
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    got = mean_interval(values)
    assert (got.mean, got.n) == (pytest.approx(2.375), 4)
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high))


def test_mean_interval_by_hand():
    # n = 3, s = 1: half width = 4.302653 / sqrt(3), Student's t at 0.975 with 2 degrees of freedom
    got = mean_interval([1.0, 2.0, 3.0])
    assert got.high - got.mean == pytest.approx(4.302653 / np.sqrt(3), rel=1e-6)


def test_bounds_are_cut_to_what_is_possible_and_the_mean_is_not():
    got = mean_interval([99.0, 97.0, 99.9]).cut(0, 100)
    assert got.high == 100
    assert got.low == mean_interval([99.0, 97.0, 99.9]).low
    assert got.mean == pytest.approx(98.633, rel=1e-4)
    assert np.isnan(mean_interval([3.0]).cut(0, 1).low)


@pytest.mark.parametrize(("values", "n"), [([], 0), ([3.0], 1), ([3.0, np.nan], 1), ([np.inf, 3.0], 1)])
def test_fewer_than_two_values_have_no_interval(values, n):
    got = mean_interval(values)
    assert got.n == n
    assert np.isnan(got.low)
    assert np.isnan(got.high)


def test_difference_is_paired_by_seed_and_leaves_out_the_unpaired():
    first = pd.Series({0: 1.0, 1: 2.0, 2: 4.0, 7: 100.0})
    second = pd.Series({2: 3.0, 1: 1.5, 0: 0.0, 3: np.nan})
    expected = stats.ttest_rel([1.0, 2.0, 4.0], [0.0, 1.5, 3.0]).confidence_interval(0.95)
    got = paired_difference(first, second)
    assert (got.low, got.high, got.n) == (pytest.approx(expected.low), pytest.approx(expected.high), 3)


def test_pairing_removes_what_seeds_share():
    base = pd.Series({0: 1.0, 1: 10.0, 2: 100.0})
    got = paired_difference(base + 1, base)
    assert (got.mean, got.low, got.high) == pytest.approx((1.0, 1.0, 1.0))


def test_ratio_is_geometric():
    got = paired_ratio(pd.Series({0: 1.0, 1: 8.0}), pd.Series({0: 2.0, 1: 4.0}))
    half = stats.t.ppf(0.975, 1) * np.log(2)  # log ratios ± ln 2: standard deviation √2·ln 2, over √2
    assert got.mean == pytest.approx(1.0)
    assert (np.log(got.low), np.log(got.high)) == pytest.approx((-half, half))


def test_saving_turns_the_ratio_round():
    got = saving_percent(pd.Series({0: 5.0, 1: 6.0}), pd.Series({0: 10.0, 1: 10.0}))
    ratio = paired_ratio(pd.Series({0: 5.0, 1: 6.0}), pd.Series({0: 10.0, 1: 10.0}))
    assert got.mean == pytest.approx(100 * (1 - np.sqrt(0.3)))
    assert (got.low, got.high) == pytest.approx((100 * (1 - ratio.high), 100 * (1 - ratio.low)))
    assert got.low < got.mean < got.high


def test_values_that_are_not_positive_have_no_log_ratio():
    assert paired_ratio(pd.Series({0: 0.0, 1: 2.0}), pd.Series({0: 1.0, 1: 1.0})).n == 1


VALUES = st.lists(st.floats(0.1, 90, allow_nan=False), min_size=2, max_size=8)


@given(VALUES, st.sampled_from(sorted(LINKS)), st.floats(0.5, 0.999))
def test_an_interval_made_anew_is_the_one_of_its_values(values, link, confidence):
    got, expected = interval_of(values, link).at(confidence), interval_of(values, link, confidence)
    assert got[:4] == pytest.approx(expected[:4])
    assert got.values == tuple(values)
    tolerance = 1e-9 * (1 + abs(got.mean))
    assert got.low <= got.mean + tolerance
    assert got.mean <= got.high + tolerance


@given(VALUES, st.sampled_from(sorted(LINKS)))
def test_more_confidence_is_wider_and_more_seeds_are_narrower(values, link):
    value = interval_of(values, link)
    wide, narrow = value.at(0.99), value.at(n=2 * value.n)
    slack = 1e-9 * (1 + abs(value.mean))
    assert wide.low <= value.low + slack <= narrow.low + 2 * slack
    assert wide.high >= value.high - slack >= narrow.high - 2 * slack
    assert narrow.n == 2 * value.n


def test_limits_hold_at_every_confidence_and_scale_with_the_value():
    share = mean_interval([0.97, 0.99, 0.999]).cut(0, 1)
    assert share.high == 1
    assert share.scaled(100).at(0.999).high == 100
    assert share.scaled(100).at(0.5).high == pytest.approx(100 * mean_interval(share.values, 0.5).high)


def test_a_ratio_keeps_its_spread_when_it_is_scaled():
    ratio = geometric_interval([2.0, 8.0])
    assert ratio.scaled(10).at(0.9).high == pytest.approx(10 * geometric_interval([2.0, 8.0], 0.9).high)


def test_an_interval_from_a_table_knows_its_spread_though_a_bound_was_cut():
    values = [0.9, 0.99, 0.8]
    whole = mean_interval(values)
    cut = whole.cut(-1, 1)
    assert cut.high < whole.high
    got = known_interval(cut.mean, cut.low, cut.high, 3, (-1, 1))
    assert got.deviation == pytest.approx(np.std(values, ddof=1))
    assert got.at(0.8).low == pytest.approx(mean_interval(values, 0.8).low)
    assert np.isnan(known_interval(0.5, np.nan, np.nan, 1, (-1, 1)).deviation)


def test_where_both_bounds_were_cut_the_spread_is_the_stored_one_or_none():
    whole = mean_interval([-0.9, 0.9, 0.1])
    cut = whole.cut(-1, 1)
    assert (cut.low, cut.high) == (-1, 1)
    assert np.isnan(known_interval(cut.mean, cut.low, cut.high, 3, (-1, 1)).deviation)
    assert known_interval(cut.mean, cut.low, cut.high, 3, (-1, 1), cut.deviation).deviation == whole.deviation


def test_without_a_spread_there_are_no_bounds_at_any_confidence():
    assert np.isnan(Interval(1.0, 0.0, 2.0, 3).at(0.5).low)
    assert np.isnan(mean_interval([3.0]).at(n=5).low)
