"""Every branch of every decision rule, on intervals written by hand."""

import math

import pytest

from mat.evidence.claims.rule import Effect
from mat.evidence.claims.rules import (
    active_share,
    beats_baselines,
    beyond_frontier,
    bias_of_detach,
    dose_response,
    equal_compute,
    gains,
    probe_cost,
    quality,
    saving,
    selection,
    selection_controls,
    spread_and_rank,
    time_saved,
)
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, NOT_TESTED, PARTLY, SUPPORTED, combine
from mat.evidence.stats.intervals import Interval, mean_interval

UNKNOWN = Interval(1.0, math.nan, math.nan, 1)


def between(low, high):
    return Interval((low + high) / 2, low, high, 3)


@pytest.mark.parametrize(
    ("spread", "rho", "verdict"),
    [
        (between(3, 9), between(-0.9, -0.5), SUPPORTED),
        (between(3, 9), between(0.55, 0.9), SUPPORTED),
        (between(3, 9), between(-0.1, 0.1), PARTLY),
        (between(3, 9), between(-1.2, 0.1), PARTLY),  # strong on average, but 0 is not excluded
        (between(1, 2), between(-0.9, -0.6), PARTLY),
        (between(1, 2), between(-0.4, -0.1), NOT_SUPPORTED),
        (between(1, 9), between(-0.4, -0.1), INCONCLUSIVE),
        (between(1, 2), between(-0.9, 0.4), INCONCLUSIVE),
        (UNKNOWN, between(-0.9, -0.6), INCONCLUSIVE),
    ],
)
def test_spread_and_rank(spread, rho, verdict):
    thresholds = {"min_spread": 3, "min_abs_correlation": 0.5}
    assert spread_and_rank.wide_and_joint(spread, rho, thresholds) == verdict


@pytest.mark.parametrize(
    ("value", "reached", "verdict"),
    [
        (between(26.4, 40), 1, SUPPORTED),
        (between(26.4, 40), 0.5, SUPPORTED),
        (between(26.4, 40), 0.4, PARTLY),
        (between(26.4, 40), 0, NOT_SUPPORTED),  # stalls early: cheap, and never as good
        (between(26.3, 40), 1, PARTLY),
        (between(0.1, 10), 1, PARTLY),
        (between(0.1, 10), 0, NOT_SUPPORTED),
        (between(-5, 26.3), 1, NOT_SUPPORTED),
        (between(-5, 30), 1, INCONCLUSIVE),
        (UNKNOWN, 1, INCONCLUSIVE),
    ],
)
def test_saving(value, reached, verdict):
    thresholds = {"reported_low_percent": 26.4, "min_reached_share": 0.5}
    assert saving.saves(value, reached, thresholds) == verdict


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [
        (between(-0.5, 0.1), SUPPORTED),
        (between(-2, -0.6), NOT_SUPPORTED),
        (between(-2, 0), INCONCLUSIVE),
        (UNKNOWN, INCONCLUSIVE),
    ],
)
def test_not_worse(gain, verdict):
    assert quality.not_worse(gain, 0.5) == verdict


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ([between(0.1, 1), between(0.2, 1)], SUPPORTED),
        ([between(0.1, 1), between(-1, 0)], NOT_SUPPORTED),
        ([between(0.1, 1), between(-1, 1)], PARTLY),
        ([between(-1, 1), between(-1, 1)], INCONCLUSIVE),
        ([between(0.1, 1), UNKNOWN], INCONCLUSIVE),
    ],
)
def test_better_than_all(gains, verdict):
    assert beats_baselines.better_than_all(gains) == verdict


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (between(24, 44), SUPPORTED),
        (between(23, 30), PARTLY),
        (between(45, 60), NOT_SUPPORTED),
        (between(5, 23), NOT_SUPPORTED),
        (UNKNOWN, INCONCLUSIVE),
    ],
)
def test_within(value, verdict):
    assert active_share.within(value, {"min_percent": 24, "max_percent": 44}) == verdict


@pytest.mark.parametrize(
    ("share", "verdict"),
    [
        (between(1, 5), SUPPORTED),
        (between(1, 20), PARTLY),
        (between(21, 30), NOT_SUPPORTED),
        (between(10, 30), INCONCLUSIVE),
        (UNKNOWN, INCONCLUSIVE),
    ],
)
def test_cheap(share, verdict):
    assert probe_cost.cheap(share, {"cheap_percent": 5, "bearable_percent": 20}) == verdict


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [
        (between(0.01, 3), SUPPORTED),
        (between(-3, 1), NOT_SUPPORTED),
        (between(-3, 1.1), INCONCLUSIVE),
        (UNKNOWN, INCONCLUSIVE),
    ],
)
def test_advantage(gain, verdict):
    assert selection.advantage(gain, {"relevant_percent": 1}) == verdict


@pytest.mark.parametrize(
    ("exact", "extra", "verdict"),
    [
        (between(5, 9), between(-2, 5), SUPPORTED),
        (between(5, 9), between(1, 9), PARTLY),
        (between(5, 9), between(-1, 9), INCONCLUSIVE),
        (between(-5, 0), between(1, 9), NOT_SUPPORTED),
        (between(-5, 1), between(1, 9), INCONCLUSIVE),
        (UNKNOWN, between(1, 9), INCONCLUSIVE),
    ],
)
def test_saving_without_bias(exact, extra, verdict):
    thresholds = {"extra_percent": 5, "min_reached_share": 0.5}
    assert bias_of_detach.saving_without_bias(exact, extra, 1, thresholds) == verdict
    assert bias_of_detach.saving_without_bias(exact, extra, 0.3, thresholds) == INCONCLUSIVE


WON, LOST, OPEN = between(0.1, 3), between(-3, 0.9), between(-3, 3)


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ({"random_exact": WON, "shuffled": WON, "depth_low": WON}, SUPPORTED),
        ({"random_exact": between(0.1, 0.9)}, SUPPORTED),  # small, but there
        ({"random_exact": LOST, "shuffled": WON}, NOT_SUPPORTED),
        ({"random_exact": WON, "depth_low": LOST}, PARTLY),  # depth does as well, chance does not
        ({"random_exact": WON, "depth_low": between(-3, -0.1)}, INCONCLUSIVE),  # depth is better
        ({"random_exact": WON, "shuffled": OPEN}, PARTLY),
        ({"random_exact": OPEN, "depth_low": LOST}, INCONCLUSIVE),
        ({"random_exact": OPEN, "depth_low": WON}, INCONCLUSIVE),  # beats none that decides
        ({"depth_low": WON}, INCONCLUSIVE),
        ({"random_exact": OPEN}, INCONCLUSIVE),
        ({"random_exact": WON, "shuffled": UNKNOWN}, INCONCLUSIVE),
        ({}, INCONCLUSIVE),
    ],
)
def test_better_selection(gains, verdict):
    decisive = ["random_exact", "random_once", "shuffled"]
    assert selection_controls.better_selection(gains, decisive, {"relevant_percent": 1}) == verdict


@pytest.mark.parametrize(
    ("flop", "seconds", "verdict"),
    [
        (between(30, 50), between(10, 40), SUPPORTED),
        (between(30, 50), between(10, 20), PARTLY),  # 15 of 40
        (between(30, 50), between(-5, 10), NOT_SUPPORTED),
        (between(30, 50), between(1, 10), NOT_SUPPORTED),  # some, but half of it is excluded
        (between(30, 50), between(-5, 30), INCONCLUSIVE),
        (between(-1, 50), between(10, 40), INCONCLUSIVE),  # nothing that could survive
        (between(-9, -1), between(-40, -10), INCONCLUSIVE),
        (between(30, 50), UNKNOWN, INCONCLUSIVE),
    ],
)
def test_survives_as_time(flop, seconds, verdict):
    assert time_saved.survives_as_time(flop, seconds, {"kept_share": 0.5}) == verdict


@pytest.mark.parametrize(
    ("saved", "kept", "verdict"),
    [
        (SUPPORTED, SUPPORTED, SUPPORTED),
        (PARTLY, SUPPORTED, SUPPORTED),
        (PARTLY, INCONCLUSIVE, INCONCLUSIVE),
        (INCONCLUSIVE, SUPPORTED, INCONCLUSIVE),
        (SUPPORTED, NOT_SUPPORTED, NOT_SUPPORTED),
        (NOT_SUPPORTED, INCONCLUSIVE, NOT_SUPPORTED),
        (SUPPORTED, NOT_TESTED, NOT_TESTED),
    ],
)
def test_saves_and_keeps(saved, kept, verdict):
    assert gains.saves_and_keeps(saved, kept) == verdict


@pytest.mark.parametrize(
    ("saved", "kept", "refuted", "verdict"),
    [
        (PARTLY, SUPPORTED, False, SUPPORTED),
        (NOT_SUPPORTED, SUPPORTED, False, INCONCLUSIVE),  # less than reported, but perhaps some
        (NOT_SUPPORTED, SUPPORTED, True, NOT_SUPPORTED),
        (NOT_SUPPORTED, NOT_SUPPORTED, False, NOT_SUPPORTED),
        (INCONCLUSIVE, INCONCLUSIVE, False, INCONCLUSIVE),
    ],
)
def test_gains_at_all(saved, kept, refuted, verdict):
    assert gains.gains_at_all(saved, kept, refuted) == verdict


@pytest.mark.parametrize(
    ("value", "reached", "none"),
    [(between(-5, 0), 1, True), (between(-5, 1), 1, False), (between(5, 9), 0, True), (UNKNOWN, 1, False)],
)
def test_no_gain(value, reached, none):
    assert gains.no_gain(value, reached) == none


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ([SUPPORTED, SUPPORTED], SUPPORTED),
        ([NOT_SUPPORTED, NOT_SUPPORTED], NOT_SUPPORTED),
        ([SUPPORTED, NOT_SUPPORTED], PARTLY),
        ([SUPPORTED, PARTLY], PARTLY),
        ([SUPPORTED, INCONCLUSIVE], INCONCLUSIVE),
        ([SUPPORTED, NOT_TESTED], SUPPORTED),
        ([NOT_TESTED], NOT_TESTED),
        ([], NOT_TESTED),
    ],
)
def test_combine(found, verdict):
    assert combine(found, mixed=PARTLY, any_inconclusive=INCONCLUSIVE) == verdict


ABOVE, BELOW, SMALL, WIDE = between(0.1, 3), between(-3, -0.1), between(-3, 0.9), between(-3, 3)


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ([ABOVE, ABOVE], SUPPORTED),
        ([ABOVE, WIDE], PARTLY),
        ([ABOVE, SMALL], PARTLY),
        ([ABOVE, BELOW], INCONCLUSIVE),  # better in one and worse in the other
        ([SMALL, BELOW], NOT_SUPPORTED),
        ([SMALL, WIDE], INCONCLUSIVE),
        ([ABOVE, UNKNOWN], INCONCLUSIVE),
    ],
)
def test_better_at_equal_compute(gains, verdict):
    assert equal_compute.better(gains, 1) == verdict


@pytest.mark.parametrize(
    ("verdict", "spent", "found"),
    [
        *((verdict, 100.0, verdict) for verdict in (SUPPORTED, PARTLY, NOT_SUPPORTED)),
        *((verdict, 105.5, INCONCLUSIVE) for verdict in (SUPPORTED, NOT_SUPPORTED)),
        *((verdict, math.nan, INCONCLUSIVE) for verdict in (SUPPORTED, NOT_SUPPORTED)),
        (SUPPORTED, 94.5, INCONCLUSIVE),
        (NOT_SUPPORTED, 94.5, NOT_SUPPORTED),  # it was held back, and was as good
    ],
)
def test_what_has_spent_less_can_only_refute_and_what_has_spent_more_nothing(verdict, spent, found):
    shares = [Effect("compute", Interval(each), "%", decides=False) for each in (100.0, spent)]
    assert equal_compute.alike(lambda _: verdict, shares, {"compute_tolerance_percent": 5})([]) == found


def test_one_point_beyond_the_frontier_is_asked_for_the_level_of_all():
    """Of n = 3: the t interval of (1, 2, 3) at 95 % is 2 ± 2.48, of (1.5, 2, 2.5) 2 ± 1.24 and at 98.75 % 2 ± 2.55."""
    clear, open_ = mean_interval([1.9, 2, 2.1]), mean_interval([1, 2, 3])
    near, far = mean_interval([1.5, 2, 2.5]), mean_interval([-2.1, -2, -1.9])
    assert near.low > 0 > near.at(0.9875).low
    assert beyond_frontier.beyond([near], 1) == beyond_frontier.beyond([clear, open_, far, far], 1) == SUPPORTED
    assert beyond_frontier.beyond([near, far, far, far], 1) == INCONCLUSIVE
    assert beyond_frontier.beyond([far, far], 1) == NOT_SUPPORTED
    assert beyond_frontier.beyond([far, open_], 1) == beyond_frontier.beyond([far, UNKNOWN], 1) == INCONCLUSIVE
    assert beyond_frontier.beyond([clear.at(0.9999)], 1) == INCONCLUSIVE, "asked again, it is asked at that confidence"


@pytest.mark.parametrize(
    ("upper", "lower", "verdict"),
    [
        (ABOVE, ABOVE, SUPPORTED),
        (between(0.1, 0.9), ABOVE, SUPPORTED),
        (between(0.1, 0.9), between(0.1, 0.9), PARTLY),  # ordered, by less than matters
        (BELOW, ABOVE, NOT_SUPPORTED),  # shuffled is better than the largest
        (ABOVE, BELOW, NOT_SUPPORTED),
        (SMALL, SMALL, NOT_SUPPORTED),  # the lines overlap
        (SMALL, between(0.1, 0.9), NOT_SUPPORTED),
        (SMALL, ABOVE, PARTLY),  # the smallest are bad, the largest are not good
        (WIDE, ABOVE, INCONCLUSIVE),
        (WIDE, SMALL, INCONCLUSIVE),
        (ABOVE, UNKNOWN, INCONCLUSIVE),
    ],
)
def test_dose_and_response(upper, lower, verdict):
    assert dose_response.ordered(upper, lower, between(1.1, 9), 1) == verdict
    assert dose_response.ordered(upper, lower, between(0.9, 9), 1) == INCONCLUSIVE, "so few lose nothing: vacuous"
