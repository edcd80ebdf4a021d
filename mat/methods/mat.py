"""Modular Adaptive Training (MAT): train the modules whose kernels still have large principal eigenvalues.

Claim: nearly halves the compute to convergence and does not cost quality (C4, C5).
Source: Shi et al., NeurIPS 2023, arXiv 2405.07527; definitions as in the ambiguity register (A1, A2, A12).

Equations, at probe t with λ_t = λ_max(Θ_l):
  modular   l is active when λ_t ≥ τ_t, τ_t the ⌈α·N⌉-th largest eigenvalue of the integral NTK Θ (size N).
  temporal  with Δ_t = |λ_t − λ_0|, l is frozen for good once |Δ_t − Δ_{t−1}| / Δ_1 < β, from the third probe on.
  both      active = modular and not frozen.
An empty set is never allowed: the module with the largest λ_max stays, and the selection's note says so.

Knobs: α (``alpha``) in (0, 1], β (``beta``) ≥ 0, ``policy`` = both | modular | temporal, and for what the paper leaves
open:
  ``threshold`` (A1), the modular policy's τ over L modules
    rank      as above.
    top       τ = α·λ_max(Θ).
    quantile  τ = the (1 − α)-quantile of the modules' λ_max, interpolated linearly between the two values around
              it; modules equal to it are all active. Without ties these are ⌊α·(L − 1)⌋ + 1 modules.
    share     exactly the ⌈α·L⌉ modules with the largest λ_max, of equal ones those nearer the input; τ is the
              smallest λ_max among them. Frozen modules count among the ⌈α·L⌉ and are not replaced.
  ``integral`` (A13) = modules (Θ is the sum over the modules) | full (the remainder's kernel is added).
  ``thaw`` (A12) = true: the temporal criterion is decided at every probe from the newest two Δ alone, so nothing is
    frozen for good.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np

from mat.limits import Range
from mat.methods.base import SPECTRA, Context, Method, Observation, Selection, Share, highest


def rank_of(alpha: float, n: int) -> int:
    """⌈α·n⌉, at least 1."""
    # 0.1 * 30 is 3.0000000000000004: without the rounding ⌈αN⌉ would be one rank too far
    return max(math.ceil(round(alpha * n, 9)), 1)


def modular_threshold(integral: np.ndarray, alpha: float) -> float:
    """τ: the ⌈α·N⌉-th largest of the integral NTK's N eigenvalues (given largest first)."""
    return float(integral[rank_of(alpha, len(integral)) - 1])


def upper_quantile(values: Sequence[float], alpha: float) -> float:
    """The (1 − α)-quantile of ``values``, interpolated linearly; exactly a value where the position is whole."""
    place = round(alpha * (len(values) - 1), 9)
    return float(np.interp(place, np.arange(len(values)), np.sort(values)[::-1]))


def temporally_frozen(history: Sequence[Observation], module: str, beta: float, thaw: bool = False) -> bool:
    """Whether the temporal criterion has held at any probe so far, from the third one on; with ``thaw``, whether it
    holds at the newest.

    A module whose kernel had not moved at the second probe (Δ_1 = 0) has no scale and is never frozen.
    """
    values = [observation.lambda_max[module] for observation in history]
    if len(values) < 3:
        return False
    delta = np.abs(np.array(values) - values[0])
    if delta[1] == 0:
        return False
    held = np.abs(np.diff(delta)[1:]) / delta[1] < beta
    return bool(held[-1] if thaw else held.any())


@dataclass(frozen=True)
class MAT(Method):
    alpha: Share = 0.1
    """Share in (0, 1] that sets τ: of the integral NTK's eigenvalues, of the largest one, or of the modules, as
    ``threshold`` says."""
    beta: Annotated[float, Range(ge=0)] = 1e-3
    """Threshold of the temporal policy on the relative change of λ_max, ≥ 0."""
    policy: Literal["both", "modular", "temporal"] = "both"
    """Policies that select: both, modular or temporal."""
    threshold: Literal["rank", "top", "quantile", "share"] = "rank"
    """Reading of τ: rank (⌈αN⌉-th eigenvalue of the integral NTK), top (α times its largest), quantile (of the
    modules' λ_max) or share (of the modules, by λ_max)."""
    thaw: bool = False
    """Let modules that the temporal policy froze train again once its criterion no longer holds."""
    integral: Literal["modules", "full"] = "modules"
    """Parameters of the integral NTK: modules, or full (the remainder's too)."""
    reads: ClassVar = frozenset({SPECTRA})

    @property
    def remainder(self) -> bool:
        return self.integral == "full"

    def modular(self, modules: tuple[str, ...], seen: Observation) -> tuple[frozenset[str], float]:
        """The modules that the modular policy keeps, and τ."""
        values = [seen.lambda_max[name] for name in modules]
        if self.threshold == "share":
            chosen = highest(modules, seen.lambda_max, rank_of(self.alpha, len(modules)))
            return chosen, min(seen.lambda_max[name] for name in chosen)
        if self.threshold == "rank":
            tau = modular_threshold(seen.integral, self.alpha)
        elif self.threshold == "top":
            tau = self.alpha * float(seen.integral[0])
        else:
            tau = upper_quantile(values, self.alpha)
        return frozenset(name for name, value in zip(modules, values, strict=True) if value >= tau), tau

    def select(self, context: Context) -> Selection:
        newest = context.history[-1]
        active, tau = frozenset(context.modules), None
        still: frozenset[str] = frozenset()
        if self.policy != "temporal":
            active, tau = self.modular(context.modules, newest)
        if self.policy != "modular":
            still = frozenset(m for m in context.modules if temporally_frozen(context.history, m, self.beta, self.thaw))
        active, note = active - still, None
        if not active:
            kept = max(context.modules, key=lambda name: newest.lambda_max[name])
            active, still = frozenset({kept}), still - {kept}
            note = f"no module passed the policies; kept the one with the largest λ_max, {kept}"
        return Selection(active, frozenset() if self.thaw else still, tau, note)


METHOD = MAT
