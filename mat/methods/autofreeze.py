"""AutoFreeze: layers are frozen from the input on, once their gradients change little.

Claim: a rival of C6 whose freezing adapts to the training. Source: Liu, Agarwal & Venkataraman, AutoFreeze:
Automatically Freezing Model Blocks to Accelerate Fine-tuning, 2021, arXiv 2102.01386.

Equation, from the second probe on: η_l = |‖Δ_{t−1,l}‖ − ‖Δ_{t,l}‖| / ‖Δ_{t−1,l}‖ of every layer not yet frozen.
Going up from the first of them, layers are frozen for good as long as η_l is below the N-th percentile of these η.
The layer with the largest η is not below it, so one layer at least trains. A layer with ‖Δ_{t−1,l}‖ = 0 has no scale:
it is left out of the percentile and is not frozen.

Theirs: the test, the percentile over active layers, the prefix. Different here: their Δ is the gradient summed over all
steps of the interval, and in their code ‖·‖ is the sum of its parameters' L1 norms; here Δ is the gradient of the mean
loss on the probe's samples at the probe, and ‖·‖ its L2 norm over the layer's modules. What is no module, such as norms
and embeddings, always trains. A frozen prefix takes no part in their backward pass (and its activations are cached,
which is not done here): mode ``detach`` is what comes near it, but where what is no module lies below, residual
connections still carry its gradient there.

Knobs: ``percentile`` (N) in [0, 100].
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, ClassVar

import numpy as np

from mat.limits import Range
from mat.methods.base import GRADIENTS, Context, Method, Selection, freeze_lowest, layers_of


@dataclass(frozen=True)
class AutoFreeze(Method):
    percentile: Annotated[float, Range(ge=0, le=100)] = 50.0
    """Percentile N of the layers' changes η below which a layer is frozen, in [0, 100]."""
    reads: ClassVar = frozenset({GRADIENTS})

    def prefix(self, norms: np.ndarray) -> int:
        """How many layers, from the input, are frozen after the probes' layer norms (probes, layers)."""
        frozen = 0
        for before, now in pairwise(norms):
            scaled = before > 0
            change = np.full(len(now), np.inf)
            change[scaled] = np.abs(before - now)[scaled] / before[scaled]
            finite = change[frozen:][np.isfinite(change[frozen:])]
            limit = np.percentile(finite, self.percentile) if finite.size else 0.0
            while frozen < len(now) - 1 and change[frozen] < limit:
                frozen += 1
        return frozen

    def select(self, context: Context) -> Selection:
        layers = layers_of(context)
        norms = [
            [sum(seen.gradient_norm[name] ** 2 for name in layer) ** 0.5 for layer in layers]
            for seen in context.history
        ]
        return freeze_lowest(context, self.prefix(np.array(norms)))


METHOD = AutoFreeze
