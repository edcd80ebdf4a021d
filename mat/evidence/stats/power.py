"""What the seeds at hand could have shown, and how many it would take.

Both stand on the spread that was observed, which few seeds estimate badly: they say an order of magnitude.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from mat.evidence.stats.intervals import CONFIDENCE, LINKS, Interval

POWER = 0.8
MOST = 100  # seeds; beyond that the answer is "more than"
_NODES, _WEIGHTS = (np.polynomial.legendre.leggauss(400) + np.array([[1.0], [0.0]])) / 2  # of [0, 1]


def power(effect: float, n: int, confidence: float = CONFIDENCE) -> float:
    """Power of the two-sided paired t test over ``n`` seeds for a true difference of ``effect`` standard deviations.

    P(|T| > t) with T noncentral t, ν = n − 1 and noncentrality δ = effect·√n, as E[Φ(δ − t·s) + Φ(−δ − t·s)] over
    s² ~ χ²_ν/ν, by Gauss–Legendre nodes in the probability of s: SciPy's own distribution is NaN in the far tail.
    """
    from scipy import special, stats

    limit, where = stats.t.ppf((1 + confidence) / 2, n - 1), abs(effect) * np.sqrt(n)
    s = np.sqrt(stats.chi2.ppf(_NODES, n - 1) / (n - 1))
    return float(_WEIGHTS @ (special.ndtr(where - limit * s) + special.ndtr(-where - limit * s)))


@cache
def detectable_effect(n: int) -> float:
    """The smallest difference, in standard deviations, that ``n`` seeds show with power ``POWER``; NaN for n < 2."""
    from scipy import optimize

    if n < 2:
        return float("nan")
    highest = 1.0
    while power(highest, n) < POWER:
        highest *= 2
    return float(optimize.brentq(lambda effect: power(effect, n) - POWER, 0.0, highest))


def seeds_for(effect: float, least: int) -> int | None:
    """The smallest number of seeds, at least ``least``, that shows ``effect``, in standard deviations, with power
    ``POWER``; None where ``MOST`` do not."""
    return next((n for n in range(least, MOST + 1) if detectable_effect(n) <= effect), None)


def detectable(value: Interval) -> float:
    """The same in the unit of ``value``: a distance from no effect (a difference or saving of 0, a ratio of 1), at
    the spread observed. NaN where no spread is known."""
    if not np.isfinite(value.deviation):
        return float("nan")
    size = detectable_effect(value.n) * value.deviation
    return LINKS[value.link].back(-size if value.link == "saving" else size)


def seeds_needed(
    decide: Callable[[list[Interval]], str], values: Sequence[Interval], undecided: str, least: int
) -> str:
    """How many seeds of the same means and spreads would take ``decide`` off ``undecided``.

    A number of at least ``least`` and more than there are; "more than 100"; "spread unknown" where an interval has
    none; "not a matter of seeds" where not even intervals of no width would be decided.
    """
    if not values or not all(np.isfinite(value.deviation) for value in values):
        return "spread unknown" if values else "not a matter of seeds"
    if decide([value._replace(low=value.mean, high=value.mean, deviation=0.0) for value in values]) == undecided:
        return "not a matter of seeds"
    first = max(least, min(value.n for value in values) + 1)
    for n in range(first, MOST + 1):
        if decide([value.at(n=max(n, value.n)) for value in values]) != undecided:
            return str(n)
    return f"more than {MOST}"
