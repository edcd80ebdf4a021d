"""ssProp: the backward pass of a convolution keeps the output channels with the largest gradients, on a schedule.

Claim: a rival of C6 that skips parts of the backward pass, by what a step's own gradient says. Source: Zhong, Huang &
Shi, ssProp: Energy-Efficient Training for Convolutional Neural Networks with Scheduled Sparse Back Propagation, 2024,
arXiv 2408.12561, and their code.

Equations, of a convolution with C output channels whose output has the gradient G (N, C, H, W), at every step of a
sparse interval: K = the max(⌊(1 − drop)·C⌋, 1) channels with the largest mean |G| over N, H and W; the gradients of
input, weight and bias are those of the convolution with the channels K alone, zero for the weights and biases of the
others. Schedule bar: intervals are dense and sparse in turns, dense first, so drop/2 of the backward pass is left out
on average; constant: every interval is sparse.

Theirs: the choice, K, the zeros; the bar over epochs with drop = 0.8 (their best: 40 % of the backward pass). Different
here: the schedule's unit is the probe's interval, by default an epoch; convolutions that no module owns, and all
linear layers, keep their whole backward pass, as theirs does but for convolutions. An optimizer with momentum or decay
moves the weights of dropped channels, whose gradient is zero and not missing, as theirs does. All modules are active at
every step, so what is saved is in the executed ledger alone.

Knobs: ``drop`` in (0, 1); ``schedule`` = bar | constant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from mat.limits import Range
from mat.methods.base import Context, Method, Selection


@dataclass(frozen=True)
class SsProp(Method):
    drop: Annotated[float, Range(gt=0, lt=1)] = 0.8
    """Share of a convolution's output channels that a sparse interval drops from the backward pass, in (0, 1)."""
    schedule: Literal["bar", "constant"] = "bar"
    """Which intervals are sparse: every other one from the second on (bar), or all (constant)."""

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset({"filters"})

    @property
    def full_gradients(self) -> bool:
        return False

    def select(self, context: Context) -> Selection:
        sparse = self.schedule == "constant" or context.interval % 2 == 1
        return Selection(frozenset(context.modules), channels=1 - self.drop if sparse else 1.0)


METHOD = SsProp
