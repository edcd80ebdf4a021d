"""Two tables of results beside each other, and two of verdicts: the numbers and the words that changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mat.evidence.stats.intervals import Interval

# what a row of results.csv says first, and in which unit
MEASURES = {"test_metric": "", "best_validation_loss": "", "saving_executed_percent": "%", "active_share_percent": "%"}
NUMBERS = ("n_finished", *(f"{measure}_{end}" for measure in MEASURES for end in ("mean", "low", "high")))


@dataclass(frozen=True)
class Number:
    """One number of both tables that is not the same. ``overlap``: whether the intervals have a value in common; None
    where one has no interval or no number."""

    task: str
    method: str
    measure: str
    a: Interval
    b: Interval

    @property
    def overlap(self) -> bool | None:
        if not np.isfinite([self.a.low, self.a.high, self.b.low, self.b.high]).all():
            return None
        return self.a.low <= self.b.high and self.b.low <= self.a.high

    @property
    def inside(self) -> bool | None:
        """Whether a's mean lies in b's interval; None where b has no interval, or a no number."""
        if not np.isfinite([self.a.mean, self.b.low, self.b.high]).all():
            return None
        return self.b.low <= self.a.mean <= self.b.high


@dataclass(frozen=True)
class Change:
    """A verdict that both have, over ``task`` ("all": over all of them), in other words."""

    claim: str
    task: str
    a: str
    b: str


def numbers(a: pd.DataFrame, b: pd.DataFrame) -> tuple[list[Number], int]:
    """The numbers of rows (task, method) of both tables that differ, and how many are the same."""
    changed, same = [], 0
    left, right = (_by(frame, "task", "method") for frame in (a, b))
    for row in left:
        for measure in MEASURES if row in right else ():
            one, two = (_interval(table[row], measure) for table in (left, right))
            if np.array_equal(one[:3], two[:3], equal_nan=True):
                same += 1
            else:
                changed.append(Number(*row, measure, one, two))
    return changed, same


def verdicts(a: pd.DataFrame, b: pd.DataFrame) -> tuple[list[Change], int]:
    """The verdicts that changed, over all tasks and on each, and how many are the same."""
    left, right = (_by(frame, "claim", "task") for frame in (a, b))
    both = [(row, left[row]["verdict"], right[row]["verdict"]) for row in left if row in right]
    changed = [Change(*row, one, two) for row, one, two in both if one != two]
    return changed, len(both) - len(changed)


def unmatched(a: pd.DataFrame, b: pd.DataFrame, *keys: str) -> tuple[list[str], list[str]]:
    """Rows, by ``keys``, that only a has, and only b."""
    left, right = ([" ".join(map(str, row)) for row in _by(frame, *keys)] for frame in (a, b))
    return [row for row in left if row not in set(right)], [row for row in right if row not in set(left)]


def _by(frame: pd.DataFrame, *keys: str) -> dict[tuple[str, str], dict[str, Any]]:
    """The first row of each pair of ``keys``, in the order of the table."""
    return frame.drop_duplicates(list(keys)).set_index(list(keys)).to_dict("index")


def _interval(row: Mapping[str, Any], measure: str) -> Interval:
    mean, low, high = (float(row.get(f"{measure}_{end}", np.nan)) for end in ("mean", "low", "high"))
    return Interval(mean, low, high, int(row["n_finished"]))
