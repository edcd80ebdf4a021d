"""Random selection: as many modules as MAT trains, drawn anew at every probe interval.

Claim: the control for C6 and X1; if MAT is no better than this, λ_max is not what matters.
Equation: a uniform subset of c_t modules. Source: the paper's random baseline.

Knobs: ``match`` names the run whose numbers of active modules c_t are followed, interval by interval (its
last count is held when this run is longer); or ``share`` in (0, 1] of the modules, rounded, at least one.
"""

from __future__ import annotations

from dataclasses import dataclass

from mat.errors import InputError
from mat.methods.base import Context, Method, Selection, require_share


@dataclass(frozen=True)
class Random(Method):
    match: str | None = None
    share: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.match is None) == (self.share is None):
            raise InputError("random needs either match (a method of the same config, such as mat) or share")
        if self.share is not None:
            require_share("share", self.share)

    def select(self, context: Context) -> Selection:
        if self.match is not None:
            count = context.counts[min(context.interval, len(context.counts) - 1)]
        else:
            count = max(round(self.share * len(context.modules)), 1)
        chosen = context.rng.choice(len(context.modules), size=count, replace=False)
        return Selection(frozenset(context.modules[i] for i in chosen))


METHOD = Random
