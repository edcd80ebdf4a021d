"""The results table: one row per task and method, every number with its interval over seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mat.evidence.runs import metrics
from mat.evidence.runs.curves import Convergence
from mat.evidence.runs.over_seeds import (
    active_share_percent,
    convergence_macs,
    equal_compute_advantage,
    gap_closed_percent,
    macs_to_reference_best,
    probe_share_percent,
    still_improving,
    wall_clock,
)
from mat.evidence.runs.pooled import REFERENCE, Tables
from mat.evidence.stats.intervals import Interval, mean_interval, paired_ratio, saving_percent
from mat.records.costs import FLOPS_PER_MAC, LEDGERS


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
