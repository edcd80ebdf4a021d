"""Power and seeds needed, against SciPy's noncentral t, a simulation and small cases by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mat.evidence.claims.verdict import INCONCLUSIVE, SUPPORTED
from mat.evidence.stats import power
from mat.evidence.stats.intervals import Interval, geometric_interval, mean_interval, saving_percent


@pytest.mark.parametrize(("effect", "n"), [(1.0, 3), (1.5, 5), (0.3, 10), (0.5, 34)])
def test_power_is_that_of_the_noncentral_t(effect, n):
    limit, where = stats.t.ppf(0.975, n - 1), effect * np.sqrt(n)
    expected = stats.nct.sf(limit, n - 1, where) + stats.nct.cdf(-limit, n - 1, where)
    assert power.power(effect, n) == pytest.approx(expected, abs=1e-5)


def test_without_an_effect_power_is_the_level():
    assert power.power(0.0, 4) == pytest.approx(0.05, abs=1e-6)
    assert power.power(0.0, 4, 0.99) == pytest.approx(0.01, abs=1e-6)


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_the_detectable_effect_is_seen_in_four_of_five_simulations(n):
    effect = power.detectable_effect(n)
    values = np.random.default_rng(7).standard_normal((40_000, n)) + effect
    t = values.mean(1) / values.std(1, ddof=1) * np.sqrt(n)
    assert (np.abs(t) > stats.t.ppf(0.975, n - 1)).mean() == pytest.approx(0.8, abs=0.01)


def test_the_textbook_case():
    """Cohen: 34 pairs show half a standard deviation with 80 % power at 5 %."""
    assert power.detectable_effect(34) == pytest.approx(0.5, abs=0.01)
    assert np.isnan(power.detectable_effect(1))


def test_detectable_is_in_the_unit_of_the_value():
    size = power.detectable_effect(3)
    assert power.detectable(mean_interval([1.0, 2.0, 3.0])) == pytest.approx(size)
    logs = geometric_interval(np.exp([0.1, 0.2, 0.3]))
    assert power.detectable(logs) == pytest.approx(np.exp(0.1 * size))
    saved = saving_percent(pd.Series(np.exp([-0.1, -0.2, -0.3])), pd.Series([1.0, 1.0, 1.0]))
    assert power.detectable(saved) == pytest.approx(100 * (1 - np.exp(-0.1 * size)))
    assert np.isnan(power.detectable(mean_interval([1.0])))


def _positive(values):
    return SUPPORTED if values[0].low > 0 else INCONCLUSIVE


def needed(decide, *values, least=3):
    return power.seeds_needed(decide, values, INCONCLUSIVE, least)


def test_seeds_needed_by_hand():
    """Mean 1, s = 1: low > 0 as soon as t(n − 1)/√n < 1, which is 7 seeds (2.447/√7 = 0.925; n = 6: 1.049)."""
    value = mean_interval([0.0, 1.0, 2.0])
    assert needed(_positive, value) == "7"
    assert needed(_positive, value, least=9) == "9"


def test_seeds_needed_when_no_number_is_enough():
    assert needed(_positive, mean_interval([-1.0, 0.01, 1.0])) == "more than 100"
    assert needed(_positive, mean_interval([-1.0, -2.0, -3.0])) == "not a matter of seeds"
    assert needed(lambda _: INCONCLUSIVE, mean_interval([1.0, 2.0])) == "not a matter of seeds"
    assert needed(_positive, mean_interval([1.0])) == "spread unknown"
    assert needed(_positive, Interval(np.nan, np.nan, np.nan, 0)) == "spread unknown"
    assert needed(_positive) == "not a matter of seeds"


def test_a_comparison_that_has_more_seeds_keeps_them():
    """Ten seeds of mean 0.8 and s = 1 are above 0, seven of them would not be; the other needs four."""
    many = mean_interval(np.array([-1, 1] * 5) * np.sqrt(0.9) + 0.8)
    few = mean_interval(np.array([-1, 0, 1]) * 0.55 + 1)
    assert many.low > 0 > many.at(n=7).low
    assert few.low < 0 < few.at(n=4).low

    def all_above(values):
        return SUPPORTED if all(v.low > 0 for v in values) else INCONCLUSIVE

    assert needed(all_above, many, few) == "4"
