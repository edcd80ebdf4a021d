"""Random selection drawn once: as many modules as MAT trains, the first of one random order throughout.

Claim: a control of X1; beside ``random``, what re-drawing does, and beside ``largest``, what λ_max adds to a choice
that stays. Equation: the first c_t modules of a uniform order drawn once per run, so that sets of different sizes are
nested. Source: –.

Knobs: ``match`` or ``share``, which give c_t (``mat.methods.base.Matched``).
Ambiguity: modules past the largest c_t never train.
"""

from __future__ import annotations

from dataclasses import dataclass

from mat.methods.base import Context, Matched, Selection


@dataclass(frozen=True)
class RandomOnce(Matched):
    def select(self, context: Context) -> Selection:
        order = context.fixed.permutation(len(context.modules))
        return Selection(frozenset(context.modules[i] for i in order[: self.count(context)]))


METHOD = RandomOnce
