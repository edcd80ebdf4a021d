"""What the tables of branches hold: which columns are read, and how checkpoints are named and pooled."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from mat.errors import InputError
from mat.evidence.runs import pool_studies
from mat.evidence.stats.intervals import Interval, known_interval, mean_interval
from mat.evidence.text import format, words
from mat.evidence.text.format import ALL
from mat.records.files import ENDING
from mat.records.studies import BRANCHES

STUDY = {"reads": (), "needs": "branches", "measured": f"results/{{scale}}/branches/*{ENDING}"}  # of their records
MODULE, SET, NONE = "module", "set", "none"


def load(files: Iterable[Path]) -> pd.DataFrame:
    """Pool the tables of the study; ``checkpoint`` names the share of the run's steps. Raises InputError."""
    pooled = pool_studies.pool(files, BRANCHES)
    return pooled.assign(checkpoint=pooled["share"].map("{:g}".format))


def load_part(files: Iterable[Path], part: str) -> pd.DataFrame:
    """The same. Raises InputError where there are no branches of the kind ``part``."""
    pooled = load(files)
    if not (pooled["part"] == part).any():
        raise InputError(f"no branches of kind {part!r} in these tables; train some of each kind")
    return pooled


def with_mean(frame: pd.DataFrame, keys: list[str], values: list[str]) -> pd.DataFrame:
    """``frame`` (one row per ``keys``, seed and checkpoint) and, as the checkpoint ``all``, every seed's mean over its
    checkpoints; a value that some checkpoint lacks has no mean."""
    pooled = frame.groupby([*keys, "seed"], sort=False)[values].agg(lambda rows: rows.mean(skipna=False))
    return pd.concat([frame, pooled.reset_index().assign(checkpoint=ALL)], ignore_index=True)


def columns_of(value: Interval) -> dict[str, float]:
    """An interval as columns of a table."""
    return {"mean": value.mean, "low": value.low, "high": value.high, "n": value.n, "deviation": value.deviation}


def interval_at(
    table: pd.DataFrame, where: Mapping[str, str], limits: tuple[float, float] = (-np.inf, np.inf)
) -> Interval:
    """The interval of the one row with these values, of a quantity within ``limits``; unknown (NaN, n = 0) where there
    is none."""
    (places,) = np.logical_and.reduce([table[column] == value for column, value in where.items()]).nonzero()
    if not len(places):
        return mean_interval([])
    mean, low, high, n, deviation = (table[name].iat[places[0]] for name in columns_of(mean_interval([])))
    return known_interval(mean, low, high, int(n), limits, float(deviation))


def sign(value: Interval) -> str:
    """What an interval says of the sign, in words."""
    if not (math.isfinite(value.low) and math.isfinite(value.high)):
        return f"has no interval (n = {value.n})"
    if value.low <= 0 <= value.high:
        return "is not told apart from 0"
    return "is above 0" if value.low > 0 else "is below 0"


def about(frame: pd.DataFrame) -> pd.DataFrame:
    """Per family: what its numbers stand on."""
    names = ("scale", "task", "model", "loss_unit", "metric", "modules", "set_share", "noise", "corrupted", "samples",
             "probe_n", "estimator", "normalisation", "code_hash")  # fmt: skip
    return frame.groupby("family", as_index=False)[list(names)].first()


def families_text(table: pd.DataFrame) -> str:
    """One sentence per family of a table: model, task, noise, modules, probe."""
    first = table.drop_duplicates("family").sort_values("family")
    said = [
        f"{words.task(row['family'])} is {row['model']} on {words.task(row['task'])}, {row['modules']} modules"
        + (f", {100 * row['noise']:g} % of the training labels wrong" if row["noise"] else "")
        for _, row in first.iterrows()
    ]
    return "; ".join(said) + "."


def caption(table: pd.DataFrame, name: str) -> str:
    """Command, file, unit and number of seeds."""
    scale, seeds = table["scale"].iloc[0], table["n"].max()
    units = " and ".join(sorted(set(table["loss_unit"])))
    return (
        f"Made by `{format.command(scale)}`; all numbers are in `{name}`. Mean [95 % interval over seeds], n = {seeds} "
        f"seeds where nothing else is said; losses in {units}; checkpoint all: each seed's mean over its checkpoints."
    )
