"""The rivals table: every method against vanilla at equal compute, at equal loss and at convergence, and over tasks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mat.evidence.runs import curves, method_groups, metrics, over_seeds
from mat.evidence.runs.curves import Convergence
from mat.evidence.runs.pooled import REFERENCE, Tables
from mat.evidence.stats.bootstrap import (
    comparison,
    interquartile_mean,
    probability_of_improvement,
    stratified,
    stratified_improvement,
)
from mat.evidence.stats.intervals import mean_interval, pairs, saving_percent
from mat.evidence.tables.results import spread_out
from mat.records.costs import FLOPS_PER_MAC

LEDGER = "executed"
GROUPS = ("reference", "MAT", "baselines", "rivals", method_groups.OTHERS)
KINDS = ("equal_compute", "equal_loss", "convergence")
OVER_TASKS = "over tasks"
STOPPED_EARLY = ("vanilla_cut", "vanilla_short")  # stop when MAT has spent what it spends
IS_VANILLA = "MAT spends no less than vanilla here, so stopping early is vanilla"


def rivals(tables: Tables, rule: Convergence) -> pd.DataFrame:
    """One row per task × method of ``GROUPS``; then, with task ``over tasks``, one per method (``_over_tasks``).

    ``note``: why a row has no statistics (``is_vanilla``); such a row is in no mean over tasks. ``better_…``:
    probability that a run of the method is better than one of vanilla's, over all pairs of runs: by
    validation loss at the smaller final compute of the two; by compute to reach the vanilla run's converged loss
    (never: worse); by the test metric at the end. A diverged run loses against every finished one.
    """
    tasks = [task for task in tables.tasks if REFERENCE in tables.methods(task)]
    found = {task: method_groups.of_groups(tables.methods(task), GROUPS) for task in tasks}
    wins = {
        (task, label, kind): matrix(tables, task, label, kind, rule)
        for task in tasks
        for label in found[task]
        for kind in KINDS
        if label != REFERENCE and not is_vanilla(tables, task, label)
    }
    rows = [_row(tables, task, label, rule, wins) for task in tasks for label in found[task]]
    methods = method_groups.ordered({label for own in found.values() for label in own} - {REFERENCE})
    rows += [_over_tasks(tables, label, wins) for label in methods]
    return pd.DataFrame(rows, columns=None if rows else ["scale", "task", "method"])


def matrix(tables: Tables, task: str, method: str, kind: str, rule: Convergence) -> np.ndarray:
    """(runs of the method) × (runs of vanilla): 1 where the method's is better in the sense of ``kind``, ½ where they
    are equal; a diverged run is worse than a finished one and equal to another."""
    mine, theirs = (_runs(tables, task, name) for name in (method, REFERENCE))
    if kind == "convergence":
        higher = next(iter(tables.metrics(task).values()))
        ends = (
            tables.of(task, name)["test_metric"].where(tables.of(task, name)["status"] == "finished").tolist()
            for name in (method, REFERENCE)
        )
        return comparison(*ends, higher)
    pair = _at_equal_compute if kind == "equal_compute" else _at_equal_loss

    def win(x: _Run | None, y: _Run | None) -> float:
        if x is None or y is None:
            return 0.5 if x is y else float(y is None)
        return comparison(*pair(x, y, rule), False)[0, 0]

    return np.array([[win(x, y) for y in theirs] for x in mine], dtype=float).reshape(len(mine), len(theirs))


def _runs(tables: Tables, task: str, method: str) -> list[_Run | None]:
    """All runs by seed; None for one that diverged."""
    done = over_seeds.curves(tables, task, method)
    return [done.get(int(seed)) for seed in tables.of(task, method)["seed"]]


def is_vanilla(tables: Tables, task: str, label: str) -> bool:
    """Whether a label of ``STOPPED_EARLY`` has as many steps as vanilla in every seed: MAT, whose compute it may spend,
    spends no less than vanilla there."""
    if label not in STOPPED_EARLY:
        return False
    ends = [
        tables.by_seed(task, name, lambda _, curve: float(curve["step"].iloc[-1]))
        for name in (label, REFERENCE)
    ]
    common = pairs(*ends)
    spent = [over_seeds.whole_run_macs(tables, task, name, LEDGER).mean() for name in ("mat", REFERENCE)]
    return (
        bool(len(common)) and bool((common["first"] == common["second"]).all()) and bool(spent[0] >= spent[1])
    )


_Run = tuple[pd.DataFrame, bool]  # a curve, and whether it is charged for its probes


def _at_equal_compute(mine: _Run, theirs: _Run, _: Convergence) -> tuple[list[float], list[float]]:
    budget = min(curves.final_macs(curve, LEDGER, charged) for curve, charged in (mine, theirs))
    first, second = (curves.loss_at(curve, budget, LEDGER, charged) for curve, charged in (mine, theirs))
    return [first], [second]


def _at_equal_loss(mine: _Run, theirs: _Run, rule: Convergence) -> tuple[list[float], list[float]]:
    target = curves.target_loss(theirs[0], rule)
    first, second = (
        curves.macs_to_reach(curve, target, LEDGER, charged, rule) for curve, charged in (mine, theirs)
    )
    return [first], [second]


def _row(
    tables: Tables, task: str, label: str, rule: Convergence, wins: dict[tuple[str, str, str], np.ndarray]
) -> dict[str, Any]:
    runs, done = tables.of(task, label), tables.finished(task, label)
    first = runs.iloc[0]
    how = metrics.shown(first["metric"], first["loss_unit"])
    reach = over_seeds.macs_to_reference_best(tables, task, label, LEDGER, rule)
    macs, base = (
        over_seeds.convergence_macs(tables, task, name, LEDGER, rule) for name in (label, REFERENCE)
    )
    gain = over_seeds.equal_compute_advantage(tables, task, label, REFERENCE, LEDGER)
    row: dict[str, Any] = {
        "scale": tables.scale, "task": task, "method": label, "group": method_groups.group(label),
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
    row |= spread_out("best_validation_loss", mean_interval(over_seeds.best_losses(tables, task, label)))
    row |= spread_out("test_metric", mean_interval(done["test_metric"]).cut(how.low, how.high))
    none = np.empty((0, 0))
    row |= {
        f"better_{kind}": probability_of_improvement(wins.get((task, label, kind), none)) for kind in KINDS
    }
    same = is_vanilla(tables, task, label)
    if same:
        row |= {name: np.nan for name, value in row.items() if isinstance(value, float)}
    return row | {"note": IS_VANILLA if same else ""}


def scores(tables: Tables, task: str, method: str) -> np.ndarray:
    """Share of vanilla's progress that each finished run makes: (L₀ − L) / (L₀ − V).

    L: the run's best validation loss; V: the mean of vanilla's; L₀: the validation loss before the first step, mean
    of
    vanilla's runs. So the untrained model is 0 and vanilla's mean 1 on every task, in any loss, whatever metric it is
    judged by. Empty where vanilla makes no progress: then there is nothing to share.
    """
    start = tables.by_seed(task, REFERENCE, lambda _, curve: float(curve["val_loss"].iloc[0])).mean()
    trained = over_seeds.best_losses(tables, task, REFERENCE).mean()
    if not start > trained:
        return np.empty(0)
    return (start - over_seeds.best_losses(tables, task, method).to_numpy()) / (start - trained)


def _over_tasks(tables: Tables, label: str, wins: dict[tuple[str, str, str], np.ndarray]) -> dict[str, Any]:
    """Interquartile mean of ``scores`` over all finished runs, and the mean over tasks of the probabilities of
    improvement, with stratified bootstrap bounds over the runs of the method and of vanilla."""
    groups = {
        task: scores(tables, task, label)
        for task in sorted({task for task, method, _ in wins if method == label})
    }
    asked = list(groups)
    groups = {task: values for task, values in groups.items() if len(values)}
    bases = {task: scores(tables, task, REFERENCE) for task in groups}
    score = stratified(groups, interquartile_mean, "interquartile mean", label, references=bases)
    lost = sum(int((tables.of(task, label)["status"] == "diverged").sum()) for task in asked)
    row: dict[str, Any] = {
        "scale": tables.scale, "task": OVER_TASKS, "method": label, "group": method_groups.group(label),
        "n_finished": score.n, "n_diverged": lost, "metric": "share of vanilla's progress", "loss_unit": "",
        "ledger": "none", "tasks": " ".join(groups),
    }  # fmt: skip
    row |= spread_out("score_interquartile_mean", score)
    for kind in KINDS:
        own = {task: found for (task, method, of), found in wins.items() if (method, of) == (label, kind)}
        better = stratified_improvement(own, "improvement", kind, label)
        row[f"better_{kind}"] = better.mean
        row |= {f"better_{kind}_low": better.low, f"better_{kind}_high": better.high}
    return row
