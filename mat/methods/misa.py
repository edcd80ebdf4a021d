"""MISA: modules drawn at random, those with large gradients more often.

Claim: a rival of C6 that also chooses modules. Source: Liu et al., MISA: Memory-Efficient LLMs Optimization with
Module-wise Importance Sampling, NeurIPS 2025, arXiv 2511.00056.

Equations: G_l ← decay·G_l + (1 − decay)·g_l at every probe, from 0, with g_l = ‖∂L/∂θ_l‖₂ / √size_l;
p_l ∝ exp(η·G_l / mean(G)); c_t modules drawn from p one after the other without replacement.

Theirs, as far as the abstract and the beginning of Algorithm 1 were read: modules are sampled by an importance G_l from
gradient norms that starts at 0, with uniform probabilities, until they hold a share δ of the parameters. Ours: the
exponential form and its scale, c_t modules in place of δ, G_l of every module measured by a probe instead of taken from
the modules that trained, and an optimizer that keeps its state.

Knobs: ``eta`` ≥ 0, ``decay`` in [0, 1); ``match`` or ``share``, which give c_t (``mat.methods.base.Matched``).
Ambiguity: the scale of G_l. Dividing by the root of the size makes a gradient's root mean square of its norm, dividing
by the mean gives η the same meaning on every task; the values of ``eta`` and ``decay`` are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from mat.limits import Range
from mat.methods.base import GRADIENTS, Context, Matched, Selection, highest


@dataclass(frozen=True)
class Misa(Matched):
    eta: Annotated[float, Range(ge=0)] = 1.0
    """Weight of a module's importance in the logarithm of its probability, ≥ 0; 0 draws uniformly."""
    decay: Annotated[float, Range(ge=0, lt=1)] = 0.9
    """Decay of the moving average over probes, in [0, 1); 0 keeps the newest only."""
    reads: ClassVar = frozenset({GRADIENTS})

    def importance(self, context: Context) -> np.ndarray:
        """G_l / mean(G) of every module, in their order; all 1 where every gradient is 0."""
        root = np.sqrt([context.size[name] for name in context.modules])
        average = np.zeros(len(context.modules))
        for seen in context.history:
            norms = np.array([seen.gradient_norm[name] for name in context.modules]) / root
            average = self.decay * average + (1 - self.decay) * norms
        return average / average.mean() if average.any() else np.ones_like(average)

    def select(self, context: Context) -> Selection:
        # the largest of log p + Gumbel noise are a draw without replacement, and no p underflows
        noise = context.rng.gumbel(size=len(context.modules))
        keys = dict(zip(context.modules, self.eta * self.importance(context) + noise, strict=True))
        return Selection(highest(context.modules, keys, self.count(context)))


METHOD = Misa
