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
A layer that no residual path leads around, such as a ResNet's first of a stage, keeps its input's gradient (mode
``detach_residual``); with every layer's it would be ``lisa``. A model without any residual path is refused.

Knobs: exactly one of ``layers`` (γ, all where there are fewer), ``match`` and ``share``. With the last two, layers are
drawn until at least c_t modules are active (``mat.methods.base.Matched``), so up to a layer more than c_t.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from mat.errors import InputError
from mat.methods.lisa import Lisa
from mat.modes import Mode


@dataclass(frozen=True)
class LCSB(Lisa):
    mode: Mode = field(default="detach_residual", kw_only=True)
    """Backward pass of the layers that were not drawn: detach_residual."""
    needs_residual: ClassVar = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode != "detach_residual":
            raise InputError(
                f"lcsb skips layers by mode detach_residual, got {self.mode!r}; leave mode out, or use lisa"
            )


METHOD = LCSB
