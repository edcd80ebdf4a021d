"""Intervals between probes that grow while the modules' ranking stands still.

After a probe whose ranking agrees with the one before, by Kendall's τ_b, the next interval is longer by a factor, up to
a limit; after any other it is the plain one again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mat.errors import InputError
from mat.ranking import kendall, signs


@dataclass(frozen=True)
class Growth:
    """``above``: τ_b in [−1, 1) above which a ranking stands still; ``by``: whole factor ≥ 2 on the interval; ``to``:
    the longest interval, in plain ones, ≥ ``by``. Raises InputError for anything else."""

    above: float = 0.9
    by: int = 2
    to: int = 8

    def __post_init__(self) -> None:
        if not -1 <= self.above < 1:
            raise InputError(f"an interval grows above a τ_b in [-1, 1), got {self.above!r}")
        if not 2 <= self.by <= self.to:
            raise InputError(
                f"an interval grows by a whole factor ≥ 2 to at least as many plain ones, got by {self.by!r} to "
                f"{self.to!r}"
            )

    def next(self, stretch: int, before: Mapping[str, float], after: Mapping[str, float]) -> int:
        """The next interval in plain ones, after one of ``stretch``, from the modules' values at its two ends; 1 where
        they order nothing."""
        rows = [signs(np.array([[seen[name] for name in before]])) for seen in (before, after)]
        tau = float(kendall(*rows)[0])
        return min(stretch * self.by, self.to) if not math.isnan(tau) and tau > self.above else 1
