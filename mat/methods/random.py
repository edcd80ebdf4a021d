"""Random selection: as many modules as MAT trains, drawn anew at every probe interval.

Claim: the control for C6 and X1; if MAT is no better than this, λ_max is not what matters.
Equation: a uniform subset of c_t modules. Source: the paper's random baseline.

Knobs: ``match`` or ``share``, which give c_t (``mat.methods.base.Matched``).
"""

from __future__ import annotations

from dataclasses import dataclass

from mat.methods.base import Context, Matched, Selection


@dataclass(frozen=True)
class Random(Matched):
    def select(self, context: Context) -> Selection:
        chosen = context.rng.choice(len(context.modules), size=self.count(context), replace=False)
        return Selection(frozenset(context.modules[i] for i in chosen))


METHOD = Random
