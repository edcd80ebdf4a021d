"""Where a saving comes from: compute to a level of the loss as steps × compute of a step × what probes add.

    C_method / C_vanilla = (steps / steps) · (training a step / training a step) · (total / training),

each read at the level, so that the three factors multiply to the first, by seed and in their geometric means.
"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from mat.evidence.measures import levels
from mat.evidence.runs.pooled import REFERENCE, Tables
from mat.evidence.stats.intervals import geometric_interval
from mat.evidence.tables.columns import EXECUTED, LEDGER, read, spread_out
from mat.evidence.tables.record import Table, Traced
from mat.evidence.tables.sections import Page, Section, both, by_task
from mat.evidence.text import format, words

FACTORS = ("compute", "steps", "step_compute", "probes")


def saving_factors(tables: Tables) -> pd.DataFrame:
    """One row per task × method × level (``fraction`` of vanilla's way in log loss, ``loss`` there in ``loss_unit``):
    the method's compute to it as a ratio to vanilla's, and its factors, over the ``n_finished`` seeds of both that
    reached it. Vanilla has no row."""
    rows = [
        _row(tables, task, method, part, level)
        for task in tables.tasks
        for part, level in levels.log_levels(tables, task).items()
        for method in tables.methods(task)
        if method != REFERENCE
    ]
    return pd.DataFrame(rows, columns=None if rows else ["scale", "task", "method"])


def _row(tables: Tables, task: str, method: str, part: float, level: float) -> dict[str, Any]:
    mine, theirs = (_to_level(tables, task, label, level) for label in (method, REFERENCE))
    ratios = (mine / theirs).dropna()
    row: dict[str, Any] = {
        "scale": tables.scale, "task": task, "method": method, "ledger": LEDGER, "fraction": part,
        "loss": math.exp(level), "loss_unit": tables.loss_unit(task), "n_finished": len(ratios),
    }  # fmt: skip
    for name in FACTORS:
        row |= spread_out(f"{name}_ratio", geometric_interval(ratios[name]))
    return row


def _to_level(tables: Tables, task: str, method: str, level: float) -> pd.DataFrame:
    """By seed the compute to the level, and its factors: steps, training MACs a step, total over training."""
    total = levels.to_level(tables, task, method, level, LEDGER)
    steps, training = (
        levels.column_to_level(tables, task, method, level, column) for column in ("step", f"macs_{LEDGER}")
    )
    parts = (total, steps, training / steps, total / training)
    return pd.DataFrame(dict(zip(FACTORS, parts, strict=True)))


def page(frame: pd.DataFrame) -> Page:
    """The table to read."""
    return Page(
        "saving_factors",
        "Where does a saving come from?",
        "Compute to the same loss as vanilla's, times vanilla's: fewer or more steps × a cheaper step × probes.",
        by_task(frame, _section, "No method reached a level of vanilla's at this scale."),
        [
            "Ratios to vanilla of the same seed, geometric means over the n seeds in which both reached the level; the "
            "last three multiply to the first. Below 1 saves.",
            "Levels are those of `loss_levels.md`. Only seeds that reached one count here: a method that seldom does "
            "looks better than there.",
        ],
    )


def _section(task: str, rows: pd.DataFrame) -> Section:
    header = ("method", "level, %", "n", "compute / vanilla's", "= steps", "× a step", "× probes")
    cells = [
        (
            words.method(row["method"]),
            f"{100 * row['fraction']:g}",
            str(row["n_finished"]),
            *(_cell(row, name) for name in FACTORS),
        )
        for _, row in rows[rows["n_finished"] > 0].iterrows()
    ]
    return Section(task, f"Paired by seed; {EXECUTED}.", header, cells)


def _cell(row: pd.Series, name: str) -> str:
    return format.interval(read(row, f"{name}_ratio"), 3)


TABLE = Table(
    "saving_factors",
    "Where a saving comes from",
    lambda given: saving_factors(given.tables),
    **both(lambda frame, given: page(frame)),
    traced=Traced(),
    place=25,
)
