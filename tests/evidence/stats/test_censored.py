"""Intervals of ratios of which some were not reached."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mat.evidence.stats.censored import COVERAGE, censored_interval
from mat.evidence.stats.intervals import geometric_interval, interval_of
from tests.benchmarks.coverage import censored

LOGS = st.lists(st.floats(-2, 2), min_size=3, max_size=6, unique=True)


@given(LOGS)
@settings(max_examples=25, deadline=None)
def test_without_censoring_it_is_the_t_interval_and_far_bounds_change_nothing(logs):
    ratios, known = np.exp(logs), np.ones(len(logs), bool)
    assert censored_interval(ratios, known) == geometric_interval(ratios)
    saved = censored_interval(ratios, known, "saving")
    assert saved == interval_of(100 * (1 - ratios), "saving")[:1] + saved[1:]


@pytest.mark.parametrize(("shift", "factor"), [(0.7, 1.0), (-0.3, 2.0), (0.0, 0.1)])
def test_it_moves_and_scales_with_the_log_ratios(shift, factor):
    logs, known = np.array([-0.5, 0.1, 0.4, 0.2]), np.array([True, True, True, False])
    one, other = (censored_interval(np.exp(values), known) for values in (logs, shift + factor * logs))
    for a, b in zip(one[:3], other[:3], strict=True):
        assert np.log(b) == pytest.approx(shift + factor * np.log(a), abs=1e-4)


def test_the_estimate_is_the_maximum_of_the_likelihood_written_out():
    from scipy import optimize, stats

    logs, known = np.log([0.5, 0.7, 0.9, 1.1]), np.array([True, True, True, False])

    def loss(at):
        m, s = at[0], np.exp(at[1])
        return -stats.norm.logpdf(logs[:3], m, s).sum() - np.log(1 - stats.norm.cdf(logs[3], m, s))

    best = optimize.minimize(loss, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13}).x
    value, step = censored_interval(np.exp(logs), known), 1e-3
    assert np.log(value.mean) == pytest.approx(best[0], abs=1e-6)
    assert value.n == 3 and value.mean > geometric_interval(np.exp(logs)).mean
    steps = step * np.eye(2)
    bends = [
        [sum(i * j * loss(best + i * a + j * b) for i in (1, -1) for j in (1, -1)) / (4 * step**2) for b in steps]
        for a in steps
    ]
    error = np.sqrt(np.linalg.inv(bends)[0, 0] * 4 / 3)
    assert value.deviation / np.sqrt(value.n) == pytest.approx(error, rel=1e-4)


@pytest.mark.parametrize("known", [[False, False, False], [True, False, False]])
def test_with_fewer_than_two_known_ratios_nothing_is_said_and_n_is_all(known):
    value = censored_interval([0.5, 0.6, 0.7], known, "saving")
    assert value.n == 3 and np.isnan(value[:3]).all()


def test_the_stated_coverage_is_what_simulation_gives():
    held, given_ = censored(5, 0.5, 100)
    assert held == pytest.approx(COVERAGE[5][0.5], abs=4 * (0.05 * 0.95 / 80) ** 0.5)
    assert given_ == pytest.approx(1 - 6 / 32, abs=4 * 0.39 / 100**0.5)  # at most one of five known
