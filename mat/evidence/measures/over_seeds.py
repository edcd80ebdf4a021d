"""Measures of finished runs by seed, and intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import pandas as pd

from mat.evidence.measures import curves as measures
from mat.evidence.measures.curves import Convergence
from mat.evidence.measures.step_time import StepTimes
from mat.evidence.runs.pooled import REFERENCE, Tables
from mat.evidence.stats.intervals import Interval, mean_interval

Row = Mapping[str, Any]  # of ``runs``


def convergence_macs(tables: Tables, task: str, method: str, ledger: str, rule: Convergence) -> pd.Series:
    """Total MACs to convergence by seed, charged probes included."""
    return tables.by_seed(task, method, charged, measures.macs_to_convergence, ledger, rule)


def macs_to_reference_best(tables: Tables, task: str, method: str, ledger: str, rule: Convergence) -> pd.Series:
    """Total MACs by seed until vanilla's convergence loss of the same seed is reached, NaN if it never is.

    The target is (1 + ε) × vanilla's best smoothed loss, so that vanilla's own value is its compute to
    convergence. Only seeds that vanilla finished too are in the series.
    """
    targets = tables.by_seed(task, REFERENCE, of_curve, measures.target_loss, rule)
    found = {
        int(run["seed"]): tables.measured(run, charged, measures.macs_to_reach, targets[run["seed"]], ledger, rule)
        for run in tables.finished_runs(task, method)
        if run["seed"] in targets
    }
    return pd.Series(found, dtype=float)


def equal_compute_advantage(tables: Tables, task: str, method: str, other: str, ledger: str) -> Interval:
    """Validation loss of ``other`` minus that of ``method`` at equal total compute, paired by seed.

    Both are read at the smaller of the pair's final computes, linear between evaluations; positive means
    that ``method`` is better. The run that spends faster is read before its learning-rate schedule ends.
    """
    first, second = (curves(tables, task, name) for name in (method, other))
    losses = [
        measures.losses_at_equal_compute(first[seed], second[seed], ledger) for seed in sorted(set(first) & set(second))
    ]
    return mean_interval([theirs - mine for mine, theirs in losses])


def best_loss_advantages_percent(tables: Tables, task: str, method: str, other: str) -> pd.Series:
    """Best validation loss of ``other`` minus that of ``method``, percent of ``other``'s, by seed; NaN for a seed that
    only one of them finished."""
    mine, theirs = (best_losses(tables, task, name) for name in (method, other))
    return 100 * (theirs - mine) / theirs


def best_loss_advantage_percent(tables: Tables, task: str, method: str, other: str) -> Interval:
    """The interval of ``best_loss_advantages_percent``."""
    return mean_interval(best_loss_advantages_percent(tables, task, method, other))


def best_losses(tables: Tables, task: str, method: str) -> pd.Series:
    """Best validation loss by seed."""
    return tables.by_seed(task, method, of_curve, measures.best_loss)


def dynamic_range(tables: Tables, task: str, column: str = "val_loss") -> pd.Series:
    """How far vanilla's validation loss, or ``val_metric``, gets from where it starts to its best, by seed."""
    return tables.by_seed(task, REFERENCE, _dynamic_range, column)


def final_losses(tables: Tables, task: str, method: str) -> pd.Series:
    """Validation loss at the end of the run by seed."""
    return tables.by_seed(task, method, of_curve, measures.value_at, "val_loss", -1)


def worse_in_range(
    tables: Tables, task: str, first: str, second: str, losses: Callable[[Tables, str, str], pd.Series] = best_losses
) -> pd.Series:
    """``losses`` of ``first`` minus those of ``second``, percent of vanilla's ``dynamic_range``, by seed."""
    return 100 * (losses(tables, task, first) - losses(tables, task, second)) / dynamic_range(tables, task)


def metric_gain_in_range(tables: Tables, task: str, method: str, other: str) -> pd.Series:
    """How much better the test metric of ``method`` is than that of ``other``, percent of the way that vanilla's
    validation metric goes, by seed."""
    mine, theirs = (tables.finished(task, label).set_index("seed")["test_metric"] for label in (method, other))
    sign = 1 if tables.first(task)["higher_is_better"] else -1
    return 100 * sign * (mine - theirs) / dynamic_range(tables, task, "val_metric")


def still_improving(tables: Tables, task: str, method: str, rule: Convergence) -> int:
    """Finished runs whose budget ended before they had converged (``measures.converged_at_end``)."""
    return int(tables.by_seed(task, method, of_curve, measures.converged_at_end, rule).sum())


def late_improvement(tables: Tables, task: str, method: str, rule: Convergence) -> pd.Series:
    """How far the loss still fell at the end, by seed, as a share of itself (``measures.late_improvement``)."""
    return tables.by_seed(task, method, of_curve, measures.late_improvement, rule)


def minimum_percent(tables: Tables, task: str, method: str, rule: Convergence) -> pd.Series:
    """Where the lowest smoothed validation loss lies by seed, in percent of the run's steps."""
    return 100 * tables.by_seed(task, method, _minimum, rule)


def wall_clock(tables: Tables, task: str, method: str) -> pd.Series:
    """Seconds of training and charged probes by seed."""
    return tables.by_seed(task, method, charged, measures.wall_clock)


def wall_clock_to_convergence(tables: Tables, task: str, method: str, rule: Convergence) -> pd.Series:
    """Seconds of training and charged probes until convergence, by seed."""
    return tables.by_seed(task, method, charged, measures.wall_clock_to_convergence, rule)


def cpu_seconds(tables: Tables, task: str, method: str) -> pd.Series:
    """CPU seconds of training and charged probes by seed; NaN for runs recorded without them."""
    return tables.by_seed(task, method, charged, measures.cpu_seconds)


def step_times(tables: Tables, task: str) -> StepTimes | None:
    """The task's step times; None where none were measured."""
    found = tables.made.get("step_times")
    rows = None if found is None else found[found["task"] == task]
    return None if rows is None or rows.empty else StepTimes.of(rows)


def reference_seconds(tables: Tables, task: str, method: str) -> pd.Series:
    """Seconds of the whole run by seed, by arithmetic from step times (``runs.step_time``); NaN without them."""
    times = step_times(tables, task)

    def seconds(run: Row) -> float:
        return times.seconds(tables.curve(run["run"]), run["mode"], run["charges_probe"]) if times else math.nan

    found = {int(run["seed"]): seconds(run) for run in tables.finished_runs(task, method)}
    return pd.Series(found, dtype=float)


def whole_run_macs(tables: Tables, task: str, method: str, ledger: str) -> pd.Series:
    """Total MACs of the whole run by seed, charged probes included."""
    return tables.by_seed(task, method, charged, measures.final_macs, ledger)


def active_share_percent(tables: Tables, task: str, method: str) -> pd.Series:
    """Mean share of active modules by seed, in percent."""
    return 100 * tables.by_seed(task, method, of_curve, measures.mean_share, "active_share")


def reached_share_percent(tables: Tables, task: str, method: str) -> pd.Series:
    """Mean share of modules that were active and that a gradient reached, by seed, in percent; NaN for runs recorded
    without it."""
    return 100 * tables.by_seed(task, method, of_curve, measures.mean_share, "reached_share")


def probe_share_percent(tables: Tables, task: str, method: str, ledger: str) -> pd.Series:
    """Charged probes and eigen-solves by seed, in percent of the run's total compute."""
    return 100 * tables.by_seed(task, method, charged, measures.probe_share, ledger)


def gap_closed_percent(runs: pd.DataFrame) -> Interval:
    """Share of the gap unigram loss → floor that the test loss closes, in percent; NaN without bounds."""
    columns = ("bound_unigram_test", "bound_floor_test")
    if any(name not in runs.columns for name in columns) or runs.empty:
        return mean_interval([])
    unigram, floor = (runs[name] for name in columns)
    return mean_interval(100 * (unigram - runs["test_loss"]) / (unigram - floor))


def curves(tables: Tables, task: str, method: str) -> dict[int, measures.Charged]:
    """Finished runs by seed."""
    runs = tables.finished_runs(task, method)
    return {int(run["seed"]): (tables.curve(run["run"]), bool(run["charges_probe"])) for run in runs}


# What is measured of a run, by its row and its curve: in ``Tables.by_seed``, a measure of one curve.


def of_curve(_: Row, curve: pd.DataFrame, measure: Callable[..., float], *how: Hashable) -> float:
    return float(measure(curve, *how))


def charged(run: Row, curve: pd.DataFrame, measure: Callable[..., float], *how: Hashable) -> float:
    """With what its last argument asks: whether the run is charged for its probes."""
    return float(measure(curve, *how, run["charges_probe"]))


def _dynamic_range(run: Row, curve: pd.DataFrame, column: str) -> float:
    rises = column != "val_loss" and run["higher_is_better"]
    gain = (curve[column] - curve[column].iloc[0]) * (1 if rises else -1)
    return float(gain.max()) if gain.max() > 0 else math.nan


def _minimum(_: Row, curve: pd.DataFrame, rule: Convergence) -> float:
    row = measures.minimum_row(curve, rule)
    return math.nan if row is None else float(curve["step"].iloc[row] / curve["step"].iloc[-1])


SHARES = {"active_share_percent": active_share_percent, "reached_share_percent": reached_share_percent}
