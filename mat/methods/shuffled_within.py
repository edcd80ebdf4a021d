"""λ_max shuffled within kinds: MAT's ranking with every module given the λ_max of another of its own kind, or of its
own kind and layer.

Claim: a control of X11. Beside ``shuffled`` and ``largest`` it parts what a module's kind says, what its layer says and
what is left for its own λ_max: kind and layer are known before anything is measured.
Equation: the c_t modules with the largest λ_max(Θ_π(l)), π a permutation of the modules drawn once per run that leaves
every module in its class; of equal ones those nearer the input. Source: –.

Knobs: ``within``: the classes, ``kind`` or ``layer`` (kind and layer); ``match`` or ``share``, which give c_t
(``mat.methods.base.Matched``).
Ambiguity: a class of one module keeps its λ_max, and a uniform π leaves one module of a larger class where it is on
average.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from mat.methods.base import SPECTRA, Context, Matched, Selection, highest


@dataclass(frozen=True)
class ShuffledWithin(Matched):
    within: Literal["kind", "layer"] = "kind"
    """Modules that exchange their values: those of one ``kind``, or those of one kind in one ``layer``."""
    reads: ClassVar = frozenset({SPECTRA})

    def select(self, context: Context) -> Selection:
        newest = context.history[-1].lambda_max
        classes: dict[tuple[str, int | None], list[str]] = {}
        for name in context.modules:
            layer = context.depth[name] if self.within == "layer" else None
            classes.setdefault((context.kind[name], layer), []).append(name)
        score = {
            name: newest[members[other]]
            for members in classes.values()
            for name, other in zip(members, context.fixed.permutation(len(members)), strict=True)
        }
        return Selection(highest(context.modules, score, self.count(context)))


METHOD = ShuffledWithin
