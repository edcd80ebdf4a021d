"""Effects pooled over tasks."""

import numpy as np
import pytest

from mat.evidence.stats.intervals import Interval, mean_interval
from mat.evidence.stats.random_effects import COVERAGE, over_tasks
from tests.benchmarks.coverage import pooled

# Log risk ratios of tuberculosis with and without BCG vaccine in 13 trials, and their variances (Colditz et al. 1994,
# as in the metafor package, whose rma(method="PM", test="knha") gives what is asserted)
BCG = (
    (-0.8893, 0.3256), (-1.5854, 0.1946), (-1.3481, 0.4154), (-1.4416, 0.0200), (-0.2175, 0.0512), (-0.7861, 0.0069),
    (-1.6209, 0.2230), (0.0120, 0.0040), (-0.4694, 0.0564), (-1.3713, 0.0730), (-0.3394, 0.0124), (0.4459, 0.5325),
    (-0.0173, 0.0714),
)  # fmt: skip


def effects(given, n=4):
    return [Interval(y, n=n, deviation=(v * n) ** 0.5).at() for y, v in given]


def test_it_gives_the_published_numbers_of_the_bcg_trials():
    found = over_tasks(effects(BCG))
    assert found.tau**2 == pytest.approx(0.3181, abs=2e-4)
    assert found.effect.mean == pytest.approx(-0.7150, abs=2e-4)
    assert found.effect.n == 13
    assert found.new.low < found.effect.low < found.effect.high < found.new.high


def test_equal_tasks_have_their_mean_and_nothing_between_them():
    found = over_tasks([mean_interval([1.0, 2.0, 3.0])] * 3)
    assert found.effect.mean == pytest.approx(2.0) and found.tau == 0
    assert found.effect.high - 2 == pytest.approx(4.3026527 / 3, rel=1e-6)  # t of 2 degrees, error 1/√3/√3


def test_far_apart_tasks_weigh_alike_whatever_their_seeds_say():
    found = over_tasks(effects([(0.0, 1e-4), (10.0, 1e-2)]))
    assert found.effect.mean == pytest.approx(5.0, abs=1e-2) and found.tau == pytest.approx(50**0.5, rel=1e-2)
    assert np.isnan(found.new.low)


def test_savings_are_pooled_as_log_ratios_and_bounds_at_another_confidence_are_wider():
    values = [Interval(saved, n=3, deviation=0.1, link="saving").at() for saved in (50.0, 0.0, 0.0)]
    found = over_tasks(values).effect
    assert found.mean == pytest.approx(100 * (1 - 0.5 ** (1 / 3)), abs=0.3)
    assert found.at(0.99).low < found.low and found.at(0.99).high > found.high


@pytest.mark.parametrize("values", [[], [Interval(1.0)], effects([(1.0, 1.0)]), [Interval(1.0), mean_interval([1, 1])]])
def test_fewer_than_two_tasks_with_a_spread_are_not_pooled(values):
    assert not over_tasks(values).known


def test_the_stated_coverage_is_what_simulation_gives():
    assert pooled(5, 2.0, 400) == pytest.approx(COVERAGE[5][2.0], abs=4 * (0.06 * 0.94 / 400) ** 0.5)
