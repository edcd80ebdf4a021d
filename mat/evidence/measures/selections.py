"""What a run's intervals selected and trained once the first was over: that one begins before anything was learned."""

from __future__ import annotations

import pandas as pd

from mat.evidence.runs.pooled import Tables

COUNTS = ["active", "reached"]


def after_first(tables: Tables, task: str, method: str) -> pd.DataFrame:
    """One row per finished run and interval after its first: ``seed``, how many modules were ``active``, how many of
    them a gradient ``reached`` (mean over its steps), and the number of ``modules``. An interval without steps, or
    recorded without what a gradient reached, is not in it."""
    runs = tables.finished(task, method)
    rows = tables.probe_columns(["run", "interval", *COUNTS], list(runs["run"]))
    rows = rows.assign(seed=rows["run"].map(dict(zip(runs["run"], runs["seed"], strict=True))).astype("int64"))
    rows = rows[rows["interval"] > rows.groupby("seed")["interval"].transform("min")]
    groups = rows.groupby(["seed", "interval"])
    counts, sizes = groups[COUNTS].sum(skipna=False), groups.size().rename("modules")
    return counts.join(sizes).dropna().reset_index().astype(dict.fromkeys(COUNTS, float))


def reached_ratio(rows: pd.DataFrame) -> pd.Series:
    """Reached modules per active one, by seed, of rows by ``after_first``."""
    sums = rows.groupby("seed")[COUNTS].sum()
    return sums["reached"] / sums["active"]


def reached_percent(rows: pd.DataFrame) -> pd.Series:
    """Mean share of all modules that were reached, by seed, in percent."""
    return 100 * (rows["reached"] / rows["modules"]).groupby(rows["seed"]).mean()


def choosing_percent(rows: pd.DataFrame, least: float) -> pd.Series:
    """Share of the intervals in which at least ``least`` modules were reached, by seed, in percent."""
    return 100 * (rows["reached"] >= least).groupby(rows["seed"]).mean()
