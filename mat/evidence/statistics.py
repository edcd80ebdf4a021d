"""Intervals over seeds: a mean, a paired difference, a paired ratio.

Every result carries the number of values it stands on. Fewer than two values have no variance, so
their interval is NaN: a single seed never yields a bound.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A mean with a two-sided confidence interval over ``n`` seeds."""

    mean: float
    low: float
    high: float
    n: int

    def scaled(self, factor: float) -> Interval:
        """The interval of ``factor`` times the quantity, ``factor`` > 0."""
        return Interval(self.mean * factor, self.low * factor, self.high * factor, self.n)

    def cut(self, lowest: float, highest: float) -> Interval:
        """Bounds cut to the values that the quantity can take; a t interval of a share does not know them."""
        low, high = (float(np.clip(bound, lowest, highest)) for bound in (self.low, self.high))
        return Interval(self.mean, low, high, self.n)


def mean_interval(values: Iterable[float], confidence: float = CONFIDENCE) -> Interval:
    """Student's t interval of the mean of ``values``: x̄ ± t·s/√n with n − 1 degrees of freedom.

    Non-finite values are left out and not counted in ``n``. With n = 0 everything is NaN, with n = 1
    only the mean is known.
    """
    finite = np.asarray([value for value in values if np.isfinite(value)], dtype=float)
    n = len(finite)
    if n == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    mean = float(finite.mean())
    if n == 1:
        return Interval(mean, np.nan, np.nan, 1)
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1) * finite.std(ddof=1) / np.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


def pairs(first: pd.Series, second: pd.Series) -> pd.DataFrame:
    """The seeds that both series hold a finite value for: columns ``first`` and ``second``, index seed."""
    joined = pd.DataFrame({"first": first, "second": second}, dtype=float)
    return joined[np.isfinite(joined).all(axis=1)]


def paired_difference(first: pd.Series, second: pd.Series, confidence: float = CONFIDENCE) -> Interval:
    """Interval of ``first − second``, paired by seed (the series' index); unpaired seeds are left out."""
    joined = pairs(first, second)
    return mean_interval(joined["first"] - joined["second"], confidence)


def paired_ratio(first: pd.Series, second: pd.Series, confidence: float = CONFIDENCE) -> Interval:
    """Interval of the geometric mean of ``first / second``, paired by seed, from the log ratios.

    Pairs with a value that is not positive have no log ratio and are left out.
    """
    joined = pairs(first, second)
    joined = joined[(joined > 0).all(axis=1)]
    return geometric_interval(joined["first"] / joined["second"], confidence)


def geometric_interval(values: Iterable[float], confidence: float = CONFIDENCE) -> Interval:
    """Interval of the geometric mean of positive ``values``: the t interval of their logarithms, undone."""
    logs = [np.log(value) for value in values if np.isfinite(value) and value > 0]
    mean, low, high, n = mean_interval(logs, confidence)
    return Interval(float(np.exp(mean)), float(np.exp(low)), float(np.exp(high)), n)


def saving_percent(method: pd.Series, reference: pd.Series, confidence: float = CONFIDENCE) -> Interval:
    """Saving of ``method`` against ``reference``, percent: 100·(1 − geometric mean ratio), paired by seed."""
    ratio = paired_ratio(method, reference, confidence)
    return Interval(100 * (1 - ratio.mean), 100 * (1 - ratio.high), 100 * (1 - ratio.low), ratio.n)
