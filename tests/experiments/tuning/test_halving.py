"""Successive halving: its rungs by arithmetic, and what is left of them beside a naive reference."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mat.errors import InputError
from mat.experiments.tuning.halving import halve, rungs

LOSSES = st.one_of(st.floats(0, 9), st.sampled_from([math.inf, math.nan, 1.0, 2.0]))


@given(st.integers(2, 300), st.integers(2, 5), st.floats(0.01, 1))
def test_rungs_end_with_two_or_more_at_full_compute_and_begin_with_the_least_or_more(budget, eta, least):
    found = rungs(budget, eta, least)
    assert found[0].count == budget and found[-1].share == 1 and found[-1].count >= 2
    assert [rung.count for rung in found] == [budget // eta**r for r in range(len(found))]
    assert all(b.share == pytest.approx(eta * a.share) for a, b in pairwise(found))
    assert found[0].share >= least * (1 - 1e-12)
    assert budget // eta ** len(found) < 2 or eta ** -len(found) < least, "there is no room for another rung"


def test_a_budget_of_one_is_refused():
    with pytest.raises(InputError, match="expected 2 configurations at least"):
        rungs(1, 2, 0.5)


@given(st.integers(2, 20), st.data())
def test_each_rung_keeps_the_configurations_of_the_smallest_losses(budget, data):
    steps = rungs(budget, 2, 0.1)
    losses = {
        key: [data.draw(st.lists(LOSSES, min_size=budget, max_size=budget)) for _ in steps]
        for key in ("mat", "vanilla")
    }
    asked = []

    def measure(number, left):
        asked.append({key: list(some) for key, some in left.items()})
        return {key: {i: losses[key][number][i] for i in some} for key, some in left.items()}

    expected = [{key: list(range(budget)) for key in losses}]
    for number, step in enumerate([*steps[1:], (1,)]):
        order = {
            key: sorted(
                some, key=lambda i, key=key: (not math.isfinite(losses[key][number][i]), losses[key][number][i])
            )
            for key, some in expected[-1].items()
        }
        if any(not math.isfinite(losses[key][number][some[0]]) for key, some in order.items()):
            with pytest.raises(InputError, match="every configuration of rung"):
                halve(steps, losses, measure)
            return
        finite = {key: [i for i in some if math.isfinite(losses[key][number][i])] for key, some in order.items()}
        rest = {key: sorted(set(some) - set(finite[key])) for key, some in order.items()}
        expected.append({key: sorted([*finite[key], *rest[key]][: step[0]]) for key in order})
    assert halve(steps, losses, measure) == {key: some[0] for key, some in expected.pop().items()}
    assert asked == expected
