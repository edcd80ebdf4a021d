"""The words of a verdict, and what the verdicts on several tasks make together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from mat.evidence.stats.intervals import Interval
from mat.evidence.text.format import ALL

SUPPORTED = "supported"
PARTLY = "partly"
NOT_SUPPORTED = "not supported"
INCONCLUSIVE = "inconclusive"
NOT_TESTED = "not tested at this scale"
INVALID = "invalid"  # every reading that was run trains nothing of what it selects
VERDICTS = (SUPPORTED, PARTLY, NOT_SUPPORTED, INCONCLUSIVE, INVALID, NOT_TESTED)


def combine(verdicts: Iterable[str], mixed: str, any_inconclusive: str) -> str:
    """One verdict over tasks; tasks that were not tested, or are invalid, are left out.

    All equal: that one. Otherwise, when any is inconclusive: ``any_inconclusive``; else ``mixed``.
    """
    verdicts = set(verdicts)
    tested = verdicts - {NOT_TESTED, INVALID}
    if not tested:
        return INVALID if INVALID in verdicts else NOT_TESTED
    if len(tested) == 1:
        return tested.pop()
    return any_inconclusive if INCONCLUSIVE in tested else mixed


def tops(frame: pd.DataFrame) -> pd.DataFrame:
    """Of a table of verdicts each claim's row over all tasks; rows of pooled effects follow it there."""
    return frame[frame["task"] == ALL].drop_duplicates("claim")


def effect_of(row: Any) -> Interval:
    """The effect that a row of a table of verdicts holds, a series or a mapping, with its interval."""
    return Interval(*(float(row[name]) for name in ("effect", "low", "high")), int(row["n"]))
