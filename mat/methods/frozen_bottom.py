"""A static frozen bottom: the lowest layers never train, as many as make the run as cheap as the one it is matched to.

Claim: the plainest rival of C6 that skips part of the backward pass. If leaving the lowest layers as they were drawn is
as good at equal compute, nothing is gained by measuring. Equation: the k lowest layers are frozen from the first step
on, k the least with S · c_k ≤ C; S the training's steps, c_k the closed form of a step with all but the k lowest
layers, C the matched run's executed compute, its charged probes included. Source: –; as layers are frozen for
fine-tuning (Lee, Tang & Lin, What Would Elsa Do?, 2019, arXiv 1911.03090).

A whole number of layers does not spend C to the last operation: what is left of it, (C − S · c_k) / C, is in the
selection's note, and so is what is missing where all layers but the last are frozen and that is not enough. Below the
lowest layer that trains the backward pass ends, unless something that is no module trains there, such as a
transformer's embeddings: residual connections then carry its gradient down, past the frozen layers in mode ``detach``.

Knobs: ``match`` names the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mat.methods.base import Context, SameCompute, Selection, freeze_lowest, layers_of


@dataclass(frozen=True)
class FrozenBottom(SameCompute):
    needs_cost: ClassVar = True

    def select(self, context: Context) -> Selection:
        assert context.cost is not None  # it needs_cost
        layers = len(layers_of(context))
        for count in range(layers):
            chosen = freeze_lowest(context, count)
            left = 1 - context.cost(chosen.active)
            if left >= 0:
                break
        note = f"{count} of {layers} layers are frozen; {left:.2%} of the matched run's compute is left"
        return Selection(chosen.active, chosen.frozen, note=note)


METHOD = FrozenBottom
