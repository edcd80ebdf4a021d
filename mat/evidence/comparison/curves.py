"""Two recordings of one run: the same to the bit, or the first step where they part and by how much."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

CLOCK = "seconds_"  # columns of wall-clock time, which no two recordings share


@dataclass(frozen=True)
class Parting:
    """How two recordings of a run compare. ``steps``: evaluations of each; ``step``: the first where they differ, None
    where they are the same; ``at``: column -> b − a at that step, for those that differ there (NaN where only one has a
    number); ``largest``: column -> largest |b − a| over all common steps."""

    run: str
    steps: tuple[int, int]
    step: int | None = None
    at: Mapping[str, float] = field(default_factory=dict)
    largest: Mapping[str, float] = field(default_factory=dict)

    @property
    def same(self) -> bool:
        """Whether every number of both is the same to the bit."""
        return self.step is None


def parting(run: str, a: pd.DataFrame, b: pd.DataFrame) -> Parting:
    """Compare two curves (a row per evaluation, with ``step``), wall-clock columns aside.

    A step or a column that only one of them has is a difference.
    """
    a, b = (_numbers(curve) for curve in (a, b))
    steps, columns = a.index.union(b.index), a.columns.union(b.columns, sort=False)
    left, right = (curve.reindex(index=steps, columns=columns) for curve in (a, b))
    differs = (left != right) & ~(left.isna() & right.isna())
    lengths = (len(a), len(b))
    if not differs.to_numpy().any():
        return Parting(run, lengths)
    first = differs.index[differs.any(axis=1)][0]
    by = right - left
    at = {name: float(by.at[first, name]) for name in columns[differs.loc[first]]}
    largest = by.abs().max()[differs.any()]
    largest = {name: float(value) for name, value in largest.items() if np.isfinite(value)}
    return Parting(run, lengths, int(first), at, largest)


def _numbers(curve: pd.DataFrame) -> pd.DataFrame:
    """The columns that a training determines, by step."""
    numbers = curve.set_index("step").select_dtypes("number").drop(columns="seed", errors="ignore")
    wanted = [name for name in numbers if not name.startswith(CLOCK) and numbers[name].notna().any()]
    return numbers[wanted].astype(np.float64).sort_index()
