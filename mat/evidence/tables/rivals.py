"""The rivals table: every method against vanilla at equal compute, at equal loss and at convergence, and over tasks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mat.evidence.measures import curves, over_seeds
from mat.evidence.measures.curves import Convergence
from mat.evidence.runs import method_groups, metrics
from mat.evidence.runs.pooled import REFERENCE, Tables
from mat.evidence.stats.bootstrap import (
    COVERAGE,
    comparison,
    interquartile_mean,
    probability_of_improvement,
    stratified,
    stratified_improvement,
    wins,
)
from mat.evidence.stats.intervals import CONFIDENCE, Interval, mean_interval, pairs, saving_percent
from mat.evidence.tables.columns import LEDGER, count, read, spread_out, stands_on
from mat.evidence.tables.record import Given, Labels, Table, Traced, compared
from mat.evidence.tables.sections import Page, Section, both
from mat.evidence.text import format, words
from mat.records.costs import FLOPS_PER_MAC, flop_unit

GROUPS = ("reference", "MAT", "baselines", "rivals", method_groups.OTHERS)
KINDS = {"equal_compute": "equal compute", "equal_loss": "equal loss", "convergence": "test metric"}
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
    won = {
        (task, label, kind): matrix(tables, task, label, kind, rule)
        for task in tasks
        for label in found[task]
        for kind in KINDS
        if label != REFERENCE and not is_vanilla(tables, task, label)
    }
    rows = [_row(tables, task, label, rule, won) for task in tasks for label in found[task]]
    methods = method_groups.ordered({label for own in found.values() for label in own} - {REFERENCE})
    rows += [_over_tasks(tables, label, won) for label in methods]
    return pd.DataFrame(rows, columns=None if rows else ["scale", "task", "method"])


def matrix(tables: Tables, task: str, method: str, kind: str, rule: Convergence) -> np.ndarray:
    """(runs of the method) × (runs of vanilla): 1 where the method's is better in the sense of ``kind``, ½ where they
    are equal; a diverged run is worse than a finished one and equal to another."""
    mine, theirs = (_runs(tables, task, name) for name in (method, REFERENCE))
    if kind == "convergence":
        higher = next(iter(tables.metrics(task).values()))
        runs = (tables.of(task, name) for name in (method, REFERENCE))
        return comparison(*(each["test_metric"].where(each["status"] == "finished").tolist() for each in runs), higher)

    found = comparison(*([0.0 if run else np.nan for run in runs] for runs in (mine, theirs)), True)
    done = [np.array([run is not None for run in runs], dtype=bool) for runs in (mine, theirs)]
    x, y = ([run for run in runs if run is not None] for runs in (mine, theirs))
    if x and y:
        first, second = _losses(x, y) if kind == "equal_compute" else _macs(x, y, rule)
        found[np.ix_(*done)] = wins(-first, -second)
    return found


def _losses(x: list[curves.Charged], y: list[curves.Charged]) -> tuple[np.ndarray, np.ndarray]:
    """(runs of x) × (runs of y): the losses of both at the smaller of the pair's final computes."""
    ends = [np.array([curves.final_macs(curve, LEDGER, charged) for curve, charged in runs]) for runs in (x, y)]
    budgets = np.minimum(ends[0][:, None], ends[1][None, :])
    first = [curves.loss_at(curve, at, LEDGER, charged) for (curve, charged), at in zip(x, budgets, strict=True)]
    second = [curves.loss_at(curve, at, LEDGER, charged) for (curve, charged), at in zip(y, budgets.T, strict=True)]
    return np.array(first), np.array(second).T


def _macs(x: list[curves.Charged], y: list[curves.Charged], rule: Convergence) -> tuple[np.ndarray, np.ndarray]:
    """(runs of x) × (runs of y): the compute of both to reach the converged loss of the one of y."""
    targets = np.array([curves.target_loss(curve, rule) for curve, _ in y])
    first = [curves.macs_to_reach(curve, targets, LEDGER, rule, charged) for curve, charged in x]
    own = [
        curves.macs_to_reach(curve, target, LEDGER, rule, charged)
        for (curve, charged), target in zip(y, targets, strict=True)
    ]
    return np.array(first), np.array(own)[None, :]


def _runs(tables: Tables, task: str, method: str) -> list[curves.Charged | None]:
    """All runs by seed; None for one that diverged."""
    done = over_seeds.curves(tables, task, method)
    return [done.get(int(seed)) for seed in tables.of(task, method)["seed"]]


def is_vanilla(tables: Tables, task: str, label: str) -> bool:
    """Whether a label of ``STOPPED_EARLY`` has as many steps as vanilla in every seed: MAT, whose compute it may spend,
    spends no less than vanilla there."""
    if label not in STOPPED_EARLY:
        return False
    ends = [tables.by_seed(task, name, over_seeds.of_curve, curves.value_at, "step", -1) for name in (label, REFERENCE)]
    common = pairs(*ends)
    spent = [over_seeds.whole_run_macs(tables, task, name, LEDGER).mean() for name in ("mat", REFERENCE)]
    return bool(len(common)) and bool((common["first"] == common["second"]).all()) and bool(spent[0] >= spent[1])


def _row(
    tables: Tables, task: str, label: str, rule: Convergence, won: dict[tuple[str, str, str], np.ndarray]
) -> dict[str, Any]:
    runs, done = tables.of(task, label), tables.finished(task, label)
    first = runs.iloc[0]
    how = metrics.shown(first["metric"], first["loss_unit"])
    reach = over_seeds.macs_to_reference_best(tables, task, label, LEDGER, rule)
    macs, base = (over_seeds.convergence_macs(tables, task, name, LEDGER, rule) for name in (label, REFERENCE))
    gain = over_seeds.equal_compute_advantage(tables, task, label, REFERENCE, LEDGER)
    row: dict[str, Any] = {
        "scale": tables.scale, "task": task, "method": label, "group": method_groups.group(label),
        "n_finished": len(done), "n_diverged": len(runs) - len(done), "metric": first["metric"],
        "loss_unit": first["loss_unit"], "ledger": LEDGER,
    }  # fmt: skip
    row |= spread_out("loss_advantage_at_equal_compute", gain, counted=True)
    row |= spread_out("compute_to_vanilla_best_flop", mean_interval(reach).scaled(FLOPS_PER_MAC), counted=True)
    row |= {"n_with_vanilla": len(reach)}
    row |= spread_out("saving_at_vanilla_best_percent", saving_percent(reach, base), counted=True)
    row |= spread_out("compute_to_convergence_flop", mean_interval(macs).scaled(FLOPS_PER_MAC))
    row |= spread_out("saving_at_convergence_percent", saving_percent(macs, base), counted=True)
    row |= spread_out("best_validation_loss", mean_interval(over_seeds.best_losses(tables, task, label)))
    row |= spread_out("test_metric", mean_interval(done["test_metric"]).cut(how.low, how.high))
    none = np.empty((0, 0))
    row |= {f"better_{kind}": probability_of_improvement(won.get((task, label, kind), none)) for kind in KINDS}
    same = is_vanilla(tables, task, label)
    if same:
        row |= {name: np.nan for name, value in row.items() if isinstance(value, float)}
    return row | {"note": IS_VANILLA if same else ""}


def scores(tables: Tables, task: str, method: str) -> np.ndarray:
    """Share of vanilla's progress that each finished run makes: (L₀ − L) / (L₀ − V).

    L: the run's best validation loss; V: the mean of vanilla's; L₀: the validation loss before the first step, mean of
    vanilla's runs. So the untrained model is 0 and vanilla's mean 1 on every task, in any loss, whatever metric it is
    judged by. Empty where vanilla makes no progress: then there is nothing to share.
    """
    start = tables.by_seed(task, REFERENCE, over_seeds.of_curve, curves.value_at, "val_loss", 0).mean()
    trained = over_seeds.best_losses(tables, task, REFERENCE).mean()
    if not start > trained:
        return np.empty(0)
    return (start - over_seeds.best_losses(tables, task, method).to_numpy()) / (start - trained)


def _over_tasks(tables: Tables, label: str, won: dict[tuple[str, str, str], np.ndarray]) -> dict[str, Any]:
    """Interquartile mean of ``scores`` over all finished runs, and the mean over tasks of the probabilities of
    improvement, with stratified bootstrap bounds over the runs of the method and of vanilla."""
    groups = {
        task: scores(tables, task, label) for task in sorted({task for task, method, _ in won if method == label})
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
        own = {task: found for (task, method, of), found in won.items() if (method, of) == (label, kind)}
        better = stratified_improvement(own, "improvement", kind, label)
        row[f"better_{kind}"] = better.mean
        row |= {f"better_{kind}_low": better.low, f"better_{kind}_high": better.high}
    return row


def page(frame: pd.DataFrame, tables: Tables, rule: Convergence) -> Page:
    """Over tasks first, then one section per task."""
    pooled, own = frame[frame["task"] == OVER_TASKS], frame[frame["task"] != OVER_TASKS]
    sections = [_section_over_tasks(pooled)] if len(pooled) else []
    sections += [_section(task, rows) for task, rows in own.groupby("task", sort=False)]
    return Page(
        "rivals",
        "Every method at equal compute, at equal loss and at convergence.",
        "All are compared with vanilla, with the same seeds, batches and initial weights; whoever probes pays for it.",
        sections or [Section("Not tested", "No runs of vanilla at this scale.")],
        [
            "At equal compute: vanilla's validation loss minus the method's, at the smaller of the two final computes; "
            "the dearer run is read before its schedule has ended, which favours the cheaper one. vanilla_short, "
            "whose schedule is compressed, has no such handicap.",
            f"At equal loss: compute until {1 + rule.epsilon:g} × vanilla's best smoothed validation loss of the same "
            "seed; the mean and the saving are over the seeds that reached it (k of n), which are the better ones.",
            "At convergence: compute until the run's own convergence, and the test metric at the end. A run that "
            "stalls early converges cheaply.",
            "P(better): probability that a run of the method is better than one of vanilla's, over all pairs of runs "
            "(½ for equal ones; a loss that was never reached loses, and so does a run that diverged).",
            "Share of vanilla's progress: (L₀ − L)/(L₀ − V), with L the run's best validation loss, V the mean of "
            "vanilla's, L₀ the loss before the first step: untrained is 0, vanilla's mean 1. Over tasks: "
            f"interquartile mean over finished runs, tasks weighted equally; {100 * CONFIDENCE:.0f} % stratified "
            "bootstrap over the runs of the method and of vanilla on each task (Agarwal et al., NeurIPS 2021). "
            "Methods that were run on different tasks are not comparable by it.",
            *_caveat(own),
        ],
    )


def _section_over_tasks(rows: pd.DataFrame) -> Section:
    header = ("method", "runs", "tasks", "share of vanilla's progress", *(f"P(better), {k}" for k in KINDS.values()))
    cells = []
    for _, row in rows.iterrows():
        better = [Interval(row[f"better_{k}"], row[f"better_{k}_low"], row[f"better_{k}_high"], 0) for k in KINDS]
        cells.append(
            (words.method(row["method"]), count(row), str(len(row["tasks"].split())),
             format.interval(read(row, "score_interquartile_mean"), 3), *(format.interval(p, 2) for p in better))
        )  # fmt: skip
    bounds = f"[{100 * CONFIDENCE:.0f} % stratified bootstrap]"
    about = f"Interquartile mean over runs and mean probability over tasks {bounds}, runs as counted; no unit."
    return Section(OVER_TASKS, about, header, cells)


def _section(task: str, rows: pd.DataFrame) -> Section:
    first = rows.iloc[0]
    loss, metric = first["loss_unit"], first["metric"]
    factor, unit = flop_unit(rows["compute_to_convergence_flop_mean"].max())
    digits = format.decimals_for(rows["compute_to_convergence_flop_mean"].max() / factor)
    header = (
        "method", "n", f"loss advantage at equal compute, {loss}", "P(better)", f"compute at equal loss, {unit}",
        "saving at equal loss, %", "P(better)", f"compute to convergence, {unit}", "saving at convergence, %",
        f"best validation loss, {loss}", f"test {metrics.title(metric, loss)}", "P(better)",
    )  # fmt: skip
    how = metrics.shown(metric, loss)
    cells = []
    for _, row in rows.iterrows():
        own = row["method"] == REFERENCE
        better = [format.MISSING if own else format.number(row[f"better_{kind}"], 2) for kind in KINDS]
        equal = format.number(row["compute_to_vanilla_best_flop_mean"] / factor, digits)
        saved, whole = (
            format.MISSING if own else format.interval(read(row, f"{name}_percent"), 1)
            for name in ("saving_at_vanilla_best", "saving_at_convergence")
        )
        gain = format.interval(read(row, "loss_advantage_at_equal_compute"), 4)
        metric_text = format.interval(read(row, "test_metric").scaled(how.factor), 2 if how.factor > 1 else 4)
        cells.append(
            (words.method(row["method"]), count(row), format.MISSING if own else gain, better[0],
             f"{equal} ({row['compute_to_vanilla_best_flop_n']:.0f} of {row['n_with_vanilla']:.0f})", saved, better[1],
             format.interval(read(row, "compute_to_convergence_flop").scaled(1 / factor), digits), whole,
             format.interval(read(row, "best_validation_loss"), 4), metric_text, better[2])
        )  # fmt: skip
    notes = "".join(f" {words.method(row.method)}: {row.note}; left out." for row in rows.itertuples() if row.note)
    return Section(task, stands_on(rows, unit) + notes, header, cells)


def _caveat(own: pd.DataFrame) -> list[str]:
    """How far to trust the bootstrap where a method has fewer than ten runs on a task."""
    least = int(own["n_finished"].min()) if len(own) else 10
    if least >= 10:
        return []
    held = "; ".join(
        f"{shape}, n = {n}: {100 * percentile:.0f} %"
        for shape, by_n in COVERAGE.items()
        for n, (_, percentile) in by_n.items()
    )
    return [
        f"Bootstrap bounds are too narrow with as few runs of a method on a task as here (from {least} on). Of one "
        f"mean, bounds that say 95 % hold it in: {held} (`python -m tests.benchmarks.coverage`)."
    ]


def _behind(given: Given, row: pd.Series, column: str) -> Labels:
    """The method's runs and vanilla's where the column compares them, over every task in the rows over tasks."""
    if row["task"] != OVER_TASKS:
        return compared(given, row, column)
    pair = (row["method"], REFERENCE)
    found = [task for task in given.tables.tasks if set(pair) <= set(given.tables.methods(task))]
    return {(task, name) for task in found for name in pair}


TABLE = Table(
    "rivals",
    "Rivals of today",
    lambda given: rivals(given.tables, given.rules["claims"].convergence),
    **both(lambda frame, given: page(frame, given.tables, given.rules["claims"].convergence)),
    reads=("runs", "claims"),
    traced=Traced(_behind),
    place=60,
)
