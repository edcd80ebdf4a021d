"""The results table: one row per task and method, every number with its interval over seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mat.evidence.runs import curves as measures
from mat.evidence.runs import metrics
from mat.evidence.runs.curves import FLOPS_PER_MAC, LEDGERS, Convergence
from mat.evidence.runs.pooled import REFERENCE, Tables
from mat.evidence.stats.intervals import Interval, mean_interval, paired_ratio, saving_percent


def results(tables: Tables, rule: Convergence) -> pd.DataFrame:
    """One row per task × method, tasks by name and methods in their fixed order.

    Column names end in their unit, those of losses excepted, which are in ``loss_unit``. An interval is the columns
    ``…_mean``, ``…_low``, ``…_high``. All means are over finished seeds; what is compared with vanilla is paired by
    seed.
    """
    rows = [
        result_row(tables, task, method, rule) for task in tables.tasks for method in tables.methods(task)
    ]
    return pd.DataFrame(rows)


def result_row(tables: Tables, task: str, method: str, rule: Convergence) -> dict[str, Any]:
    """The table's row for one task and method."""
    runs, done = tables.of(task, method), tables.finished(task, method)
    first = runs.iloc[0]
    row: dict[str, Any] = {
        "scale": tables.scale, "task": task, "method": method, "mode": first["mode"],
        "n_finished": len(done), "n_diverged": int((runs["status"] == "diverged").sum()),
        "seeds_finished": " ".join(str(seed) for seed in done["seed"]),
        "metric": first["metric"], "higher_is_better": bool(first["higher_is_better"]),
        "loss_unit": first["loss_unit"],
    }  # fmt: skip
    limits = metrics.shown(first["metric"], first["loss_unit"])
    row |= spread_out("test_metric", mean_interval(done["test_metric"]).cut(limits.low, limits.high))
    row |= spread_out("test_loss", mean_interval(done["test_loss"]))
    row |= spread_out("best_validation_loss", mean_interval(done["best_val_loss"]))
    row |= spread_out("bound_gap_closed_percent", gap_closed_percent(done))
    for ledger in LEDGERS:
        row |= compute_columns(tables, task, method, ledger, rule)
    row["n_still_improving_at_end"] = still_improving(tables, task, method, rule)
    row |= spread_out(
        "loss_advantage_at_equal_compute_executed",
        equal_compute_advantage(tables, task, method, REFERENCE, "executed"),
        counted=True,
    )
    share = mean_interval(active_share_percent(tables, task, method)).cut(0, 100)
    row |= spread_out("active_share_percent", share)
    seconds = wall_clock(tables, task, method)
    row |= spread_out("train_and_probe_seconds", mean_interval(seconds))
    row |= spread_out(
        "train_and_probe_seconds_ratio_to_vanilla", paired_ratio(seconds, wall_clock(tables, task, REFERENCE))
    )
    return row


def compute_columns(tables: Tables, task: str, method: str, ledger: str, rule: Convergence) -> dict[str, Any]:
    """Compute to convergence, its saving, compute to reach vanilla's best, and probe share in one ledger."""
    macs = convergence_macs(tables, task, method, ledger, rule)
    reach = macs_to_reference_best(tables, task, method, ledger, rule)
    share = probe_share_percent(tables, task, method, ledger)
    reference = convergence_macs(tables, task, REFERENCE, ledger, rule)
    row = spread_out(f"compute_to_convergence_{ledger}_mac", mean_interval(macs))
    row |= spread_out(f"compute_to_convergence_{ledger}_flop", mean_interval(macs).scaled(FLOPS_PER_MAC))
    row |= spread_out(f"saving_{ledger}_percent", saving_percent(macs, reference), counted=True)
    row |= spread_out(f"compute_to_vanilla_best_{ledger}_flop", mean_interval(reach).scaled(FLOPS_PER_MAC))
    row |= spread_out(
        f"saving_at_vanilla_best_{ledger}_percent", saving_percent(reach, reference), counted=True
    )
    row[f"n_reached_vanilla_best_{ledger}"] = int(np.isfinite(reach).sum())
    row[f"n_with_vanilla_{ledger}"] = len(reach)
    return row | spread_out(f"probe_share_{ledger}_percent", mean_interval(share).cut(0, 100))


def spread_out(name: str, value: Interval, counted: bool = False) -> dict[str, Any]:
    """An interval as columns; with ``counted`` its n as well (pairs, or seeds with a value)."""
    row = {f"{name}_mean": value.mean, f"{name}_low": value.low, f"{name}_high": value.high}
    return row | ({f"{name}_n": value.n} if counted else {})


def convergence_macs(tables: Tables, task: str, method: str, ledger: str, rule: Convergence) -> pd.Series:
    """Total MACs to convergence by seed, charged probes included."""

    def measure(run: pd.Series, curve: pd.DataFrame) -> float:
        return measures.macs_to_convergence(curve, ledger, bool(run["charges_probe"]), rule)

    return tables.by_seed(task, method, measure)


def macs_to_reference_best(
    tables: Tables, task: str, method: str, ledger: str, rule: Convergence
) -> pd.Series:
    """Total MACs by seed until vanilla's convergence loss of the same seed is reached, NaN if it never is.

    The target is (1 + ε) × vanilla's best smoothed loss, so that vanilla's own value is its compute to
    convergence. Only seeds that vanilla finished too are in the series.
    """
    targets = tables.by_seed(task, REFERENCE, lambda _, curve: measures.target_loss(curve, rule))

    def measure(run: pd.Series, curve: pd.DataFrame) -> float:
        target = targets[int(run["seed"])]
        return measures.macs_to_reach(curve, target, ledger, bool(run["charges_probe"]), rule)

    done = tables.finished(task, method)
    rows = done[done["seed"].isin(targets.index)]
    return pd.Series(
        {int(run["seed"]): measure(run, tables.curve(run["run"])) for _, run in rows.iterrows()}, dtype=float
    )


def equal_compute_advantage(tables: Tables, task: str, method: str, other: str, ledger: str) -> Interval:
    """Validation loss of ``other`` minus that of ``method`` at equal total compute, paired by seed.

    Both are read at the smaller of the pair's final computes, linear between evaluations; positive means
    that ``method`` is better. The run that spends faster is read before its learning-rate schedule ends.
    """
    first, second = (curves(tables, task, name) for name in (method, other))
    values = []
    for seed in sorted(set(first) & set(second)):
        budget = min(
            measures.final_macs(curve, ledger, charged) for curve, charged in (first[seed], second[seed])
        )
        mine, theirs = (
            measures.loss_at(curve, budget, ledger, charged) for curve, charged in (first[seed], second[seed])
        )
        values.append(theirs - mine)
    return mean_interval(values)


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
    return tables.by_seed(task, method, lambda _, curve: measures.best_loss(curve))


def still_improving(tables: Tables, task: str, method: str, rule: Convergence) -> int:
    """Finished runs whose budget ended before they had converged (``measures.converged_at_end``)."""
    return int(
        tables.by_seed(task, method, lambda _, curve: float(measures.converged_at_end(curve, rule))).sum()
    )


def wall_clock(tables: Tables, task: str, method: str) -> pd.Series:
    """Seconds of training and charged probes by seed."""
    return tables.by_seed(
        task, method, lambda run, curve: measures.wall_clock(curve, bool(run["charges_probe"]))
    )


def wall_clock_to_convergence(tables: Tables, task: str, method: str, rule: Convergence) -> pd.Series:
    """Seconds of training and charged probes until convergence, by seed."""

    def measure(run: pd.Series, curve: pd.DataFrame) -> float:
        return measures.wall_clock_to_convergence(curve, bool(run["charges_probe"]), rule)

    return tables.by_seed(task, method, measure)


def whole_run_macs(tables: Tables, task: str, method: str, ledger: str) -> pd.Series:
    """Total MACs of the whole run by seed, charged probes included."""

    def measure(run: pd.Series, curve: pd.DataFrame) -> float:
        return measures.final_macs(curve, ledger, bool(run["charges_probe"]))

    return tables.by_seed(task, method, measure)


def active_share_percent(tables: Tables, task: str, method: str) -> pd.Series:
    """Mean share of active modules by seed, in percent."""
    return 100 * tables.by_seed(task, method, lambda _, curve: measures.mean_active_share(curve))


def probe_share_percent(tables: Tables, task: str, method: str, ledger: str) -> pd.Series:
    """Charged probes and eigen-solves by seed, in percent of the run's total compute."""

    def measure(run: pd.Series, curve: pd.DataFrame) -> float:
        return 100 * measures.probe_share(curve, ledger, bool(run["charges_probe"]))

    return tables.by_seed(task, method, measure)


def gap_closed_percent(runs: pd.DataFrame) -> Interval:
    """Share of the gap unigram loss → floor that the test loss closes, in percent; NaN without bounds."""
    columns = ("bound_unigram_test", "bound_floor_test")
    if any(name not in runs.columns for name in columns) or runs.empty:
        return mean_interval([])
    unigram, floor = (runs[name] for name in columns)
    return mean_interval(100 * (unigram - runs["test_loss"]) / (unigram - floor))


def curves(tables: Tables, task: str, method: str) -> dict[int, tuple[pd.DataFrame, bool]]:
    """Finished runs by seed: curve, and whether the run is charged for its probes."""
    done = tables.finished(task, method)
    return {
        int(run["seed"]): (tables.curve(run["run"]), bool(run["charges_probe"])) for _, run in done.iterrows()
    }
