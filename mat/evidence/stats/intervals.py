"""Intervals over seeds: a mean, a paired difference, a paired ratio.

Every result carries the number of values it stands on. Fewer than two values have no variance, so their interval is
NaN: a single seed never yields a bound. An interval also carries its values and the scale on which their mean was
taken, so that it can be made anew at another confidence or for another number of seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd

CONFIDENCE = 0.95


class Link(NamedTuple):
    """The scale on which a mean is taken: ``to`` it from a value's unit, and ``back``; both are monotone."""

    to: Callable[[float], float]
    back: Callable[[float], float]


LINKS = {
    "mean": Link(float, float),
    "ratio": Link(lambda ratio: float(np.log(ratio)), lambda log: float(np.exp(log))),
    "saving": Link(lambda percent: float(np.log1p(-percent / 100)), lambda log: float(100 * (1 - np.exp(log)))),
}


class Interval(NamedTuple):
    """A mean with a two-sided confidence interval over ``n`` seeds.

    ``deviation``: sample standard deviation of the values on the scale of ``link``; NaN where it is not known.
    ``limits``: what the bounds are cut to, in the unit of the mean. ``values``: one per seed, in that unit; empty
    where only the summary is known. ``confidence``: of the bounds.
    """

    mean: float
    low: float = np.nan
    high: float = np.nan
    n: int = 0
    deviation: float = np.nan
    link: str = "mean"
    limits: tuple[float, float] = (-np.inf, np.inf)
    values: tuple[float, ...] = ()
    confidence: float = CONFIDENCE

    def scaled(self, factor: float) -> Interval:
        """The interval of ``factor`` times the quantity, ``factor`` > 0; not for savings."""
        mean, low, high = (factor * value for value in self[:3])
        deviation = self.deviation if self.link == "ratio" else factor * self.deviation
        limits = (factor * self.limits[0], factor * self.limits[1])
        values = tuple(factor * value for value in self.values)
        return Interval(mean, low, high, self.n, deviation, self.link, limits, values, self.confidence)

    def cut(self, lowest: float, highest: float) -> Interval:
        """Bounds cut to the values that the quantity can take; a t interval of a share does not know them."""
        low, high = (float(np.clip(bound, lowest, highest)) for bound in (self.low, self.high))
        return self._replace(low=low, high=high, limits=(lowest, highest))

    def at(self, confidence: float = CONFIDENCE, n: int | None = None) -> Interval:
        """The interval at another confidence, or as it would be with ``n`` seeds of the same mean and spread: on the
        scale of ``link`` x̄ ± t·s/√n with n − 1 degrees of freedom. Bounds are NaN where there is no spread."""
        n = self.n if n is None else n
        if n < 2 or not np.isfinite(self.deviation):
            return self._replace(low=np.nan, high=np.nan, n=n, confidence=confidence)
        link, half = LINKS[self.link], half_width(self.deviation, n, confidence)
        centre = link.to(self.mean)
        with np.errstate(over="ignore"):  # a bound that no number is large enough for is not known
            low, high = sorted((link.back(centre - half), link.back(centre + half)))
        return self._replace(low=low, high=high, n=n, confidence=confidence).cut(*self.limits)


def known(*intervals: Interval) -> bool:
    """Whether every interval has both bounds."""
    return all(np.isfinite(value.low) and np.isfinite(value.high) for value in intervals)


def half_width(deviation: float, n: int, confidence: float = CONFIDENCE) -> float:
    """t·s/√n, Student's t with n − 1 degrees of freedom."""
    return float(_quantile(n, confidence) * deviation / np.sqrt(n))


@cache
def _quantile(n: int, confidence: float) -> float:
    """Of Student's t; what claims ask again and again, at the same confidences."""
    from scipy import special

    return special.stdtrit(n - 1, (1 + confidence) / 2)


def interval_of(values: Iterable[float], link: str = "mean", confidence: float = CONFIDENCE) -> Interval:
    """Student's t interval on the scale of ``link``, in the unit of ``values``.

    Values that are not finite, or have no place on that scale, are left out and not counted in ``n``. With n = 0
    everything is NaN, with n = 1 only the mean is known.
    """
    scale = LINKS[link]
    with np.errstate(divide="ignore", invalid="ignore"):
        placed = [(float(value), scale.to(value)) for value in values]
    placed = [(value, at) for value, at in placed if np.isfinite(at)]
    if not placed:
        return Interval(np.nan, link=link)
    known, at = zip(*placed, strict=True)
    deviation = float(np.std(at, ddof=1)) if len(at) > 1 else np.nan
    mean = scale.back(float(np.mean(at)))
    return Interval(mean, n=len(at), deviation=deviation, link=link, values=known).at(confidence)


def mean_interval(values: Iterable[float], confidence: float = CONFIDENCE) -> Interval:
    """Student's t interval of the mean of ``values``; non-finite values are left out and not counted in ``n``."""
    return interval_of(values, "mean", confidence)


def known_interval(
    mean: float, low: float, high: float, n: int, limits: tuple[float, float], deviation: float = np.nan
) -> Interval:
    """A t interval of a mean that was read from a table, at ``CONFIDENCE``, bounds cut to ``limits``.

    Where the table does not hold its ``deviation``, that follows from a bound that was not cut; NaN where both were.
    """
    if n > 1 and not np.isfinite(deviation):
        halves = [abs(bound - mean) for bound, limit in zip((low, high), limits, strict=True) if bound != limit]
        deviation = max(halves, default=np.nan) / half_width(1.0, n)
    return Interval(mean, low, high, n, deviation, "mean", limits)


def pairs(first: pd.Series, second: pd.Series) -> pd.DataFrame:
    """The seeds that both series hold a finite value for: columns ``first`` and ``second``, index seed."""
    joined = pd.DataFrame({"first": first, "second": second}, dtype=float)
    return joined[np.isfinite(joined).all(axis=1)]


def paired_difference(first: pd.Series, second: pd.Series) -> Interval:
    """Interval of ``first − second``, paired by seed (the series' index); unpaired seeds are left out."""
    joined = pairs(first, second)
    return mean_interval(joined["first"] - joined["second"])


def geometric_interval(values: Iterable[float], confidence: float = CONFIDENCE) -> Interval:
    """Interval of the geometric mean of positive ``values``: the t interval of their logarithms, undone."""
    return interval_of(values, "ratio", confidence)


def paired_ratio(first: pd.Series, second: pd.Series) -> Interval:
    """Interval of the geometric mean of ``first / second``, paired by seed, from the log ratios."""
    return geometric_interval(_ratios(first, second))


def saving_percent(method: pd.Series, reference: pd.Series) -> Interval:
    """Saving of ``method`` against ``reference``, percent: 100·(1 − geometric mean ratio), paired by seed."""
    return interval_of(100 * (1 - _ratios(method, reference)), "saving")


def _ratios(first: pd.Series, second: pd.Series) -> pd.Series:
    """By seed; pairs with a value that is not positive have no log ratio and are left out."""
    joined = pairs(first, second)
    joined = joined[(joined > 0).all(axis=1)]
    return joined["first"] / joined["second"]
