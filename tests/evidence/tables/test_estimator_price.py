"""The price list of estimators: the rule for the default on invented rows."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mat.evidence.claims.rules.default_estimator import reaches
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, SUPPORTED
from mat.evidence.stats.intervals import Interval
from mat.evidence.tables.estimator_price import ESTIMATOR, candidates, choose


def row(family, estimator, low, cost, positions=0, model_positions=1, n=16, share=1.0):
    """One family's estimator; projected has 4 directions."""
    return {
        "family": family, "share": share, "estimator": estimator, "directions": 4 * (estimator == "projected"),
        "positions": positions, "n": n, "model_positions": model_positions, "tau_low": low, "macs_share": cost,
    }  # fmt: skip


def picked(rows, reach=0.8):
    choice = choose(pd.DataFrame(rows), reach)
    return tuple(choice.candidates.loc[choice.picked, ESTIMATOR])


class TestTheRule:
    def test_the_cheapest_that_reaches_in_every_family_is_picked(self):
        rows = [row("bert", "loss", 0.9, 0.01), row("bert", "projected", 0.8, 0.04), row("bert", "trace", 0.99, 0.09)]
        rows += [row("vgg", "loss", 0.79, 0.01), row("vgg", "projected", 0.8, 0.02), row("vgg", "trace", 0.99, 0.09)]
        assert picked(rows) == ("projected", 4, 0, 16)
        assert picked(rows, reach=0.7) == ("loss", 0, 0, 16)
        assert (
            "at least 0.8 in every family: projected, 4 directions, n = 16." in choose(pd.DataFrame(rows), 0.8).reason
        )

    def test_where_none_reaches_the_one_with_the_largest_smallest_bound_is_picked_and_it_is_said(self):
        rows = [row("bert", "loss", 0.7, 0.01), row("bert", "trace", 0.6, 0.09)]
        rows += [row("vgg", "loss", 0.4, 0.01), row("vgg", "trace", 0.5, 0.09)]
        assert picked(rows) == ("trace", 0, 0, 16)
        choice = choose(pd.DataFrame(rows), 0.8)
        assert "No candidate" in choice.reason and "smallest lower bound is 0.50" in choice.reason
        assert not choice.candidates["eligible"].any()

    def test_costs_are_geometric_means_over_families(self):
        rows = [row("bert", "loss", 0.9, 0.01), row("vgg", "loss", 0.9, 0.04)]
        rows += [row("bert", "trace", 0.9, 0.021), row("vgg", "trace", 0.9, 0.021)]
        found = candidates(pd.DataFrame(rows)).set_index("estimator")
        assert found.loc["loss", "cost"] == pytest.approx(0.02, rel=1e-12)
        assert picked(rows) == ("loss", 0, 0, 16), "its arithmetic mean is the larger one"

    def test_what_one_family_lacks_is_no_candidate_and_the_start_does_not_count(self):
        rows = [row("bert", "loss", 0.9, 0.02), row("vgg", "loss", 0.9, 0.02), row("vgg", "full", 0.99, 0.001)]
        rows += [row(name, "trace", 0.99, 0.001, share=0.0) for name in ("bert", "vgg")]
        assert list(candidates(pd.DataFrame(rows))["estimator"]) == ["loss"]

    def test_all_positions_stand_for_as_many_as_there_are(self):
        rows = [row("vgg", "loss", 0.9, 0.01)]
        rows += [row("bert", "loss", 0.5, 0.04, 0, 33), row("bert", "loss", 0.85, 0.04, 8, 33)]
        found = candidates(pd.DataFrame(rows))
        assert list(found["positions"]) == [8, 0] and list(found["lowest"]) == [0.85, 0.5]
        assert list(found["cost"]) == pytest.approx([0.02, 0.02])
        assert picked(rows) == ("loss", 0, 8, 16), "of equal cost, the one that agrees more"

    def test_an_unknown_bound_is_below_every_other(self):
        rows = [row("bert", "loss", math.nan, 0.01), row("bert", "trace", -0.5, 0.09)]
        assert picked(rows) == ("trace", 0, 0, 16)

    def test_without_the_end_of_training_nothing_is_picked(self):
        choice = choose(pd.DataFrame([row("bert", "loss", 0.9, 0.01, share=0.5)]), 0.8)
        assert choice.picked is None and "No estimator was measured" in choice.reason


LOWS = st.lists(st.floats(-1, 1), min_size=4, max_size=4)


@given(LOWS, LOWS, st.lists(st.floats(1e-4, 1), min_size=4, max_size=4), st.floats(-1, 1))
def test_no_cheaper_candidate_reaches_and_none_is_nearer(bert, vgg, costs, reach):
    rows = [
        row(family, "loss", low, cost, n=2 + at)
        for family, lows in (("bert", bert), ("vgg", vgg))
        for at, (low, cost) in enumerate(zip(lows, costs, strict=True))
    ]
    lowest, at = np.minimum(bert, vgg), picked(rows, reach)[3] - 2
    if (lowest >= reach).any():
        # a geometric mean of a cost with itself rounds, hence the small factor
        assert lowest[at] >= reach and costs[at] <= min(np.array(costs)[lowest >= reach]) * (1 + 1e-12)
    else:
        assert lowest[at] == lowest.max()


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.8, 0.9, SUPPORTED),
        (0.7, 0.9, INCONCLUSIVE),
        (0.7, 0.8, INCONCLUSIVE),
        (0.7, 0.79, NOT_SUPPORTED),
        (math.nan, math.nan, INCONCLUSIVE),
    ],
)
def test_the_default_reaches(low, high, verdict):
    assert reaches(Interval((low + high) / 2, low, high, 3), {"reach_tau": 0.8}) == verdict
