"""FreezeOut: layers are frozen from the input on, at times fixed beforehand.

Claim: a rival of C6 that measures nothing; its authors report no gain for VGG (X4). Source: Brock et al., FreezeOut:
Accelerate Training by Progressively Freezing Layers, 2017, arXiv 1706.04983.

Equation: layer i of 0 … L−1 is frozen for good at the first interval with progress ≥ t_i, where
t_i = s(t_0 + (1 − t_0)·i / (L − 1)), s(x) = x (linear) or x³ (cubic); t_{L−1} = 1: the last layer never freezes.

Theirs: the freezing times and both schedules; their code's default is cubic with t_0 = 0.8, before cubing. Different
here: they also anneal each layer's learning rate to zero by its t_i and may scale it by 1 / t_i; here the learning rate
is the recipe's, so a layer is frozen at full rate. Their layers hold norms too; here these are no modules and always
train. A frozen prefix takes no part in their backward pass: mode ``detach`` is what comes near it, but where what is no
module lies below, residual connections still carry its gradient there.

Knobs: ``t0`` in (0, 1], ``schedule`` = linear | cubic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from mat.methods.base import Context, Method, Selection, Share, freeze_lowest, layers_of

POWERS = {"linear": 1, "cubic": 3}


@dataclass(frozen=True)
class FreezeOut(Method):
    t0: Share = 0.8
    """Share of the training at which the first layer is frozen, before ``schedule`` is applied; in (0, 1]."""
    schedule: Literal["linear", "cubic"] = "cubic"
    """How the layers' times are spread: linear, or cubic (each time to the third power)."""
    needs_length: ClassVar = True

    def times(self, layers: int) -> list[float]:
        """t_i of every layer but the last, which has none."""
        return [(self.t0 + (1 - self.t0) * i / (layers - 1)) ** POWERS[self.schedule] for i in range(layers - 1)]

    def select(self, context: Context) -> Selection:
        assert context.progress is not None  # it needs_length
        return freeze_lowest(context, sum(context.progress >= time for time in self.times(len(layers_of(context)))))


METHOD = FreezeOut
