"""Shuffled λ_max: MAT's ranking with every module given another module's λ_max.

Claim: a control of X1. Its choice persists and changes over time as that of ``largest`` does, but says nothing of the
modules it falls on; if it trains as well, persistence matters and λ_max does not.
Equation: the c_t modules with the largest λ_max(Θ_π(l)), π a permutation of the modules drawn once per run; of equal
ones those nearer the input. Source: –.

Knobs: ``match`` or ``share``, which give c_t (``mat.methods.base.Matched``).
Ambiguity: π is fixed for the run. Drawn anew at every probe it would be ``random`` at the price of a probe. A uniform π
may leave modules where they are, one of them on average.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mat.methods.base import SPECTRA, Context, Matched, Selection, highest


@dataclass(frozen=True)
class Shuffled(Matched):
    reads: ClassVar = frozenset({SPECTRA})

    def select(self, context: Context) -> Selection:
        given = context.fixed.permutation(len(context.modules))
        newest = context.history[-1].lambda_max
        score = {name: newest[context.modules[other]] for name, other in zip(context.modules, given, strict=True)}
        return Selection(highest(context.modules, score, self.count(context)))


METHOD = Shuffled
