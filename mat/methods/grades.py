"""GradES: a module is frozen for good once its gradient hardly changes any more.

Claim: a rival of C6 that freezes single modules, wherever they lie. Source: Wen et al., GradES: Significantly Faster
Training in Transformers with Gradient-Based Early Stopping, 2025, arXiv 2509.01842.

Equation, at probe t once a share ``grace`` of the training is over: l is frozen for good when r_{t,l} < τ, with
r_{t,l} = |‖g_{t,l}‖ − ‖g_{t−1,l}‖| / ‖g_{0,l}‖ (change) or ‖g_{t,l}‖ / ‖g_{0,l}‖ (norm). Where it cannot be told, r is
no number and freezes nothing: at the first probe, however late that is; where a gradient was not measured or is not
finite; and of a module with ‖g_{0,l}‖ = 0. The module with the largest r stays when no other is left.

Theirs, as far as abstracts, captions and their code were read: one matrix at a time; ‖∇W_t‖ < τ in the paper's first
version, ‖∇W_t − ∇W_{t−1}‖ < τ of two steps in its third, L1 norms; a grace period of 30 % (their code) to 55 % (their
examples). Their code takes the change of the weights in the gradient's place, and a first comparison and one that fails
count as no change, so either freezes. Different here: modules; L2 norms on the probe's samples at probes; the change of
the norm, which that of the gradient is no smaller than; r is a share of the module's first gradient, so that one τ
serves every task, where theirs is chosen for each model, from 10⁻⁵ to 2.4; when all modules are frozen training goes
on for the remainder. Their frozen matrices pass gradients on: mode ``exact``.

Ambiguity: a small change is no convergence. Weights that move less change gradients less, so a learning rate that
decays to zero freezes modules that have not converged; with a constant one the same modules train.

Knobs: ``tau`` in (0, 1); ``grace`` in [0, 1), a share of the training; ``criterion`` = change | norm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from mat.limits import Range
from mat.methods.base import GRADIENTS, Context, Method, Observation, Selection


@dataclass(frozen=True)
class GradES(Method):
    tau: Annotated[float, Range(gt=0, lt=1)] = 0.05
    """Threshold τ on r, a share of the module's first gradient norm, in (0, 1)."""
    grace: Annotated[float, Range(ge=0, lt=1)] = 0.3
    """Share of the training before which nothing is frozen, in [0, 1)."""
    criterion: Literal["change", "norm"] = "change"
    """What is compared with τ: the change of the gradient's norm since the probe before, or the norm."""
    reads: ClassVar = frozenset({GRADIENTS})
    needs_length: ClassVar = True

    def ratio(self, history: Sequence[Observation], module: str) -> float:
        """r of a module after the probes of ``history``; NaN where it cannot be told."""
        first, before, now = (
            seen.gradient_norm.get(module, math.nan) for seen in (history[0], history[-2:][0], history[-1])
        )
        if not 0 < first < math.inf:
            return math.nan
        if self.criterion == "norm":
            return now / first
        return abs(now - before) / first if len(history) > 1 else math.nan

    def select(self, context: Context) -> Selection:
        assert context.progress is not None  # it needs_length
        ratios = {name: self.ratio(context.history, name) for name in context.modules}
        still = frozenset(name for name, ratio in ratios.items() if ratio < self.tau)
        frozen = context.frozen | (still if context.progress >= self.grace else frozenset())
        if frozen < frozenset(context.modules):
            return Selection(frozenset(context.modules) - frozen, frozen)
        kept = max((name for name in context.modules if name not in context.frozen), key=lambda name: ratios[name])
        note = f"no module is left; kept the one that changes most, {kept}"
        return Selection(frozenset({kept}), frozen - {kept}, note=note)


METHOD = GradES
