"""LCSB: layers drawn at random are left out of the backward pass, which goes around them on the residual path.

Claim: a rival of C6 that skips whole layers, their input's gradient included, by chance alone. Source: Park et al.,
LCSB: Layer-Cyclic Selective Backpropagation for Memory-Efficient On-Device LLM Fine-Tuning, 2026, arXiv 2602.13073.

Equations: γ of the layers, uniformly without replacement, anew at every interval. A layer h_{l+1} = h_l + f_l(h_l) that
was drawn is differentiated as it is, any other as h_{l+1} = h_l + sg(f_l(h_l)), sg(·) a constant: forward the same,
∂h_{l+1}/∂h_l the identity, no gradient of its weights.

Theirs, as far as the abstract and accounts of the algorithm were read: the constant, and the uniform draw at every
step; they train low-rank adapters by AdamW, whose momentum goes on moving the layers that were skipped. Different here:
full weights; what is skipped does not move; everything that is no module always trains, so where a norm stands on the
residual path, as in BERT, it keeps its part of the gradient; the unit is the probe's interval, which may be one step.
With every layer's full gradient it would be ``lisa``. A model without residual paths is refused.

Knobs: exactly one of ``layers`` (γ, all where there are fewer), ``match`` and ``share``. With the last two, layers are
drawn until at least c_t modules are active (``mat.methods.base.Matched``), so up to a layer more than c_t.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mat.errors import InputError
from mat.methods.lisa import Lisa


@dataclass(frozen=True)
class LCSB(Lisa):
    needs_residual: ClassVar = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode == "exact":
            raise InputError(
                "lcsb skips layers in the backward pass, which mode exact does not: choose detach, or lisa"
            )


METHOD = LCSB
