"""Modular Adaptive Training (MAT): train the modules whose kernels still have large principal eigenvalues.

Claim: nearly halves the compute to convergence and does not cost quality (C4, C5).
Source: Shi et al., NeurIPS 2023, arXiv 2405.07527; definitions as in the ambiguity register (A1, A2, A12).

Equations, at probe t with λ_t = λ_max(Θ_l):
  modular   l is active when λ_t ≥ τ_t, τ_t the ⌈α·N⌉-th largest eigenvalue of the integral NTK (size N).
  temporal  with Δ_t = |λ_t − λ_0|, l is frozen for good once |Δ_t − Δ_{t−1}| / Δ_1 < β, from the third probe on.
  both      active = modular and not frozen.
An empty set is never allowed: the module with the largest λ_max stays, and the selection's note says so.

Knobs: α (``alpha``) in (0, 1], β (``beta``) ≥ 0, ``policy`` = both | modular | temporal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mat.errors import InputError
from mat.methods.base import SPECTRA, Context, Method, Observation, Selection, require_share

POLICIES = ("both", "modular", "temporal")


def modular_threshold(integral: np.ndarray, alpha: float) -> float:
    """τ: the ⌈α·N⌉-th largest of the integral NTK's N eigenvalues (given largest first)."""
    # 0.1 * 30 is 3.0000000000000004: without the rounding ⌈αN⌉ would be one rank too far
    rank = math.ceil(round(alpha * len(integral), 9))
    return float(integral[max(rank, 1) - 1])


def temporally_frozen(history: Sequence[Observation], module: str, beta: float) -> bool:
    """Whether the temporal criterion has held at any probe so far, from the third one on.

    A module whose kernel had not moved at the second probe (Δ_1 = 0) has no scale and is never frozen.
    """
    values = [observation.lambda_max[module] for observation in history]
    if len(values) < 3:
        return False
    delta = np.abs(np.array(values) - values[0])
    if delta[1] == 0:
        return False
    return bool((np.abs(np.diff(delta)[1:]) / delta[1] < beta).any())


@dataclass(frozen=True)
class MAT(Method):
    alpha: float = 0.1
    beta: float = 1e-3
    policy: str = "both"
    reads = frozenset({SPECTRA})

    def __post_init__(self) -> None:
        super().__post_init__()
        require_share("alpha", self.alpha)
        if not (isinstance(self.beta, int | float) and self.beta >= 0):
            raise InputError(f"beta must be a number ≥ 0, got {self.beta!r}")
        if self.policy not in POLICIES:
            raise InputError(f"policy must be one of {', '.join(POLICIES)}, got {self.policy!r}")

    def select(self, context: Context) -> Selection:
        newest = context.history[-1]
        active, frozen, threshold = set(context.modules), set(), None
        if self.policy != "temporal":
            threshold = modular_threshold(newest.integral, self.alpha)
            active = {name for name in active if newest.lambda_max[name] >= threshold}
        if self.policy != "modular":
            frozen = {m for m in context.modules if temporally_frozen(context.history, m, self.beta)}
            active -= frozen
        note = None
        if not active:
            kept = max(context.modules, key=lambda name: newest.lambda_max[name])
            active, frozen = {kept}, frozen - {kept}
            note = f"no module passed the policies; kept the one with the largest λ_max, {kept}"
        return Selection(frozenset(active), frozenset(frozen), threshold, note)


METHOD = MAT
