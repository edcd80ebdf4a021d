"""Intervals over the columns of a row: how they are written into a table and read from it."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mat.evidence.stats.intervals import CONFIDENCE, Interval

LEDGER = "executed"  # that tables show where they show one
EXECUTED = "executed ledger, 1 MAC = 2 FLOP, charged probes included"


def read(row: pd.Series, name: str, n: str = "n_finished") -> Interval:
    """The interval that ``spread_out`` put into a row's columns."""
    return Interval(row[f"{name}_mean"], row[f"{name}_low"], row[f"{name}_high"], row[n])


def counts(rows: pd.DataFrame) -> str:
    """The numbers of finished runs of some rows: "n = 2 to 3"."""
    least, most = rows["n_finished"].min(), rows["n_finished"].max()
    return f"n = {most}" if least == most else f"n = {least} to {most}"


def stands_on(rows: pd.DataFrame, unit: str = "") -> str:
    """One sentence: interval, n, unit and ledger of a task's rows."""
    compute = f"; compute in {unit}, {EXECUTED}" if unit else ""
    return f"Mean [{100 * CONFIDENCE:.0f} % t interval] over {counts(rows)} finished seeds{compute}."


def count(row: pd.Series) -> str:
    """Finished runs, and diverged ones."""
    return f"{row['n_finished']} (+{row['n_diverged']} diverged)" if row["n_diverged"] else str(row["n_finished"])


def spread_out(name: str, value: Interval, counted: bool = False) -> dict[str, Any]:
    """An interval as columns; with ``counted`` its n as well (pairs, or seeds with a value)."""
    row = {f"{name}_mean": value.mean, f"{name}_low": value.low, f"{name}_high": value.high}
    return row | ({f"{name}_n": value.n} if counted else {})
