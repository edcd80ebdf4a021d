"""How long a training step takes at an active share, beside a dense step: what X2 is judged on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from mat.evidence.measures.step_time import PROBE
from mat.evidence.runs import pool_studies
from mat.evidence.tables.record import Table
from mat.evidence.text import format, words
from mat.records.files import ENDING
from mat.records.studies import STEP_TIMES

KEY = ["mode", "active_share"]


def load(files: Iterable[Path]) -> pd.DataFrame:
    """What the study's jobs measured. Raises InputError as ``pool_studies.pool`` does."""
    return pool_studies.pool(files, (*STEP_TIMES, "device", "cpu", "threads"))


def step_times(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per task, mode and active share, and one per task of a probe: medians over rounds of executed MACs and
    of seconds, both as ratios to a dense step, and the range of the latter; ``clock``: whose seconds, on a CPU CPU
    seconds; beside them the ratio by the other clock."""
    return pd.DataFrame(row for _, one in frame.groupby("task", sort=True) for row in _of_task(one))


def _of_task(frame: pd.DataFrame) -> Iterator[dict[str, object]]:
    first = frame.iloc[0]
    clock, other = ("cpu_", "") if first["device"] == "cpu" else ("", "cpu_")
    ratios = {name: frame[f"{name}seconds"] / frame[f"dense_{name}seconds"] for name in (clock, other)}
    frame = frame.assign(ratio=ratios[clock], other=ratios[other])
    about = {
        "dense_macs": float(first["dense_macs"]),
        "dense_seconds": float(frame[f"dense_{clock}seconds"].median()),
        "clock": "CPU seconds" if clock else "seconds on the clock",
        **{name: first[name] for name in ("modules", "model", "device", "cpu", "threads", "code_hash")},
    }
    for key, rows in frame.groupby(KEY, sort=True):
        ratio = rows["ratio"]
        yield {
            "scale": first["scale"], "task": first["task"], "family": first["family"],
            **dict(zip(KEY, key, strict=True)),
            "active": int(rows["active"].iloc[0]), "rounds": len(rows),
            "macs_ratio": float((rows["macs"] / rows["dense_macs"]).median()),
            "seconds_ratio": float(ratio.median()), "seconds_ratio_low": float(ratio.min()),
            "seconds_ratio_high": float(ratio.max()), "other_clock_ratio": float(rows["other"].median()), **about,
        }  # fmt: skip


def markdown(frame: pd.DataFrame) -> str:
    """The page."""
    scale = frame["scale"].iloc[0]
    parts = [
        f"# How long does a training step take at an active share? Scale {scale}",
        f"Made by `{format.command(scale)}`; all numbers are in `step_times.csv`.",
    ]
    for task, rows in frame.groupby("task", sort=True):
        first = rows.iloc[0]
        parts += [
            f"## {words.heading(task)}",
            f"Dense step: {format.number(1e3 * first['dense_seconds'], 3)} ms ({first['clock']}), "
            f"{format.number(first['dense_macs'] / 1e6, 3)} MMAC, {first['modules']} modules, {first['model']}; "
            f"{first['device']} ({first['cpu']}), {first['threads']} threads.",
            format.markdown_table(
                ("mode", "active share", "modules", "MAC / dense", f"{first['clock']} / dense, median [range]",
                 "by the other clock", "seconds − MAC", "rounds"),
                [_cells(row) for _, row in rows.iterrows()],
            ),
        ]  # fmt: skip
    notes = [
        "A step is forward, backward, clipping and the optimizer, by the task's recipe. Active modules are drawn at "
        "random, that share of every kind, anew in each round; MAC are executed multiply-adds of the same sets.",
        "Every measurement stands between two of dense steps; nothing else runs beside on a machine that the workflow "
        "has to itself. A probe is the task's own, its eigenvalues included.",
        "A run's seconds follow by arithmetic: between two evaluations its steps last what the line through these "
        "points says at their mean executed MAC, its charged probes what the probe here lasts per MAC.",
    ]
    return "\n\n".join([*parts, format.how_to_read(notes)])


def _cells(row: pd.Series) -> tuple[str, ...]:
    spread = f"[{row['seconds_ratio_low']:.3f}, {row['seconds_ratio_high']:.3f}]"
    above = np.nan if row["mode"] == PROBE else row["seconds_ratio"] - row["macs_ratio"]
    return (
        row["mode"], "" if row["mode"] == PROBE else f"{row['active_share']:g}", str(row["active"]),
        f"{row['macs_ratio']:.3f}", f"{row['seconds_ratio']:.3f} {spread}", f"{row['other_clock_ratio']:.3f}",
        "" if np.isnan(above) else f"{above:+.3f}", str(row["rounds"]),
    )  # fmt: skip


TABLE = Table(
    "step_times",
    "Seconds of a step by active share",
    lambda given: step_times(load(given.measured)),
    lambda frame, given: markdown(frame),
    reads=(),
    needs="step_times",
    measured=f"results/{{scale}}/step_times/*{ENDING}",
    place=81,
)
