"""The rivals table to read."""

from __future__ import annotations

import pandas as pd

from mat.evidence.runs import metrics
from mat.evidence.runs.curves import Convergence
from mat.evidence.runs.pooled import REFERENCE, Tables
from mat.evidence.stats.bootstrap import COVERAGE
from mat.evidence.stats.intervals import CONFIDENCE, Interval
from mat.evidence.tables.page import Page, Section, count, read, stands_on
from mat.evidence.tables.rivals import KINDS, OVER_TASKS
from mat.evidence.text import format
from mat.records.costs import flop_unit


def page(frame: pd.DataFrame, tables: Tables, rule: Convergence) -> Page:
    """Over tasks first, then one section per task."""
    pooled, own = frame[frame["task"] == OVER_TASKS], frame[frame["task"] != OVER_TASKS]
    sections = [_pooled(pooled)] if len(pooled) else []
    sections += [_section(task, rows) for task, rows in own.groupby("task", sort=False)]
    return Page(
        "rivals",
        "Every method at equal compute, at equal loss and at convergence.",
        "All are compared with vanilla, with the same seeds, batches and initial weights; whoever probes pays for it.",
        sections or [Section("Not tested", "No runs of vanilla at this scale.")],
        [
            "At equal compute: vanilla's validation loss minus the method's, at the smaller of the two final "
            "computes; "
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


def _pooled(rows: pd.DataFrame) -> Section:
    header = (
        "method",
        "runs",
        "tasks",
        "share of vanilla's progress",
        *(f"P(better), {_said(k)}" for k in KINDS),
    )
    cells = []
    for _, row in rows.iterrows():
        better = [
            Interval(row[f"better_{k}"], row[f"better_{k}_low"], row[f"better_{k}_high"], 0) for k in KINDS
        ]
        cells.append(
            (row["method"], count(row), str(len(row["tasks"].split())),
             format.interval(read(row, "score_interquartile_mean"), 3), *(format.interval(p, 2) for p in better))
        )  # fmt: skip
    bounds = f"[{100 * CONFIDENCE:.0f} % stratified bootstrap]"
    about = (
        f"Interquartile mean over runs and mean probability over tasks {bounds}, runs as counted; no unit."
    )
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
            (row["method"], count(row), format.MISSING if own else gain, better[0],
             f"{equal} ({row['compute_to_vanilla_best_flop_n']:.0f} of {row['n_with_vanilla']:.0f})", saved, better[1],
             format.interval(read(row, "compute_to_convergence_flop").scaled(1 / factor), digits), whole,
             format.interval(read(row, "best_validation_loss"), 4), metric_text, better[2])
        )  # fmt: skip
    notes = "".join(f" {row.method}: {row.note}; left out." for row in rows.itertuples() if row.note)
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


def _said(kind: str) -> str:
    return {"equal_compute": "equal compute", "equal_loss": "equal loss", "convergence": "test metric"}[kind]
