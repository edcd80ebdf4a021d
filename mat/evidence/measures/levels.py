"""Compute to fixed levels of the validation loss: the same for every method, and not each run's own noisy best.

A task's levels lie on the way of vanilla: fractions, in log loss, of the way from its first evaluation to its last,
each the median over its seeds. What is read is a fit that never rises (isotonic regression of log loss on compute,
least squares, every evaluation alike), linear between evaluations: so noise neither reaches a level early nor loses it.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from mat.evidence.measures.over_seeds import charged, of_curve, whole_run_macs
from mat.evidence.runs.pooled import REFERENCE, Tables
from mat.evidence.stats.censored import censored_interval
from mat.evidence.stats.intervals import Interval
from mat.records.costs import total_macs

FRACTIONS = (0.5, 0.75, 0.9, 1.0)
FINAL = 1.0


def falling(curve: pd.DataFrame) -> np.ndarray:
    """(evaluations,): the fit of log validation loss that never rises."""
    from scipy import optimize

    return optimize.isotonic_regression(np.log(curve["val_loss"].to_numpy(dtype=float)), increasing=False).x


def at_level(curve: pd.DataFrame, level: float, values: pd.Series) -> float:
    """Of (evaluations,) values the one where the fit is first at most ``level``, a log loss; NaN where it never is."""
    fit, known = falling(curve), values.to_numpy(dtype=float)
    row = int(np.argmax(fit <= level)) if (fit <= level).any() else -1
    if row < 1:
        return float(known[0]) if row == 0 else math.nan
    share = (fit[row - 1] - level) / (fit[row - 1] - fit[row])
    return float(known[row - 1] + share * (known[row] - known[row - 1]))


def macs_to_level(curve: pd.DataFrame, level: float, ledger: str, charged: bool) -> float:
    """Total MACs until the fit is at most ``level``, a log loss; NaN where it never is."""
    return at_level(curve, level, total_macs(curve, ledger, charged))


def column_to_level(curve: pd.DataFrame, level: float, column: str) -> float:
    """A column of the curve there: steps, or the MACs of training alone."""
    return at_level(curve, level, curve[column])


def log_levels(tables: Tables, task: str, reference: str = REFERENCE) -> dict[float, float]:
    """Fraction → log loss; empty where no run of the ``reference`` has finished."""
    first, last = (tables.by_seed(task, reference, of_curve, _at, row).median() for row in (0, -1))
    known = math.isfinite(first) and math.isfinite(last)
    return {part: (1 - part) * first + part * last for part in FRACTIONS} if known else {}


def to_level(tables: Tables, task: str, method: str, level: float, ledger: str) -> pd.Series:
    """Total MACs to ``level``, a log loss, by seed, charged probes included; NaN where it is not reached."""
    return tables.by_seed(task, method, charged, macs_to_level, level, ledger)


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


def _at(curve: pd.DataFrame, row: int) -> float:
    return float(falling(curve)[row])
