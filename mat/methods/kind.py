"""By kind: as many modules as MAT trains, those of one kind first.

Claim: a control of X1; λ_max differs between kinds, so preferring heads, or FFNs, may do what MAT does.
Equation: c_t modules, of the kind in a uniform order re-drawn at every interval; where they are fewer than c_t, the
rest uniformly from the other modules. Source: –.

Knobs: ``kind``, one that the model's modules have, such as head, ffn, expert, filters or layer; ``match`` or ``share``,
which give c_t (``mat.methods.base.Matched``).
Ambiguity: on a model of one kind only this is ``random``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mat.methods.base import Context, Matched, Selection


@dataclass(frozen=True)
class Kind(Matched):
    kind: str = field(kw_only=True)
    """Modules that are trained first, one of the model's kinds: head, ffn, expert, filters or layer."""

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset({self.kind})

    def select(self, context: Context) -> Selection:
        drawn = [context.modules[i] for i in context.rng.permutation(len(context.modules))]
        order = sorted(drawn, key=lambda name: context.kind[name] != self.kind)
        return Selection(frozenset(order[: self.count(context)]))


METHOD = Kind
