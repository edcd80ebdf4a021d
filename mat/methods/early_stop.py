"""Early stopping at equal compute: vanilla, ended when it has spent what the run it is matched to spent in all.

Claim: the plainest rival of C4 to C6. If training everything for fewer steps is as good, nothing is gained by choosing
modules. Equation: s = ⌊C / c⌋ steps, at most all of them; C the matched run's executed compute, its charged probes
included, c that of one step with every module active. Source: –.

Knobs: ``match`` names the run; ``schedule`` = cut (the learning rate follows the schedule of the whole training, which
is left before its end) | compressed (the schedule is gone through in s steps, as one would who knew the budget).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from mat.methods.base import Context, SameCompute, Selection


@dataclass(frozen=True)
class EarlyStop(SameCompute):
    schedule: Literal["cut", "compressed"] = "compressed"
    """Learning rate's schedule: cut (left before its end) or compressed (gone through in the steps that there
    are)."""
    dense: ClassVar = True

    def select(self, context: Context) -> Selection:
        return Selection(frozenset(context.modules))

    def length(self, steps: int, step: int, budget: int | None) -> tuple[int, int]:
        trained = steps if budget is None else min(max(budget // step, 1), steps)
        return trained, steps if self.schedule == "cut" else trained


METHOD = EarlyStop
