"""Smallest λ_max: as many modules as MAT trains, those with the smallest λ_max now.

Claim: the opposite of MAT's choice (X1); if it trains as well, the order of λ_max does not matter.
Equation: the c_t modules with the smallest λ_max(Θ_l) at this probe, of equal ones those nearer the input. Source: –.

Knobs: ``match`` or ``share``, which give c_t (``mat.methods.base.Matched``).
Ambiguity: as many modules is not as many parameters or as much compute; the ledger has those.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mat.methods.base import SPECTRA, Context, Matched, Selection, highest


@dataclass(frozen=True)
class Smallest(Matched):
    reads: ClassVar = frozenset({SPECTRA})

    def select(self, context: Context) -> Selection:
        score = {name: -value for name, value in context.history[-1].lambda_max.items()}
        return Selection(highest(context.modules, score, self.count(context)))


METHOD = Smallest
