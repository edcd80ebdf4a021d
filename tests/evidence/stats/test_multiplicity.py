"""p-values of decisions against SciPy's t tests, and Holm's correction against its definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mat.evidence.stats.intervals import interval_of
from mat.evidence.stats.multiplicity import LEVEL, holm, p_value

VALUES = [3.1, 4.0, 3.6, 3.3]


def above(bound):
    return lambda values: "above" if all(value.low > bound for value in values) else "open"


@pytest.mark.parametrize("bound", [-3.0, 0.0, 2.0])
@pytest.mark.parametrize("link", ["mean", "ratio", "saving"])
def test_the_p_value_of_one_bound_is_that_of_the_t_test(link, bound):
    to = {"mean": lambda v: v, "ratio": np.log, "saving": lambda v: -np.log1p(-np.asarray(v) / 100)}[link]
    bound = bound if link != "ratio" else np.exp(bound / 2)
    asked = stats.ttest_1samp(to(VALUES), to(bound), alternative="greater").pvalue
    found = p_value(above(bound), [interval_of(VALUES, link)], "above")
    assert found == pytest.approx(asked if asked <= LEVEL else 1, rel=1e-6)


def test_of_bounds_that_must_all_hold_the_largest_counts():
    both = [interval_of(VALUES), interval_of([1.0, 1.2, 0.9])]
    single = [p_value(above(0), [value], "above") for value in both]
    assert p_value(above(0), both, "above") == pytest.approx(max(single), rel=1e-6)
    assert p_value(above(0), [interval_of([1.0, -1.0, 2.0])], "above") == 1
    assert p_value(above(0), [interval_of([2.0, 2.0])], "above") == 0


@given(st.lists(st.floats(0, 0.06), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_holm_goes_from_the_smallest_and_stops_at_the_first_that_is_too_large(p_values):
    held, left = set(), len(p_values)
    for place in np.argsort(p_values, kind="stable"):
        if p_values[place] > 0.05 / left:
            break
        held.add(int(place))
        left -= 1
    asked = holm(p_values, 0.05)
    assert {i for i, p in enumerate(p_values) if p <= asked[i]} == held
    assert all(0.05 / len(p_values) <= level <= 0.05 for level in asked)
    bonferroni = {i for i, p in enumerate(p_values) if p <= 0.05 / len(p_values)}
    assert bonferroni <= held
