"""Successive halving: many configurations with little compute, the best of them with more.

Source: Jamieson & Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization, AISTATS 2016, with
a factor eta in place of 2. A run of a rung begins afresh, because its learning rate goes to zero within its compute.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from mat.errors import InputError

Key = TypeVar("Key")
Left = Mapping[Key, Sequence[int]]  # configurations that are left, by what is tuned


class Rung(NamedTuple):
    """``count`` configurations, each with this ``share`` of what training everything costs."""

    count: int
    share: float


def rungs(budget: int, eta: int, least: float) -> list[Rung]:
    """Rung r of R: ⌊budget / eta^r⌋ configurations at the share eta^(r + 1 − R).

    As many rungs as there can be with two configurations in the last, which is at full compute, and ``least`` or more
    of it in the first. Raises InputError for a ``budget`` of less than two configurations.
    """
    if budget < 2:
        raise InputError(f"--budget: expected 2 configurations at least, the default and another, got {budget}")
    number = 1
    while budget // eta**number >= 2 and eta**-number >= least:
        number += 1
    return [Rung(budget // eta**r, float(eta) ** (r + 1 - number)) for r in range(number)]


def best(losses: Mapping[int, float], count: int) -> list[int]:
    """The ``count`` configurations of the smallest losses, of equal ones those that come first; one that is not finite
    is the largest."""
    finite = {i: loss if math.isfinite(loss) else math.inf for i, loss in losses.items()}
    return sorted(sorted(finite, key=lambda i: (finite[i], i))[:count])


def halve(
    steps: Sequence[Rung], keys: Iterable[Key], measure: Callable[[int, Left], Mapping[Key, Mapping[int, float]]]
) -> dict[Key, int]:
    """The configuration that is left of each of ``keys``, all of which go from rung to rung together.

    ``measure``: of a rung's number and the configurations that are left, their losses. Raises InputError where none of
    the losses is finite: nothing is known then.
    """
    left: dict[Key, Sequence[int]] = {key: range(steps[0].count) for key in keys}
    for number, after in enumerate([*steps[1:], Rung(1, 1.0)]):
        losses = measure(number, left)
        for key, found in losses.items():
            if not any(map(math.isfinite, found.values())):
                raise InputError(
                    f"{key}: every configuration of rung {number} diverged; give smaller learning rates to its space"
                )
        left = {key: best(losses[key], after.count) for key in left}
    return {key: found[0] for key, found in left.items()}
