"""Largest gradient norm: as many modules as MAT trains, those with the largest gradient now.

Claim: the control of X1 that needs no kernel; if it trains as well, λ_max is not needed.
Equation: the c_t modules with the largest ‖∂L/∂θ_l‖₂, L the mean loss on the probe's samples (``mat.kernels.probes.gradient_norms``); of
equal ones those nearer the input. Source: –.

Knobs: ``match`` or ``share``, which give c_t (``mat.methods.base.Matched``).
Ambiguity: the norm is that of the whole module, not divided by its number of parameters, as λ_max is not either.
"""  # noqa: E501

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mat.methods.base import GRADIENTS, Context, Matched, Selection, highest


@dataclass(frozen=True)
class GradientNorm(Matched):
    reads: ClassVar = frozenset({GRADIENTS})

    def select(self, context: Context) -> Selection:
        return Selection(highest(context.modules, context.history[-1].gradient_norm, self.count(context)))


METHOD = GradientNorm
