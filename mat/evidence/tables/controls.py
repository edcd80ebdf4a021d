"""The controls table (X1): selections of exactly MAT's number of active modules, by something else than λ_max."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mat.evidence.measures import over_seeds
from mat.evidence.runs import method_groups, metrics
from mat.evidence.runs.pooled import Tables
from mat.evidence.stats.intervals import mean_interval, paired_difference
from mat.evidence.tables.columns import LEDGER, count, read, spread_out, stands_on
from mat.evidence.tables.record import Given, Labels, Table, Traced
from mat.evidence.tables.sections import Page, Section, both, by_task
from mat.evidence.text import format, words
from mat.records.costs import FLOPS_PER_MAC, flop_unit

AGAINST = ("largest", "random")  # by λ_max, and by nothing
FOLLOWED = ("mat", "mat_exact")  # whose numbers of modules they have
SHOWN = (*FOLLOWED, "random", *method_groups.GROUPS["controls"])


def controls(tables: Tables) -> pd.DataFrame:
    """One row per task × label of ``SHOWN`` with runs, on tasks with another one than MAT's.

    Losses are in ``loss_unit``, the test metric in its own unit, compute is of the whole run in ``ledger``, charged
    probes included. ``loss_minus_…``: best validation loss minus that of the label, paired by seed; positive is worse;
    ``random`` is the label in ``random_label``, the one in the backward mode of ``largest``.
    """
    rows = []
    for task in tables.tasks:
        found = [label for label in method_groups.ordered(SHOWN) if label in tables.methods(task)]
        if set(found) - set(FOLLOWED):
            rows += [_row(tables, task, label) for label in found]
    return pd.DataFrame(rows, columns=None if rows else ["scale", "task", "method"])


def random_label(tables: Tables, task: str) -> str:
    """``random_exact`` where it has runs, else ``random``."""
    return "random_exact" if "random_exact" in tables.methods(task) else "random"


def _row(tables: Tables, task: str, label: str) -> dict[str, Any]:
    done, runs = tables.finished(task, label), tables.of(task, label)
    first, best = runs.iloc[0], over_seeds.best_losses(tables, task, label)
    how = metrics.shown(first["metric"], first["loss_unit"])
    compute = FLOPS_PER_MAC * over_seeds.whole_run_macs(tables, task, label, LEDGER)
    row: dict[str, Any] = {
        "scale": tables.scale, "task": task, "method": label, "n_finished": len(done),
        "n_diverged": len(runs) - len(done), "metric": first["metric"], "loss_unit": first["loss_unit"],
        "ledger": LEDGER, "mode": first["mode"],
    }  # fmt: skip
    for name, measure in over_seeds.SHARES.items():
        row |= spread_out(name, mean_interval(measure(tables, task, label)))
    row |= spread_out("best_validation_loss", mean_interval(best))
    row |= spread_out("test_metric", mean_interval(done["test_metric"]).cut(how.low, how.high))
    row["random_label"] = random_label(tables, task)
    for other in AGAINST:
        named = row["random_label"] if other == "random" else other
        gap = paired_difference(best, over_seeds.best_losses(tables, task, named))
        row |= spread_out(f"loss_minus_{other}", gap, counted=True)
    return row | spread_out("compute_flop", mean_interval(compute))


def page(frame: pd.DataFrame, tables: Tables) -> Page:
    """The table to read."""
    return Page(
        "controls",
        "Is it λ_max? Controls at equal active share.",
        "In every interval each selection has exactly as many active modules as the run of MAT that it follows, with "
        "the same seed; in one backward mode they differ in which modules those are. The verdict is X1's.",
        by_task(frame, _section, "No runs of controls at this scale."),
        [
            "largest: by λ_max; gradient_norm: by the norm of the module's gradient; random: drawn anew in every "
            "interval (random_exact: by exact gradients), random_once: once; shuffled: λ_max of another module; "
            "smallest: by the smallest λ_max; depth: from the input (low) or the output (high); kind: heads or "
            "feed-forward blocks first.",
            "Differences of best validation loss are paired by seed; positive means worse than the label named. "
            "Compute is of the whole run and holds the probes of whoever reads them.",
            "Reached: of all modules, those that were active and that a gradient reached in the step that ran.",
            "MAT itself is no selection by λ_max alone: its temporal policy freezes modules too.",
        ],
    )


def _section(task: str, rows: pd.DataFrame) -> Section:
    first = rows.iloc[0]
    loss, metric = first["loss_unit"], first["metric"]
    factor, unit = flop_unit(rows["compute_flop_mean"].max())
    how = metrics.shown(metric, loss)
    header = (
        "selection", "mode", "n", "active, %", "reached, %", f"best validation loss, {loss}",
        f"test {metrics.title(metric, loss)}",
        *(f"loss minus that of {words.method(_named(first, other))}, {loss}" for other in AGAINST), f"compute, {unit}",
    )  # fmt: skip
    digits = format.decimals_for(rows["compute_flop_mean"].max() / factor)
    cells = [
        (
            words.method(row["method"]), row["mode"], count(row),
            *(format.interval(read(row, name), 1) for name in over_seeds.SHARES),
            format.interval(read(row, "best_validation_loss"), 4),
            format.interval(read(row, "test_metric").scaled(how.factor), 2 if how.factor > 1 else 4),
            *(_gap(row, other) for other in AGAINST),
            format.interval(read(row, "compute_flop").scaled(1 / factor), digits),
        )
        for _, row in rows.iterrows()
    ]  # fmt: skip
    absent = [label for label in SHOWN if label not in set(rows["method"])]
    missing = f" Not tested here: {', '.join(map(words.method, absent))}." if absent else ""
    return Section(task, stands_on(rows, unit) + missing, header, cells)


def _gap(row: pd.Series, other: str) -> str:
    if row["method"] == _named(row, other):
        return format.MISSING
    return format.interval(read(row, f"loss_minus_{other}", f"loss_minus_{other}_n"), 4)


def _named(row: pd.Series, other: str) -> str:
    return row["random_label"] if other == "random" else other


def _behind(_: Given, row: pd.Series, column: str) -> Labels:
    """The selection's runs, and those of the one that it is subtracted from."""
    against = [_named(row, other) for other in AGAINST if column.startswith(f"loss_minus_{other}")]
    return {(row["task"], name) for name in (row["method"], *against)}


TABLE = Table(
    "controls",
    "Controls: is it λ_max?",
    lambda given: controls(given.tables),
    **both(lambda frame, given: page(frame, given.tables)),
    traced=Traced(_behind),
    place=50,
)
