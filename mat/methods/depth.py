"""By depth: as many modules as MAT trains, those nearest the input, or nearest the output.

Claim: a control of X1; λ_max goes with depth, so a choice by depth alone may do what MAT does.
Equation: the first c_t modules by layer, ascending or descending; within a layer in a random order drawn once per run.
Source: –.

Knobs: ``lowest`` = true: the layers nearest the input first, false: nearest the output; ``match`` or ``share``, which
give c_t (``mat.methods.base.Matched``).
Ambiguity: attention and FFN of one block count as one layer, as in the partition.
Without residual connections the lowest layers need mode ``exact``: detached, they get no gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

from mat.methods.base import Context, Matched, Selection


@dataclass(frozen=True)
class Depth(Matched):
    lowest: bool = True
    """Train the layers nearest the input (true) or nearest the output (false)."""

    def select(self, context: Context) -> Selection:
        drawn = [context.modules[i] for i in context.fixed.permutation(len(context.modules))]
        order = sorted(drawn, key=lambda name: context.depth[name], reverse=not self.lowest)
        return Selection(frozenset(order[: self.count(context)]))


METHOD = Depth
