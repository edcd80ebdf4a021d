import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mat.errors import InputError
from mat.evidence.measures import curves, spectra
from mat.evidence.measures.curves import Convergence

NO_SMOOTHING = Convergence(epsilon=0.005, window=1)


def curve(losses, executed=None, **columns):
    """A curve with one evaluation every 10 steps and 100 MACs between evaluations."""
    steps = 10 * np.arange(len(losses))
    content = {
        "step": steps, "val_loss": losses, "macs_executed": 10.0 * steps if executed is None else executed,
        "macs_nominal": 8.0 * steps, "macs_executed_probe": 5.0 + 0 * steps,
        "macs_nominal_probe": 4.0 + 0 * steps,
        "macs_eigen": 1.0 + 0 * steps, "seconds_train": 0.1 * steps, "seconds_probe": 0.05 * steps,
        "active_share": np.where(steps == 0, np.nan, 0.5),
        "reached_share": np.where(steps == 0, np.nan, 0.25),
    }  # fmt: skip
    return pd.DataFrame(content | columns)


def test_total_adds_probe_and_eigen_only_when_charged():
    frame = curve([3.0, 2.0])
    assert list(curves.total_macs(frame, "executed", True)) == [6.0, 106.0]
    assert list(curves.total_macs(frame, "executed", False)) == [0.0, 100.0]
    assert list(curves.total_macs(frame, "nominal", True)) == [5.0, 85.0]


def test_unknown_ledger_is_named():
    with pytest.raises(InputError, match="ledger must be one of executed, nominal, got 'paper'"):
        curves.total_macs(curve([1.0]), "paper", True)


def test_convergence_is_the_first_evaluation_within_epsilon_of_the_best():
    # best 1.000, target 1.005: the third evaluation (1.004) is the first within it
    frame = curve([2.0, 1.006, 1.004, 1.000, 1.2])
    assert curves.macs_to_convergence(frame, "executed", NO_SMOOTHING, False) == 200.0
    assert curves.macs_to_convergence(frame, "executed", NO_SMOOTHING, True) == 206.0


def test_smoothing_is_a_trailing_mean_that_starts_short():
    smooth = curves.smoothed_loss(curve([4.0, 2.0, 3.0, 1.0]), Convergence(window=3))
    assert list(smooth) == pytest.approx([4.0, 3.0, 3.0, 2.0])


def test_one_lucky_evaluation_does_not_converge_a_smoothed_run():
    losses = [4.0, 0.9, 2.0, 1.0, 1.0, 1.0, 1.0]
    assert curves.macs_to_convergence(curve(losses), "executed", NO_SMOOTHING, False) == 100.0
    assert curves.macs_to_convergence(curve(losses), "executed", Convergence(), False) == 500.0


@pytest.mark.parametrize(("losses", "late"), [([4, 3, 2, 1, 0.5], True), ([4, 1, 1, 1, 1, 1, 1, 1, 1], False)])
def test_a_run_that_still_improves_at_its_end_is_marked(losses, late):
    assert curves.converged_at_end(curve([float(loss) for loss in losses]), Convergence()) is late


@pytest.mark.parametrize(
    ("losses", "fell", "lowest"),
    [  # 11 evaluations, the last two after 80 % of the steps
        ([9, 8, 7, 6, 5, 4, 3, 2, 1.0, 0.9, 0.8], 0.2, 10),  # 1 → 0.8
        ([9, 8, 7, 6, 5, 4, 3, 2, 1.0, 0.7, 2.0], -1.0, 9),
        ([9, 8, 7, 1, 5, 4, 3, 2, 2.0, 2.0, 2.0], -1.0, 3),  # passed its minimum
        ([1, 1, 1, 1, 1, 1, 1, 1, 1.0, 1.0, 1.0], 0.0, 0),
        ([9, 8, 7, 6, 5, math.nan, 3, 2, 1.0, 0.9, 0.8], math.nan, 10),
    ],
)
def test_how_far_the_loss_fell_in_the_last_fifth(losses, fell, lowest):
    frame = curve([float(loss) for loss in losses])
    assert curves.late_improvement(frame, NO_SMOOTHING) == pytest.approx(fell, nan_ok=True)
    assert curves.minimum_row(frame, NO_SMOOTHING) == lowest


@given(
    losses=st.lists(st.floats(0.1, 10), min_size=2, max_size=30), factor=st.floats(0.1, 10), window=st.integers(1, 4)
)
def test_the_fall_in_the_last_fifth_is_relative_and_none_where_the_minimum_lies_before(losses, factor, window):
    rule, frame = Convergence(window=window), curve(losses)
    fell = curves.late_improvement(frame, rule)
    assert fell == pytest.approx(curves.late_improvement(curve([factor * loss for loss in losses]), rule), abs=1e-9)
    early = curves.minimum_row(frame, rule) * 10 <= (1 - curves.LAST) * frame["step"].iloc[-1]
    assert not early or fell <= 0


def test_compute_to_reach_a_loss_never_reached_is_nan():
    frame = curve([3.0, 2.0, 1.0])
    assert curves.macs_to_reach(frame, 2.0, "executed", NO_SMOOTHING, False) == 100.0
    assert np.isnan(curves.macs_to_reach(frame, 0.5, "executed", NO_SMOOTHING, False))


def test_loss_at_equal_compute_is_linear_between_evaluations():
    frame = curve([3.0, 2.0, 1.0])
    assert curves.loss_at(frame, 150.0, "executed", False) == pytest.approx(1.5)
    assert curves.loss_at(frame, 200.0, "executed", False) == pytest.approx(1.0)
    assert np.isnan(curves.loss_at(frame, 201.0, "executed", False))


def test_active_share_is_weighted_by_steps():
    frame = curve([3.0, 2.0, 1.0]).assign(step=[0, 10, 40], active_share=[np.nan, 1.0, 0.2])
    assert curves.mean_share(frame, "active_share") == pytest.approx((10 * 1.0 + 30 * 0.2) / 40)
    assert curves.mean_share(frame, "reached_share") == pytest.approx(0.25)
    assert np.isnan(curves.mean_share(frame.assign(reached_share=np.nan), "reached_share")), "recorded without it"


def test_probe_share_and_wall_clock_follow_the_charge():
    frame = curve([3.0, 2.0])
    assert curves.probe_share(frame, "executed", True) == pytest.approx(6 / 106)
    assert curves.probe_share(frame, "executed", False) == 0.0
    assert curves.wall_clock(frame, True) == pytest.approx(1.5)
    assert curves.wall_clock(frame, False) == pytest.approx(1.0)


@pytest.mark.parametrize("settings", [{"epsilon": -0.1}, {"epsilon": 1.0}, {"window": 0}])
def test_impossible_convergence_settings_are_refused(settings):
    with pytest.raises(InputError, match="convergence"):
        Convergence(**settings)


def probes(values, ranks, kind="head"):
    """Probes from lists [probe][module] of λ_max and effective rank."""
    rows = [
        {"interval": number, "module": f"m{index}", "kind": kind, "lambda_max": value, "effective_rank": rank}
        for number, (line, line_ranks) in enumerate(zip(values, ranks, strict=True))
        for index, (value, rank) in enumerate(zip(line, line_ranks, strict=True))
    ]
    return pd.DataFrame(rows)


def test_spread_is_the_median_over_probes_of_the_ratio():
    frame = probes([[1.0, 2.0], [1.0, 10.0], [0.5, 3.0]], [[1, 1]] * 3)
    assert spectra.spread(frame, "head") == pytest.approx(6.0)
    assert np.isnan(spectra.spread(frame, "filters"))


def test_a_module_of_zero_kernel_has_no_ratio():
    assert spectra.spread(probes([[0.0, 1.0, 4.0]], [[0, 1, 1]]), "head") == pytest.approx(4.0)


def test_rank_correlation_is_averaged_over_probes():
    frame = probes([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]], [[3.0, 2.0, 1.0], [1.0, 3.0, 2.0]])
    assert spectra.rank_correlation(frame, "head") == pytest.approx((-1.0 + 0.5) / 2)
    assert np.isnan(spectra.rank_correlation(probes([[1.0, 2.0]], [[1.0, 2.0]]), "head"))


def test_the_first_kind_present_is_taken():
    frame = probes([[1.0]], [[1.0]], kind="filters")
    assert spectra.kind_present(frame, ["head", "filters"]) == "filters"
    assert spectra.kind_present(frame, ["head"]) is None
    assert spectra.has_spectra(frame)
    assert not spectra.has_spectra(frame.assign(lambda_max=np.nan))
