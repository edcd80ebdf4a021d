"""The learning-rate table: which factor vanilla and MAT would each choose, and what is left of a win of MAT then."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from mat.evidence.measures import over_seeds
from mat.evidence.runs.pooled import REFERENCE, Tables
from mat.evidence.stats.intervals import Interval, mean_interval
from mat.evidence.tables.columns import count, read, spread_out, stands_on
from mat.evidence.tables.record import Given, Labels, Table, Traced
from mat.evidence.tables.sections import Page, Section, both, by_task
from mat.evidence.text import format, words

FACTORS = {0.5: "_lr_half", 1.0: "", 2.0: "_lr_double"}
METHOD = "mat"
NO_WIN, SURVIVES, LOST = "no win at factor 1", "survives", "does not survive"
UNDECIDED, NOT_TESTED = "undecided", "not tested"


def learning_rate(tables: Tables) -> pd.DataFrame:
    """One row per task × method (vanilla, MAT) × factor with runs, on tasks where a factor other than 1 was run.

    ``chosen``: the factor of the smallest mean best validation loss over the seeds that all have, of those whose runs
    all finished. ``advantage_…_percent``: best validation loss of vanilla at its chosen factor minus this row's,
    percent of vanilla's, paired by seed; ``win``: of MAT's rows, whether a win at factor 1 survives.
    """
    rows = []
    for task in tables.tasks:
        tried = {name: labels_of(tables, task, name) for name in (REFERENCE, METHOD)}
        if any(len(labels) > 1 for labels in tried.values()):
            best = {name: chosen(tables, task, labels) for name, labels in tried.items()}
            rows += [
                _row(tables, task, name, factor, label, best, survival(tables, task, tried[REFERENCE], best))
                for name, labels in tried.items()
                for factor, label in labels.items()
            ]
    return pd.DataFrame(rows, columns=None if rows else ["scale", "task", "method"])


def labels_of(tables: Tables, task: str, name: str) -> dict[float, str]:
    """Factor → label, of those with runs on the task."""
    present = set(tables.methods(task))
    return {factor: name + end for factor, end in FACTORS.items() if name + end in present}


def chosen(tables: Tables, task: str, labels: dict[float, str]) -> float:
    """The factor of the smallest mean best validation loss over the seeds that every factor has; NaN without one. A
    factor with a diverged run is out."""
    losses = {
        factor: over_seeds.best_losses(tables, task, label)
        for factor, label in labels.items()
        if len(tables.finished(task, label)) == len(tables.of(task, label))
    }
    means = pd.DataFrame(losses).dropna().mean()
    return float(means.idxmin()) if means.notna().any() else np.nan


def survival(tables: Tables, task: str, reference: dict[float, str], best: dict[str, float]) -> str:
    """Whether MAT's advantage in best validation loss at factor 1 is left against the re-tuned vanilla, over the seeds
    that MAT and both vanillas have. Undecided where the interval that is asked holds 0 or is not known."""
    tuned = reference.get(best[REFERENCE])
    if len(reference) < 2 or METHOD not in tables.methods(task) or 1.0 not in reference or tuned is None:
        return NOT_TESTED
    gains = {
        label: over_seeds.best_loss_advantages_percent(tables, task, METHOD, label) for label in (REFERENCE, tuned)
    }
    common = pd.DataFrame(gains).dropna()
    won, left = (_sign(mean_interval(common[label])) for label in (REFERENCE, tuned))
    if won != 1:
        return UNDECIDED if won is None else NO_WIN
    return {1: SURVIVES, -1: LOST, None: UNDECIDED}[left]


def _sign(value: Interval) -> int | None:
    """1 for an interval above 0, −1 for one that does not reach above it, None for any other."""
    return 1 if value.low > 0 else -1 if value.high <= 0 else None


def _row(
    tables: Tables, task: str, name: str, factor: float, label: str, best: dict[str, float], win: str
) -> dict[str, Any]:
    runs, done = tables.of(task, label), tables.finished(task, label)
    tuned = labels_of(tables, task, REFERENCE).get(best[REFERENCE])
    gain = over_seeds.best_loss_advantage_percent(tables, task, label, tuned) if tuned else mean_interval([])
    row: dict[str, Any] = {
        "scale": tables.scale, "task": task, "method": name, "factor": factor, "label": label,
        "n_finished": len(done), "n_diverged": len(runs) - len(done), "loss_unit": runs["loss_unit"].iloc[0],
        "ledger": "none", "chosen": best[name] == factor, "chosen_by_vanilla": best[REFERENCE],
        "win": win if name == METHOD else "",
    }  # fmt: skip
    row |= spread_out("best_validation_loss", mean_interval(over_seeds.best_losses(tables, task, label)))
    return row | spread_out("advantage_over_tuned_vanilla_percent", gain, counted=True)


def page(frame: pd.DataFrame, tables: Tables) -> Page:
    """The table to read."""
    return Page(
        "learning_rate",
        "Is a win a learning-rate effect?",
        "Vanilla and MAT at half, one and twice the recipe's learning rate.",
        by_task(frame, _section, "No runs with another learning rate at this scale."),
        [
            "Chosen: the factor of the smallest mean best validation loss over the seeds that all factors have; both "
            "have the same three factors to choose from. A factor at which a run diverged cannot be chosen.",
            "A win survives, or does not, where the interval over common seeds lies on one side of 0; otherwise it is "
            "undecided; not tested: no vanilla at another factor, or none that finished.",
            "Advantage: best validation loss of vanilla at its chosen factor minus the row's, percent, paired by "
            "seed; positive means better than the re-tuned vanilla. Vanilla was chosen on the same runs that it is "
            "compared by, which favours vanilla. No ledger: losses are of whole runs, whatever they cost.",
        ],
    )


def _section(task: str, rows: pd.DataFrame) -> Section:
    header = (
        "method", "factor", "n", f"best validation loss, {rows['loss_unit'].iloc[0]}", "chosen",
        "advantage over re-tuned vanilla, %",
    )  # fmt: skip
    cells = []
    for _, row in rows.iterrows():
        gain = read(row, "advantage_over_tuned_vanilla_percent", "advantage_over_tuned_vanilla_percent_n")
        same = row["method"] == REFERENCE and row["chosen"]
        cells.append(
            (words.method(row["method"]), f"{row['factor']:g}", count(row),
             format.interval(read(row, "best_validation_loss"), 4),
             "yes" if row["chosen"] else "no", format.MISSING if same else format.interval(gain, 1))
        )  # fmt: skip
    wins = [win for win in rows["win"] if win]
    said = f" Win of MAT over vanilla at factor 1: {wins[0]} against the re-tuned vanilla." if wins else ""
    if wins and wins[0] in (NO_WIN, UNDECIDED, NOT_TESTED):
        said = f" Does a win of MAT survive re-tuning vanilla? {wins[0].capitalize()}."
    return Section(task, stands_on(rows) + said, header, cells)


def _behind(given: Given, row: pd.Series, column: str) -> Labels:
    """The runs of the row's factor, and all of vanilla's, among which it chose, where it is compared."""
    with_vanilla = column.startswith("advantage") or column == "chosen_by_vanilla"
    own = labels_of(given.tables, row["task"], REFERENCE).values() if with_vanilla else []
    return {(row["task"], name) for name in (row["label"], *own)}


def _by_seed(tables: Tables, row: pd.Series, column: str) -> dict[int, float]:
    """Against vanilla at the factor chosen over all seeds, which one seed alone would choose otherwise."""
    task = row["task"]
    if column.startswith("advantage"):
        tuned = labels_of(tables, task, REFERENCE).get(float(row["chosen_by_vanilla"]))
        found = over_seeds.best_loss_advantages_percent(tables, task, row["label"], tuned) if tuned else {}
    else:
        found = over_seeds.best_losses(tables, task, row["label"])
    return {int(seed): float(value) for seed, value in dict(found).items() if math.isfinite(value)}


TABLE = Table(
    "learning_rate",
    "Vanilla with its learning rate re-tuned",
    lambda given: learning_rate(given.tables),
    **both(lambda frame, given: page(frame, given.tables)),
    traced=Traced(_behind, by_seed=_by_seed),
    place=70,
)
