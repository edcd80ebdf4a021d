"""Which mean a number is, and over how many seeds its table says it is."""

from __future__ import annotations

import math

import pandas as pd

from mat.evidence.tables.record import GEOMETRIC, MEAN


def combined(how: str, values: list[float]) -> float:
    """The mean ``how`` of values; NaN where it has none."""
    if how == MEAN:
        return sum(values) / len(values)
    ratios = values if how == GEOMETRIC else [1 - value / 100 for value in values]
    if not all(ratio > 0 for ratio in ratios):
        return math.nan
    middle = math.exp(sum(map(math.log, ratios)) / len(ratios))
    return middle if how == GEOMETRIC else 100 * (1 - middle)


def counted(row: pd.Series, column: str) -> int | None:
    """The n that the table gives to a number; None where it gives none."""
    for name in (f"{column.removesuffix('_mean')}_n", "n", "n_finished"):
        if name in row.index and pd.notna(row[name]):
            return int(row[name])
    return None
