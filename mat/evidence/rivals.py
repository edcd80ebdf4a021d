"""The rivals table: every method against vanilla at equal compute, at equal loss and at convergence, and over tasks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mat.evidence import labels, measures, metrics, results
from mat.evidence.bootstrap import (
    comparison,
    interquartile_mean,
    probability_of_improvement,
    stratified,
    stratified_improvement,
)
from mat.evidence.measures import FLOPS_PER_MAC, Convergence
from mat.evidence.results import spread_out
from mat.evidence.statistics import mean_interval, saving_percent
from mat.evidence.tables import REFERENCE, Tables

LEDGER = "executed"
GROUPS = ("reference", "MAT", "baselines", "rivals", labels.OTHERS)
KINDS = ("equal_compute", "equal_loss", "convergence")
OVER_TASKS = "over tasks"


def rivals(tables: Tables, rule: Convergence) -> pd.DataFrame:
    """One row per task × method of ``GROUPS``; then, with task ``over tasks``, one per method (``_over_tasks``).

    ``better_…``: probability that a run of the method is better than one of vanilla's, over all pairs of runs: by
    validation loss at the smaller final compute of the two; by compute to reach the vanilla run's converged loss
    (never: worse); by the test metric at the end.
    """
    tasks = [task for task in tables.tasks if REFERENCE in tables.methods(task)]
    found = {task: labels.of_groups(tables.methods(task), GROUPS) for task in tasks}
    wins = {
        (task, label, kind): matrix(tables, task, label, kind, rule)
        for task in tasks
        for label in found[task]
        for kind in KINDS
        if label != REFERENCE
    }
    rows = [_row(tables, task, label, rule, wins) for task in tasks for label in found[task]]
    methods = labels.ordered({label for own in found.values() for label in own} - {REFERENCE})
    rows += [_over_tasks(tables, label, wins) for label in methods]
    return pd.DataFrame(rows, columns=None if rows else ["scale", "task", "method"])


def matrix(tables: Tables, task: str, method: str, kind: str, rule: Convergence) -> np.ndarray:
    """(runs of the method) × (runs of vanilla): 1 where the method's is better in the sense of ``kind``."""
    mine, theirs = (list(results.curves(tables, task, name).values()) for name in (method, REFERENCE))
    if kind == "convergence":
        higher = next(iter(tables.metrics(task).values()))
        return comparison(
            *(tables.finished(task, name)["test_metric"].tolist() for name in (method, REFERENCE)), higher
        )
    pair = _at_equal_compute if kind == "equal_compute" else _at_equal_loss
    wins = [[comparison(*pair(x, y, rule), False)[0, 0] for y in theirs] for x in mine]
    return np.array(wins, dtype=float).reshape(len(mine), len(theirs))


_Run = tuple[pd.DataFrame, bool]  # a curve, and whether it is charged for its probes


def _at_equal_compute(mine: _Run, theirs: _Run, _: Convergence) -> tuple[list[float], list[float]]:
    budget = min(measures.final_macs(curve, LEDGER, charged) for curve, charged in (mine, theirs))
    first, second = (measures.loss_at(curve, budget, LEDGER, charged) for curve, charged in (mine, theirs))
    return [first], [second]


def _at_equal_loss(mine: _Run, theirs: _Run, rule: Convergence) -> tuple[list[float], list[float]]:
    target = measures.target_loss(theirs[0], rule)
    first, second = (
        measures.macs_to_reach(curve, target, LEDGER, charged, rule) for curve, charged in (mine, theirs)
    )
    return [first], [second]


def _row(
    tables: Tables, task: str, label: str, rule: Convergence, wins: dict[tuple[str, str, str], np.ndarray]
) -> dict[str, Any]:
    runs, done = tables.of(task, label), tables.finished(task, label)
    first = runs.iloc[0]
    how = metrics.shown(first["metric"], first["loss_unit"])
    reach = results.macs_to_reference_best(tables, task, label, LEDGER, rule)
    macs, base = (results.convergence_macs(tables, task, name, LEDGER, rule) for name in (label, REFERENCE))
    gain = results.equal_compute_advantage(tables, task, label, REFERENCE, LEDGER)
    row: dict[str, Any] = {
        "scale": tables.scale, "task": task, "method": label, "group": labels.group(label),
        "n_finished": len(done), "n_diverged": len(runs) - len(done), "metric": first["metric"],
        "loss_unit": first["loss_unit"], "ledger": LEDGER,
    }  # fmt: skip
    row |= spread_out("loss_advantage_at_equal_compute", gain, counted=True)
    row |= spread_out(
        "compute_to_vanilla_best_flop", mean_interval(reach).scaled(FLOPS_PER_MAC), counted=True
    )
    row |= {"n_with_vanilla": len(reach)}
    row |= spread_out("saving_at_vanilla_best_percent", saving_percent(reach, base), counted=True)
    row |= spread_out("compute_to_convergence_flop", mean_interval(macs).scaled(FLOPS_PER_MAC))
    row |= spread_out("saving_at_convergence_percent", saving_percent(macs, base), counted=True)
    row |= spread_out("best_validation_loss", mean_interval(results.best_losses(tables, task, label)))
    row |= spread_out("test_metric", mean_interval(done["test_metric"]).cut(how.low, how.high))
    none = np.empty((0, 0))
    return row | {
        f"better_{kind}": probability_of_improvement(wins.get((task, label, kind), none)) for kind in KINDS
    }


def scores(tables: Tables, task: str, method: str) -> np.ndarray:
    """Share of vanilla's progress that each finished run makes: (L₀ − L) / (L₀ − V).

    L: the run's best validation loss; V: the mean of vanilla's; L₀: the validation loss before the first step, mean of
    vanilla's runs. So the untrained model is 0 and vanilla's mean 1 on every task, in any loss, whatever metric it is
    judged by. Empty where vanilla makes no progress: then there is nothing to share.
    """
    start = tables.by_seed(task, REFERENCE, lambda _, curve: float(curve["val_loss"].iloc[0])).mean()
    trained = results.best_losses(tables, task, REFERENCE).mean()
    if not start > trained:
        return np.empty(0)
    return (start - results.best_losses(tables, task, method).to_numpy()) / (start - trained)


def _over_tasks(tables: Tables, label: str, wins: dict[tuple[str, str, str], np.ndarray]) -> dict[str, Any]:
    """Interquartile mean of ``scores`` over all runs, and the mean over tasks of the probabilities of improvement, with
    stratified bootstrap bounds."""
    groups = {
        task: scores(tables, task, label)
        for task in sorted({task for task, method, _ in wins if method == label})
    }
    groups = {task: values for task, values in groups.items() if len(values)}
    score = stratified(groups, interquartile_mean, "interquartile mean", label)
    row: dict[str, Any] = {
        "scale": tables.scale, "task": OVER_TASKS, "method": label, "group": labels.group(label),
        "n_finished": score.n, "n_diverged": 0, "metric": "share of vanilla's progress", "loss_unit": "",
        "ledger": "none", "tasks": " ".join(groups),
    }  # fmt: skip
    row |= spread_out("score_interquartile_mean", score)
    for kind in KINDS:
        own = {task: found for (task, method, of), found in wins.items() if (method, of) == (label, kind)}
        better = stratified_improvement(own, "improvement", kind, label)
        row[f"better_{kind}"] = better.mean
        row |= {f"better_{kind}_low": better.low, f"better_{kind}_high": better.high}
    return row
