"""Compute to fixed levels of the loss, on curves written by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mat.evidence.measures import levels
from mat.evidence.tables.loss_levels import loss_levels
from mat.evidence.tables.saving_factors import saving_factors
from mat.records.costs import COST_LINES, total_macs
from tests.evidence.synthetic import METHODS, changed, collected


def curve_of(losses, macs=None):
    rows = {name: np.zeros(len(losses)) for name in COST_LINES} | {"val_loss": np.array(losses, float)}
    return pd.DataFrame(rows | {"macs_executed": np.arange(len(losses), dtype=float) if macs is None else macs})


def macs_to_level(curve, level, charged=False):
    return levels.at_level(levels.falling(curve), level, total_macs(curve, "executed", charged).to_numpy())


@pytest.mark.parametrize(
    ("losses", "level", "macs"),
    [
        ([8, 4, 2], 4, 1.0),
        ([8, 4, 2], 2**1.5, 1.5),  # half way in log loss
        ([8, 4, 2], 9, 0.0),
        ([8, 4, 2], 1.9, math.nan),
        ([8, 2, 4, 2], 2, 3.0),  # a noisy dip is pooled with what follows it: √8 for both
        ([8, 2, 4, 2], 8**0.5, 1.0),
    ],
)
def test_a_level_is_reached_where_the_falling_fit_crosses_it(losses, level, macs):
    found = macs_to_level(curve_of(losses), math.log(level))
    assert found == pytest.approx(macs, nan_ok=True)


@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=12), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_a_lower_level_never_costs_less_and_the_fits_end_is_always_reached(losses, one, other):
    curve = curve_of(losses)
    fit = levels.falling(curve)
    assert (np.diff(fit) <= 1e-12).all()
    assert fit.mean() == pytest.approx(np.log(losses).mean(), abs=1e-9)  # least squares keep the mean
    low, high = sorted(max(fit[-1], (1 - part) * fit[0] + part * fit[-1]) for part in (one, other))
    costs = [macs_to_level(curve, level) for level in (high, low, fit[-1])]
    assert np.isfinite(costs[2]) and costs[0] <= costs[1] + 1e-9 and costs[1] <= costs[2] + 1e-9


def test_probes_count_where_the_run_is_charged_for_them():
    curve = curve_of([8, 4, 2]).assign(macs_executed_probe=[5.0, 5.0, 5.0], macs_eigen=1.0)
    assert macs_to_level(curve, math.log(4), charged=True) == 7.0
    assert macs_to_level(curve, math.log(4)) == 1.0


def test_the_final_level_is_vanillas_median_end_and_half_its_seeds_reach_it():
    tables = collected(tasks=["hmm"], methods={"vanilla": METHODS["vanilla"]})
    ends = sorted(levels.falling(tables.curve(run["run"]))[-1] for run in tables.finished_runs("hmm", "vanilla"))
    found = levels.log_levels(tables, "hmm")
    assert list(found) == [0.5, 0.75, 0.9, 1.0] and found[1.0] == ends[1]
    assert sorted(found.values(), reverse=True) == list(found.values())
    value, reached = levels.saving_to_level(tables, "hmm", "vanilla", found[1.0], "executed")
    assert reached.sum() == 2
    assert value.n == 3 and np.isnan(value.mean)  # two ratios of exactly 1 have no spread


def test_the_table_counts_who_reached_a_level_and_says_what_half_the_steps_cost_saves():
    tables = collected(tasks=["hmm"], methods=changed(mat={"cost": 0.5, "probe": 1e-6, "extra_loss": -0.05},
                                                      random={"extra_loss": 0.5}))  # fmt: skip
    frame = loss_levels(tables).set_index(["method", "fraction"])
    saved = frame.loc[("mat", 1.0)]
    assert saved["n_reached"] == saved["n_paired"] == saved["saving_to_level_percent_n"] == 3
    assert 50 < saved["saving_to_level_percent_mean"] < 90
    assert frame.loc[("random", 1.0), "n_reached"] == 0
    assert np.isnan(frame.loc[("random", 1.0), "saving_to_level_percent_mean"])
    assert (frame.loc["vanilla"].loc[0.5, ["saving_to_level_percent_low", "saving_to_level_percent_high"]] == 0).all()


def test_a_run_is_fitted_once_for_all_levels_and_columns(monkeypatch):
    fitted = []
    monkeypatch.setattr(levels, "falling", lambda curve, fit=levels.falling: fitted.append(1) or fit(curve))
    tables = collected(tasks=["hmm"], methods={name: METHODS[name] for name in ("vanilla", "mat")})
    assert len(loss_levels(tables)) and len(saving_factors(tables))
    assert len(fitted) == len(tables.finished_runs("hmm", "vanilla")) + len(tables.finished_runs("hmm", "mat"))
