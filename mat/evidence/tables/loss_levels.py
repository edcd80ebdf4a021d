"""The table of compute to fixed levels of the loss: what each method saves on the way to each."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from mat.evidence.measures import levels
from mat.evidence.runs.pooled import REFERENCE, Tables
from mat.evidence.stats.censored import COVERAGE
from mat.evidence.stats.intervals import mean_interval
from mat.evidence.tables.columns import EXECUTED, LEDGER, count, read, spread_out
from mat.evidence.tables.record import Table, Traced
from mat.evidence.tables.sections import Page, Section, both, by_task
from mat.evidence.text import format, words
from mat.records.costs import FLOPS_PER_MAC

COVERED = "; ".join(
    f"{100 * share:g} % of ratios censored, n = {n}: {100 * held:.0f} %"
    for n, by_share in COVERAGE.items()
    for share, held in by_share.items()
)


def loss_levels(tables: Tables) -> pd.DataFrame:
    """One row per task × method × level: ``fraction`` of vanilla's way in log loss, ``loss`` there in ``loss_unit``,
    ``n_reached`` of ``n_paired`` seeds; the mean compute of those that reached it; the saving against vanilla, in which
    runs that did not are censored."""
    rows = [
        _row(tables, task, method, part, level)
        for task in tables.tasks
        for method in tables.methods(task)
        for part, level in levels.log_levels(tables, task).items()
    ]
    return pd.DataFrame(rows, columns=None if rows else ["scale", "task", "method"])


def _row(tables: Tables, task: str, method: str, part: float, level: float) -> dict[str, Any]:
    runs, done = tables.of(task, method), tables.finished(task, method)
    saved, reached = levels.saving_to_level(tables, task, method, level, LEDGER)
    spent = mean_interval(levels.to_level(tables, task, method, level, LEDGER))
    row: dict[str, Any] = {
        "scale": tables.scale, "task": task, "method": method, "n_finished": len(done),
        "n_diverged": len(runs) - len(done), "ledger": LEDGER, "fraction": part, "loss": math.exp(level),
        "loss_unit": tables.loss_unit(task), "n_reached": int(reached.sum()), "n_paired": len(reached),
    }  # fmt: skip
    row |= spread_out("compute_to_level_flop", spent.scaled(FLOPS_PER_MAC), counted=True)
    return row | spread_out("saving_to_level_percent", saved, counted=True)


def page(frame: pd.DataFrame, tables: Tables) -> Page:
    """The table to read."""
    return Page(
        "loss_levels",
        "How much compute to the same loss?",
        "Savings of vanilla's compute on the way to fixed levels of the validation loss; the verdict is C4b's.",
        by_task(frame, _section, "No finished runs of vanilla at this scale."),
        [
            "A level is a share of vanilla's way, in log loss, from its first evaluation to its last, each the median "
            "over its seeds; 100 % is vanilla's median final loss.",
            "Compute to a level is read off a fit of log loss on compute that never rises (isotonic regression), "
            "linear between evaluations.",
            "In brackets, how many of the paired seeds reached the level. One that did not is censored at all that it "
            "spent: log ratios are taken as normal, the mean is that of the largest likelihood, and its interval is "
            "Student's with one degree of freedom fewer than ratios are known. Of intervals that say 95 %, the true "
            f"mean is in: {COVERED} (`python -m tests.benchmarks.coverage`).",
            "A run of vanilla that does not reach a level counts with its whole run, which favours vanilla.",
        ],
    )


def _section(task: str, rows: pd.DataFrame) -> Section:
    about = rows.drop_duplicates("fraction")
    named = "; ".join(f"{100 * row.fraction:g} %: {row.loss:.4g} {row.loss_unit}" for row in about.itertuples())
    header = ("method", "n", *(f"saved to {100 * part:g} %, %" for part in about["fraction"]))
    cells = [
        (words.method(method), count(own.iloc[0]), *(_cell(row) for _, row in own.iterrows()))
        for method, own in rows[rows["method"] != REFERENCE].groupby("method", sort=False)
    ]
    return Section(task, f"Paired by seed; {EXECUTED}. Levels: {named}.", header, cells)


def _cell(row: pd.Series) -> str:
    saved = read(row, "saving_to_level_percent", "saving_to_level_percent_n")
    return f"{format.interval(saved, 1)} ({row['n_reached']} of {row['n_paired']})"


TABLE = Table(
    "loss_levels",
    "Compute to fixed levels of the loss",
    lambda given: loss_levels(given.tables),
    **both(lambda frame, given: page(frame, given.tables)),
    traced=Traced(),
    place=25,
)
