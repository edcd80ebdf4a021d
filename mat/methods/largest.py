"""Largest λ_max: as many modules as MAT trains, those with the largest λ_max now.

Claim: the treatment of X1, beside which its controls stand: MAT's ranking alone, without its threshold against the
integral NTK and without freezing. Equation: the c_t modules with the largest λ_max(Θ_l) at this probe, of equal ones
those nearer the input. Source: Shi et al., NeurIPS 2023 (the quantity); the selection is ours.

Knobs: ``match`` or ``share``, which give c_t (``mat.methods.base.Matched``).
Ambiguity: with a matched MAT that has frozen modules it is not the same choice, since a frozen module may have a large
λ_max. Matched to MAT's modular policy on the same spectra it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mat.methods.base import SPECTRA, Context, Matched, Selection, highest


@dataclass(frozen=True)
class Largest(Matched):
    reads: ClassVar = frozenset({SPECTRA})

    def select(self, context: Context) -> Selection:
        return Selection(highest(context.modules, context.history[-1].lambda_max, self.count(context)))


METHOD = Largest
