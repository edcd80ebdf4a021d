"""Verdicts as tests: the p-value of a decision, and Holm's correction for many of them.

A decision on intervals asks whether effects lie above or below bounds, so it holds up to some confidence. What is left
to 1 there, halved, is its one-sided p-value: of one effect and one bound that of the t test, of bounds that must all
hold the largest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from mat.evidence.stats.intervals import CONFIDENCE, Interval

LEVEL = (1 - CONFIDENCE) / 2  # one-sided, as of every bound of an interval at CONFIDENCE
SMALLEST = 1e-9  # p-values below it are given as 0
_HALVINGS = 40  # of the logarithm of p between both

Decide = Callable[[list[Interval]], str]


def held(decide: Decide, values: Sequence[Interval], verdict: str, p: float) -> bool:
    """Whether ``decide`` still says ``verdict`` with bounds of the one-sided error ``p``."""
    return decide([value.at(1 - 2 * p, value.n) for value in values]) == verdict


def p_value(decide: Decide, values: Sequence[Interval], verdict: str, most: float = LEVEL) -> float:
    """The smallest one-sided error at which ``decide`` says ``verdict`` of ``values``: at most ``most``, or 1 where it
    does not say it there; 0 below ``SMALLEST``."""
    if not held(decide, values, verdict, most):
        return 1.0
    if held(decide, values, verdict, SMALLEST):
        return 0.0
    lost, kept = math.log(SMALLEST), math.log(most)
    for _ in range(_HALVINGS):
        middle = (lost + kept) / 2
        lost, kept = (lost, middle) if held(decide, values, verdict, math.exp(middle)) else (middle, kept)
    return math.exp(kept)


def holm(p_values: Sequence[float], level: float = LEVEL) -> list[float]:
    """The level that each of m p-values is asked for, so that with probability 1 − ``level`` all that are at most
    theirs are right (Holm 1979): ``level``/m for the smallest, ``level``/(m − 1) for the next, up to the first that is
    larger; those after it are asked for that one's."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    asked, left = [level] * len(p_values), len(p_values)
    for place in order:
        asked[place] = level / left
        left -= p_values[place] <= level / left and left > 1
    return asked
