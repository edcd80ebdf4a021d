"""Every branch of every decision rule, on intervals written by hand."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mat.evidence.claims.judge import chance, corrected
from mat.evidence.claims.rule import Effect, Outcome
from mat.evidence.claims.rules import (
    active_share,
    beats_baselines,
    beyond_frontier,
    beyond_structure,
    bias_of_detach,
    default_estimator,
    dose_response,
    equal_compute,
    gains,
    generalisation,
    harm,
    probe_cost,
    quality,
    quality_in_range,
    rankings,
    reached_share,
    saving,
    selection,
    selection_controls,
    selection_in_range,
    source_of_saving,
    spread_and_rank,
    time_saved,
    trainability,
)
from mat.evidence.claims.verdict import INCONCLUSIVE, INVALID, NOT_SUPPORTED, NOT_TESTED, PARTLY, SUPPORTED, combine
from mat.evidence.stats.intervals import Interval, mean_interval
from mat.evidence.stats.multiplicity import LEVEL, SMALLEST

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
        ([SUPPORTED, INVALID], SUPPORTED),
        ([NOT_TESTED, INVALID], INVALID),
        ([NOT_TESTED], NOT_TESTED),
        ([], NOT_TESTED),
    ],
)
def test_combine(found, verdict):
    assert combine(found, mixed=PARTLY, any_inconclusive=INCONCLUSIVE) == verdict


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (between(24, 44), SUPPORTED),
        (between(45, 60), NOT_SUPPORTED),
        (between(23, 30), INCONCLUSIVE),  # C7 calls it partly
        (UNKNOWN, INCONCLUSIVE),
    ],
)
def test_inside(value, verdict):
    assert reached_share.inside(value, {"min_percent": 24, "max_percent": 44}) == verdict


FAILS, KEEPS = between(-9, -2), between(-0.9, 0.9)  # of a selection known to be bad


@pytest.mark.parametrize(
    ("gain", "bad", "verdict"),
    [
        (between(-0.5, 2), [FAILS], SUPPORTED),
        (between(-0.5, 2), [KEEPS, FAILS], SUPPORTED),
        (between(-9, -2), [KEEPS], NOT_SUPPORTED),
        (between(-2, 0), [FAILS], INCONCLUSIVE),
        (between(-0.5, 2), [KEEPS], INCONCLUSIVE),  # vacuous: even a bad selection keeps it
        (between(-0.5, 2), [UNKNOWN], INCONCLUSIVE),
    ],
)
def test_no_loss(gain, bad, verdict):
    assert quality_in_range.no_loss(gain, bad, {"range_percent": 1}) == verdict


@pytest.mark.parametrize(
    ("gains", "losses", "verdict"),
    [
        ([between(1, 3), between(0.5, 3)], [between(2, 9)], SUPPORTED),
        ([between(1, 3), between(-3, 0.9)], [between(2, 9)], NOT_SUPPORTED),
        ([between(1, 3), between(-3, 3)], [between(2, 9)], PARTLY),
        ([between(0.1, 0.5)], [between(2, 9)], PARTLY),  # shown, and too small to matter
        ([between(-3, 3)], [between(2, 9)], INCONCLUSIVE),
        ([between(1, 3)], [between(-1, 0.9)], INCONCLUSIVE),  # vacuous: it does not matter what is selected
        ([between(-3, 0.9)], [between(-1, 0.9), UNKNOWN], INCONCLUSIVE),
        ([UNKNOWN], [between(2, 9)], INCONCLUSIVE),
        ([], [between(2, 9)], INCONCLUSIVE),
    ],
)
def test_matters(gains, losses, verdict):
    assert selection_in_range.matters(gains, losses, {"relevant_percent": 1}) == verdict


@pytest.mark.parametrize(
    ("exact", "biased", "extra", "verdict"),
    [
        (between(5, 9), between(5, 12), between(-2, 5), SUPPORTED),
        (between(5, 9), between(9, 20), between(1, 9), PARTLY),
        (between(5, 9), between(5, 20), between(-1, 9), INCONCLUSIVE),
        (between(-5, 0), between(5, 9), between(1, 9), NOT_SUPPORTED),
        (between(-5, 0), between(-5, 0), between(-1, 1), INCONCLUSIVE),  # nothing was saved
        (between(-5, 1), between(5, 9), between(1, 9), INCONCLUSIVE),
        (between(5, 9), UNKNOWN, UNKNOWN, INCONCLUSIVE),
    ],
)
def test_from_fewer_updates(exact, biased, extra, verdict):
    assert source_of_saving.from_fewer_updates(exact, biased, extra, {"extra_percent": 5}) == verdict


HARM, HELP, NEITHER = between(1.5, 4), between(-4, -1.5), between(-0.5, 0.5)


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([HARM, HELP, HELP], SUPPORTED),  # bottom harms, top is better, training all helps
        ([HARM, NEITHER, HELP], PARTLY),  # training harms, small λ_max no more than large
        ([HELP, HELP, HELP], NOT_SUPPORTED),  # it helps less than top: no harm
        ([NEITHER, HELP, HELP], NOT_SUPPORTED),
        ([between(-1, 2), HELP, HELP], INCONCLUSIVE),
        ([HARM, HELP, NEITHER], INCONCLUSIVE),  # vacuous: training all is not shown to do anything
        ([HARM, HELP, UNKNOWN], INCONCLUSIVE),
        ([HARM, NEITHER, HARM, HARM, HELP], SUPPORTED),  # memorises more than top
        ([NEITHER, HARM, HARM, HARM, HELP], PARTLY),  # memorises more, and yet no harm
        ([HELP, HELP, HARM, HARM, NEITHER], NOT_SUPPORTED),
        ([HELP, HELP, HARM, HARM, between(-2, 2)], INCONCLUSIVE),
        ([HARM, HELP, HARM, NEITHER, HELP], INCONCLUSIVE),  # nothing is memorised by training all
        ([HARM, HELP, NEITHER, HARM, HELP], INCONCLUSIVE),
    ],
)
def test_harmful(values, verdict):
    assert harm.harmful(values, {"relevant_percent": 1, "relevant_points": 1}) == verdict


# every rule's decision on a list of intervals, and how many it takes; thresholds that values of about 1 lie around
ONE, TWO = dict.fromkeys(("relevant_percent", "relevant_points", "extra_percent", "min_reached_share"), 0.5), {
    "reported_low_percent": 1, "min_reached_share": 0.5, "cheap_percent": 0.5, "bearable_percent": 1, "kept_share": 0.5,
    "min_percent": -1, "max_percent": 1, "survive_tau": 1, "lost_tau": 0.5, "reach_tau": 0.5, "min_spread": 1,
    "min_abs_correlation": 0.5, "min_correlation": 0.5, "range_percent": 0.5,
}  # fmt: skip
DECISIONS = {
    "C1": (lambda v: spread_and_rank.wide_and_joint(*v, TWO), 2),
    "C2": (lambda v: trainability.goes_with(*v, TWO), 2),
    "C3": (lambda v: generalisation.harms(*v, ONE), 3),
    "C3b": (lambda v: harm.harmful(v, ONE), 3),
    "C3b noisy": (lambda v: harm.harmful(v, ONE), 5),
    "C4": (lambda v: saving.saves(*v, 1, TWO), 1),
    "C5": (lambda v: quality.not_worse(*v, 0.5), 1),
    "C5b": (lambda v: quality_in_range.no_loss(v[0], v[1:], TWO), 3),
    "C6": (beats_baselines.better_than_all, 2),
    "C7": (lambda v: active_share.within(*v, TWO), 1),
    "C7b": (lambda v: reached_share.inside(*v, TWO), 1),
    "C8": (lambda v: probe_cost.cheap(*v, TWO), 1),
    "X1": (lambda v: selection.advantage(*v, ONE), 1),
    "X1b": (lambda v: selection_controls.better_selection({"a": v[0], "b": v[1]}, ["a"], ONE), 2),
    "X1c": (lambda v: selection_in_range.matters(v[:2], v[2:], ONE), 4),
    "X2": (lambda v: time_saved.survives_as_time(*v, TWO), 2),
    "X3": (lambda v: bias_of_detach.saving_without_bias(*v, 1, ONE), 2),
    "X3b": (lambda v: source_of_saving.from_fewer_updates(*v, ONE), 3),
    "X6": (lambda v: rankings.survives(v, TWO), 3),
    "X6b": (lambda v: default_estimator.reaches(*v, TWO), 1),
    "X7": (lambda v: equal_compute.better(v, 0.5), 2),
    "X9": (lambda v: beyond_frontier.beyond(v, 0.5), 3),
    "X10": (lambda v: dose_response.ordered(*v, 0.5), 3),
    "X11": (lambda v: beyond_structure.own(*v, 0.5), 2),
}
NUMBERS = st.floats(-3, 3).map(lambda x: round(x, 3))


@pytest.mark.parametrize("name", DECISIONS)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_correction_never_makes_another_verdict_of_one(name, data):
    """It leaves the verdict or nothing, and what a strict level leaves a mild one leaves, too."""
    decide, count = DECISIONS[name]
    spread = data.draw(st.sampled_from([0.02, 0.2, 1.0]))
    values = [
        mean_interval([centre + spread * shift for shift in data.draw(st.tuples(NUMBERS, NUMBERS, NUMBERS))])
        for centre in data.draw(st.lists(NUMBERS, min_size=count, max_size=count))
    ]
    verdict = decide(values)
    p = chance(Outcome(verdict, "", decide=decide, effects=[Effect("", value, "") for value in values]))
    strict, mild = sorted(data.draw(st.tuples(st.floats(1e-6, LEVEL), st.floats(1e-6, LEVEL))))
    left = [corrected(verdict, p, level) for level in (strict, mild, LEVEL)]
    assert set(left) <= {verdict, INCONCLUSIVE}
    assert left == sorted(left, key=lambda each: each == verdict)
    if p < LEVEL:
        assert decide([value.at(1 - 2 * max(1.0001 * p, SMALLEST)) for value in values]) == verdict


def test_a_correction_used_to_turn_a_refutation_into_a_part():
    """At 95 % half of the saving is excluded; with wider intervals only that seconds are saved is left."""
    values = [mean_interval([79.9, 80, 80.1]), mean_interval([20, 25, 30])]

    def decide(given):
        return time_saved.survives_as_time(*given, {"kept_share": 0.5})

    assert (decide(values), decide([value.at(0.97) for value in values])) == (NOT_SUPPORTED, PARTLY)
    found = Outcome(NOT_SUPPORTED, "", [Effect("", value, "") for value in values], decide)
    assert corrected(NOT_SUPPORTED, chance(found), 0.015) == INCONCLUSIVE
