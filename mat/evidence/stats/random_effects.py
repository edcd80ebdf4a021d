"""One effect over tasks: the random-effects model, in which each task has a true effect of its own.

Task i's estimate y_i with the variance v_i = s_i²/n_i of its mean; true effects are normal around μ with the variance
τ², by Paule and Mandel (1982): Σ w_i (y_i − μ)² = k − 1 with w_i = 1/(v_i + τ²), 0 where it would be negative. The
interval of μ is Hartung and Knapp's (2001), Student's t with k − 1 degrees of freedom, never narrower than the plain
one of the same degrees; a new task's effect is predicted with k − 2 (Higgins, Thompson and Spiegelhalter 2009).
Written here, thirty lines, because the libraries that have it (statsmodels) bring ten times what the evidence needs.
``COVERAGE`` says how often the interval holds μ where variances are themselves estimates from three seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mat.evidence.stats.intervals import CONFIDENCE, LINKS, Interval

LEAST = 2  # tasks
FORESEEN = 5  # tasks from which on a new one's effect is predicted: of fewer, bounds would say little but "anything"
# tasks → spread between tasks over that of seeds → share of 95 % intervals that hold the mean over tasks
COVERAGE = {
    3: {0.0: 0.97, 0.5: 0.96, 2.0: 0.95},
    5: {0.0: 0.93, 0.5: 0.93, 2.0: 0.94},
    10: {0.0: 0.91, 0.5: 0.91, 2.0: 0.95},
}


class Pooled(NamedTuple):
    """``effect``: the mean over tasks, its ``n`` their number, in the unit of the tasks' effects. ``tau``: standard
    deviation of true effects between tasks, on the scale of the link. ``new``: the same mean, with the bounds that a
    new task's true effect lies in with 95 %; NaN for fewer than ``FORESEEN`` tasks."""

    effect: Interval
    tau: float
    new: Interval

    @property
    def known(self) -> bool:
        """Whether there was enough to pool."""
        return bool(np.isfinite(self.effect.mean))


def over_tasks(values: Sequence[Interval]) -> Pooled:
    """Pool one interval per task, all of one link; those without a spread, or of none, are left out. Everything is NaN
    where fewer than ``LEAST`` are left."""
    from scipy import stats

    kept = [value for value in values if np.isfinite(value.deviation) and value.deviation > 0 and value.n > 1]
    if len(kept) < LEAST:
        return Pooled(nothing := Interval(np.nan, n=len(kept)), np.nan, nothing)
    link, count = LINKS[kept[0].link], len(kept)
    y = np.array([link.to(value.mean) for value in kept])
    v = np.array([value.deviation**2 / value.n for value in kept])
    square = _between(y, v)
    w = 1 / (v + square)
    mean = float(w @ y / w.sum())
    error = float(np.sqrt(max(1.0, w @ (y - mean) ** 2 / (count - 1)) / w.sum()))
    effect = Interval(link.back(mean), n=count, deviation=error * count**0.5, link=kept[0].link, limits=kept[0].limits)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, count - 2) * np.sqrt(square + error**2) if count >= FORESEEN else np.nan
    low, high = sorted((link.back(mean - half), link.back(mean + half)))
    new = Interval(effect.mean, low, high, count).cut(*effect.limits)
    return Pooled(effect.at(), float(np.sqrt(square)), new)


def _between(y: np.ndarray, v: np.ndarray) -> float:
    """τ² by Paule and Mandel."""
    from scipy import optimize

    def excess(square: float) -> float:
        w = 1 / (v + square)
        return float(w @ (y - w @ y / w.sum()) ** 2) - (len(y) - 1)

    if excess(0.0) <= 0:
        return 0.0
    return float(optimize.brentq(excess, 0.0, len(y) * float(np.ptp(y)) ** 2, xtol=1e-14, rtol=1e-12))
