"""Compute to fixed levels of the validation loss: the same for every method, and not each run's own noisy best.

A task's levels lie on the way of vanilla: fractions, in log loss, of the way from its first evaluation to its last,
each the median over its seeds. What is read is a fit that never rises (isotonic regression of log loss on compute,
least squares, every evaluation alike), linear between evaluations: so noise neither reaches a level early nor loses it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from mat.evidence.measures.curves import totals
from mat.evidence.measures.over_seeds import Row, whole_run_macs
from mat.evidence.runs.pooled import REFERENCE, Tables
from mat.evidence.stats.censored import censored_interval
from mat.evidence.stats.intervals import Interval

FRACTIONS = (0.5, 0.75, 0.9, 1.0)
FINAL = 1.0


def falling(curve: pd.DataFrame) -> np.ndarray:
    """(evaluations,): the fit of log validation loss that never rises."""
    from scipy import optimize

    return optimize.isotonic_regression(np.log(curve["val_loss"].to_numpy(dtype=float)), increasing=False).x


def at_level(fit: np.ndarray, level: float, values: np.ndarray) -> float:
    """Of (evaluations,) values the one where the ``falling`` fit is first at most ``level``, a log loss, linear between
    evaluations; NaN where it never is."""
    row = int(np.argmax(fit <= level)) if (fit <= level).any() else -1
    if row < 1:
        return float(values[0]) if row == 0 else math.nan
    share = (fit[row - 1] - level) / (fit[row - 1] - fit[row])
    return float(values[row - 1] + share * (values[row] - values[row - 1]))


def log_levels(tables: Tables, task: str, reference: str = REFERENCE) -> dict[float, float]:
    """Fraction → log loss; empty where no run of the ``reference`` has finished."""
    fits = [tables.measured(run, _fit) for run in tables.finished_runs(task, reference)]
    first, last = (pd.Series([fit[row] for fit in fits], dtype=float).median() for row in (0, -1))
    known = math.isfinite(first) and math.isfinite(last)
    return {part: (1 - part) * first + part * last for part in FRACTIONS} if known else {}


def to_level(tables: Tables, task: str, method: str, level: float, ledger: str) -> pd.Series:
    """Total MACs until the fit is at most ``level``, a log loss, by seed, charged probes included; NaN where it never
    is."""
    return _to_level(tables, task, method, level, _total, ledger)


def column_to_level(tables: Tables, task: str, method: str, level: float, column: str) -> pd.Series:
    """A column of the curve there: steps, or the MACs of training alone."""
    return _to_level(tables, task, method, level, _column, column)


def _to_level(tables: Tables, task: str, method: str, level: float, *values: Any) -> pd.Series:
    """``values``: what measures them. Each run is fitted once for all levels and columns."""
    found = {
        int(run["seed"]): at_level(tables.measured(run, _fit), level, tables.measured(run, *values))
        for run in tables.finished_runs(task, method)
    }
    return pd.Series(found, dtype=float)


def _fit(_: Row, curve: pd.DataFrame) -> np.ndarray:
    return falling(curve)


def _total(run: Row, curve: pd.DataFrame, ledger: str) -> np.ndarray:
    return totals(curve, ledger, run["charges_probe"])


def _column(_: Row, curve: pd.DataFrame, column: str) -> np.ndarray:
    return curve[column].to_numpy(dtype=float)


def saving_to_level(
    tables: Tables, task: str, method: str, level: float, ledger: str, reference: str = REFERENCE
) -> tuple[Interval, pd.Series]:
    """What ``method`` saves of the ``reference``'s compute to ``level``, percent, paired by seed, and by seed whether
    it reached it. A run of the method that does not is censored at all that it spent. The reference's counts as having
    spent no more than its whole run, which favours it: its later seeds need not reach the median of their own ends."""
    mine, theirs = (
        pd.DataFrame(
            {"to": to_level(tables, task, name, level, ledger), "all": whole_run_macs(tables, task, name, ledger)}
        )
        for name in (method, reference)
    )
    seeds = mine.index.intersection(theirs.index)
    mine, theirs = mine.loc[seeds], theirs.loc[seeds]
    reached, spent = mine["to"].notna(), [one["to"].fillna(one["all"]) for one in (mine, theirs)]
    return censored_interval(spent[0] / spent[1], reached, "saving"), reached
