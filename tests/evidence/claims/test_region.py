"""The values that a rule asks for, found by asking it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mat.evidence.claims.region import asked
from mat.evidence.claims.rule import Effect, decided
from mat.evidence.claims.rules.saving import saves
from mat.evidence.claims.rules.spread_and_rank import wide_and_joint
from mat.evidence.claims.verdict import INCONCLUSIVE, SUPPORTED
from mat.evidence.stats.intervals import Interval

MEASURED = Interval(1.0, -5.0, 7.0, 3, 2.0)


def outcome(decide, count):
    return decided([Effect("part", MEASURED, "%")] * count, decide, "why")


def pieces(text):
    return [tuple(map(float, piece.split(".."))) for piece in text.split()]


@given(st.floats(-100, 100).map(lambda value: round(value, 2)), st.booleans())
def test_an_edge_is_the_threshold_of_the_rule(edge, above):
    def decide(values):
        met = values[0].low > edge if above else values[0].high < edge
        return SUPPORTED if met else INCONCLUSIVE

    ((low, high),) = pieces(asked(outcome(decide, 1), [edge])[0])
    assert (low, high) == pytest.approx((edge, math.inf) if above else (-math.inf, edge), abs=1e-5)


def test_rules_give_the_regions_that_they_state():
    saving = {"reported_low_percent": 26.4, "min_reached_share": 0.5}
    assert asked(outcome(lambda values: saves(values[0], 1.0, saving), 1), saving.values()) == ["26.4..inf"]
    assert asked(outcome(lambda values: saves(values[0], 0.0, saving), 1), saving.values()) == [""]
    joint = {"min_spread": 3, "min_abs_correlation": 0.5}
    found = asked(outcome(lambda values: wide_and_joint(*values, joint), 2), joint.values())
    assert found == ["3..inf", "-inf..-0.5 0.5..inf"]


def test_a_number_is_asked_as_if_the_others_were_as_the_rule_wants_them():
    def all_above(values):
        return SUPPORTED if all(value.low > 0.8 for value in values) else INCONCLUSIVE

    assert asked(outcome(all_above, 6), [0.8]) == ["0.8..inf"] * 6
    assert asked(outcome(lambda _: SUPPORTED, 2), [0.8]) == ["", ""]
