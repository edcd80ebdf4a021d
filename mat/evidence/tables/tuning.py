"""What tuning cost and what it chose: the log of `mat tune`, by task and method."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from mat.evidence.tables.record import RUNS, Given, Table
from mat.evidence.text import format, words
from mat.records.costs import FLOPS_PER_MAC, flop_unit
from mat.records.tuning import REFERENCE, START, read_log

PLACE = "workflows/config/tuned/{scale}.csv"


def tuning(log: pd.DataFrame) -> pd.DataFrame:
    """One row per task and method, and one per task of the runs that the others start from: configurations, runs, the
    compute of all of them, executed and with charged probes, the same in trainings of vanilla's default, CPU seconds,
    and the configuration of the smallest mean loss in the last rung. A run that two configurations share counts once.
    """
    return pd.DataFrame(row for _, one in log.groupby("task", sort=False) for row in _of_task(one))


def _of_task(log: pd.DataFrame) -> Iterator[dict[str, object]]:
    full = log[(log["method"] == REFERENCE) & (log["configuration"] == 0) & (log["share"] == 1)]
    for method, rows in log.groupby("method", sort=False):
        once = rows.drop_duplicates("run")
        last = rows[rows["competes"] & (rows["rung"] == rows["rung"].max())]
        losses = last.groupby("configuration")["loss"].mean()
        chosen = last[last["configuration"] == losses.idxmin()] if len(last) else last
        yield {
            "scale": rows["scale"].iloc[0], "task": rows["task"].iloc[0], "method": method,
            "configurations": 0 if method == START else rows["configuration"].nunique(),
            "rungs": 0 if method == START else rows["rung"].nunique(),
            "seeds": " ".join(map(str, sorted(rows["seed"].unique()))),
            "runs": len(once), "diverged": int((once["status"] == "diverged").sum()),
            "macs": int(once["macs"].sum()), "trainings": float(once["macs"].sum() / full["macs"].mean()),
            "cpu_seconds": float(once["cpu_seconds"].sum()),
            "configuration": chosen["configuration"].iloc[0] if len(chosen) else np.nan,
            "best_validation_loss": chosen["loss"].mean() if len(chosen) else np.nan,
            "settings": chosen["settings"].iloc[0] if len(chosen) else "",
        }  # fmt: skip


def markdown(frame: pd.DataFrame) -> str:
    """The page."""
    factor, unit = flop_unit(FLOPS_PER_MAC * frame["macs"].max())
    parts = [
        f"# What did tuning choose, and what did it cost? Scale {frame['scale'].iloc[0]}",
        "Chosen by `mat tune` before any judged run, on seeds that no judged run has; all numbers are in `tuning.csv`.",
    ]
    header = (
        "method", "configurations", "seeds", "runs", unit, "trainings of vanilla", "CPU s", "validation loss", "chosen",
    )  # fmt: skip
    for task, rows in frame.groupby("task", sort=False):
        cells = [_cells(row, factor) for _, row in rows.iterrows()]
        parts += [f"## {words.heading(task)}", format.markdown_table(header, cells)]
    notes = [
        "Successive halving: every configuration with little compute, the best of them with more; in each rung all "
        "methods' runs have the compute of vanilla's default, charged probes included, and a learning rate that goes "
        "to zero within it. Methods that must know their number of steps make as many, and spend no more.",
        "Validation loss: the lowest of a run, mean over the seeds of the configuration that was chosen, which is "
        "the smallest of its last rung and so flattering: it decides nothing, the judged runs have other seeds.",
        "Compute: executed, 1 MAC = 2 FLOP; of no run that is judged, and in none of their totals.",
    ]
    return "\n\n".join([*parts, format.how_to_read(notes)])


def _cells(row: pd.Series, factor: float) -> tuple[str, ...]:
    runs = f"{row['runs']} ({row['diverged']} diverged)" if row["diverged"] else str(row["runs"])
    return (
        words.method(row["method"]), str(row["configurations"]), row["seeds"], runs,
        format.number(FLOPS_PER_MAC * row["macs"] / factor, 2), format.number(row["trainings"], 2),
        format.number(row["cpu_seconds"], 1), format.number(row["best_validation_loss"], 4), row["settings"],
    )  # fmt: skip


def _compute(given: Given) -> pd.DataFrame:
    return tuning(read_log(Path(PLACE.format(scale=given.tables.scale))))


TABLE = Table(
    "tuning",
    "What tuning chose, and what it cost",
    _compute,
    lambda frame, given: markdown(frame),
    reads=(RUNS, PLACE),
    needs="tuning",
    texts=("seeds",),
    place=71,
)
