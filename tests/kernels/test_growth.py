"""Intervals grow while a ranking stands still, and only then."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mat.errors import InputError
from mat.kernels.probes.growth import Growth

VALUES = st.lists(st.integers(0, 5).map(float), min_size=2, max_size=8)


@given(VALUES, st.randoms(use_true_random=False), st.floats(-1, 0.99), st.integers(1, 8))
def test_the_next_interval_follows_kendalls_tau(values, random, above, stretch):
    other = random.sample(values, len(values))
    before, after = ({f"m{i}": value for i, value in enumerate(one)} for one in (values, other))
    tau = stats.kendalltau(values, other).statistic
    if abs(tau - above) < 1e-9:  # rounding decides
        return
    assert Growth(above, 3, 8).next(stretch, before, after) == (min(3 * stretch, 8) if tau > above else 1)


def test_what_orders_nothing_stands_not_still():
    same = {"a": 1.0, "b": 1.0}
    assert Growth().next(4, same, same) == 1
    assert Growth().next(4, {"a": 1.0}, {"a": 1.0}) == 1
    assert Growth().next(4, {"a": 1.0, "b": 2.0}, {"a": float("nan"), "b": 1.0}) == 1


@pytest.mark.parametrize("given", [{"above": 1.0}, {"above": -2.0}, {"by": 1}, {"by": 4, "to": 3}])
def test_impossible_growth_is_refused(given):
    with pytest.raises(InputError, match="interval grows"):
        Growth(**given)
