"""What a probe costs at most, and the largest one that a share of the training's compute allows.

Three numbers make a probe dear: n samples, r directions (of the estimator ``projected``) and how often it comes. For
each there is a most that is wanted. The rule goes one way up: from a single probe in the whole training, of 8 samples
in one direction, first the interval comes down to the wanted one, in multiples of it; then n goes up, then r; it stops
where the budget ends. So a larger budget never measures less, of anything.

Costs are multiply-adds (MACs) in products, convolutions and eigenvalue solves, as ``mat.flops.executed`` and
``mat.kernels.spectrum.eigen_macs`` count them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from mat.errors import InputError
from mat.kernels.estimators import backward_passes
from mat.kernels.gram import TILE
from mat.kernels.premise import FEW
from mat.kernels.spectrum import eigen_macs

LEAST = 8  # samples: fewer eigenvalues than that hold no rank to choose by


class Extent(NamedTuple):
    """How much is probed: ``n`` samples in so many ``directions``, ``every`` so many steps."""

    n: int
    directions: int
    every: int


@dataclass(frozen=True)
class Prices:
    """What costs are made of, in MACs. ``step``: the least that a training step takes; of one sample, ``forward`` and
    the backward pass, ``inputs`` for the gradients of what layers are given and ``weights`` for those of their weights.
    ``parameters``: of the ``modules`` whose kernels are measured; ``outputs``: k, the logits of one sample."""

    step: int
    forward: int
    inputs: int
    weights: int
    parameters: int
    modules: int
    outputs: int

    def probe(self, estimator: str, n: int, directions: int) -> int:
        """The most that a probe takes, of parameters that are followed in one pass (``mat.kernels.ntk``).

        A forward pass; a backward pass to the layers' inputs per cotangent, and two that find every row's sample; per
        cotangent the Gram matrices, by forming the samples' gradients and multiplying them, or by inner products of
        positions, which ``mat.kernels.gram`` counts at half and so may take twice as much; the outputs of a few
        samples in other batches; one sample's comparison with plain differentiation; an eigenvalue solve per module,
        and one of the integral NTK.
        """
        passes = backward_passes(estimator, directions, self.outputs)
        each = self.outputs if estimator == "full" else 1  # rows of one sample
        rows, times = n * each, max(passes // each, 1)
        formed = max(passes, 1) * n * self.weights
        multiplied = times * rows * min(rows, (rows + TILE) // 2) * self.parameters
        compared = self.forward + passes * (self.inputs + self.weights) + times * each**2 * self.parameters
        return (
            (n + FEW + 1) * self.forward
            + (passes + 2) * n * self.inputs
            + 2 * (formed + multiplied)
            + compared
            + (self.modules + 1) * eigen_macs(rows)
        )


def choose(prices: Prices, budget: float, wanted: Extent, estimator: str, steps: int | None) -> Extent:
    """The most that may be measured within ``budget``, and no more than is ``wanted``.

    ``steps``: of the whole training, whose probes together, the first included, take at most ``budget`` of what its
    steps take at least; without it every interval by itself does. Raises InputError, saying what budget would do, where
    the whole training cannot pay for the smallest probe.
    """
    if not 0 < budget < 1:
        raise InputError(f"budget must be a share of the training's compute in (0, 1), got {budget!r}")
    smallest = prices.probe(estimator, min(LEAST, wanted.n), 1)
    if steps is None:
        apart = smallest / (budget * prices.step)
    else:
        paid = math.floor(budget * steps * prices.step / smallest)
        if not paid:
            raise InputError(
                f"a budget of {budget:g} of the training's compute pays for no probe: one of {min(LEAST, wanted.n)} "
                f"samples in one direction in {steps} steps takes {_up(smallest / (steps * prices.step))} of it; "
                "raise budget to that, train for longer, or leave budget out"
            )
        apart = steps / paid
    every = max(math.ceil(apart / wanted.every), 1) * wanted.every

    def fits(n: int, directions: int) -> bool:
        probes, length = (1, every) if steps is None else (-(-steps // every), steps)
        return probes * prices.probe(estimator, n, directions) <= budget * length * prices.step

    if every > wanted.every:
        return Extent(min(LEAST, wanted.n), 1, every)
    n = _largest(min(LEAST, wanted.n), wanted.n, lambda n: fits(n, 1))
    directions = 1 if n < wanted.n else _largest(1, wanted.directions, lambda r: fits(n, r))
    return Extent(n, directions, every)


def _largest(low: int, high: int, fits: Callable[[int], bool]) -> int:
    """The largest whole number from ``low``, which fits, to ``high`` that fits; where one does, all smaller ones do."""
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _up(share: float) -> str:
    """Two digits, never less than ``share``."""
    digits = 1 - math.floor(math.log10(share))
    return f"{math.ceil(share * 10**digits) / 10**digits:.{max(digits, 0)}f}"
