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
  ``scope`` (A22), what is compared with what
    (none)    each module, with the others of all kinds: Θ = Σ_l Θ_l.
    kind      each module, with the others of its kind k: Θ, N, L and τ are those of Θ_k = Σ_{l of k} Θ_l.
    layer     a layer's modules are one: λ_t = λ_max(Σ_{l in it} Θ_l), L the number of layers, all follow it.
  ``routed`` (A23) = true: λ_t of an expert is λ_max(Θ_l)/s_l, s_l its share of the tokens that its layer's experts
    were given of the probe's samples (0 without any); τ stays that of the kernels as they are. tr Θ_l grows with the
    tokens whose gradients Θ_l is made of, each sample's to one expert, or their gradients orthogonal: then λ_t is what
    the expert would have with all tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from mat.errors import InputError
from mat.limits import Range
from mat.methods.base import SPECTRA, Context, Method, Observation, Selection, Share, highest, layers_of

Values = Mapping[Any, float]  # by module, or by layer


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


def temporally_frozen(values: Sequence[float], beta: float, thaw: bool = False) -> bool:
    """Whether the temporal criterion has held at any probe so far, from the third one on; with ``thaw``, whether it
    holds at the newest. ``values``: a module's λ_max, probe by probe.

    A module whose kernel had not moved at the second probe (Δ_1 = 0) has no scale and is never frozen.
    """
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
    scope: Literal["kind", "layer"] | None = None
    """What is compared: every module with those of its kind, or layers, whose modules are one; none: every module with
    all others."""
    routed: Literal[True] | None = None
    """Divide an expert's λ_max by its share of its layer's tokens."""
    reads: ClassVar = frozenset({SPECTRA})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scope == "kind" and self.remainder:
            raise InputError("scope kind goes by the spectrum of each kind's own modules: leave integral full out")
        if self.scope == "layer" and self.routed:
            raise InputError("routed is of single experts, and scope layer has none: leave one of them out")

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset({"expert"} if self.routed else ())

    @property
    def remainder(self) -> bool:
        return self.integral == "full"

    @property
    def routes(self) -> bool:
        return bool(self.routed)

    def units(self, context: Context) -> dict[Any, list[str]]:
        """What is chosen as one, from the input to the output, and its modules: every module, or every layer."""
        if self.scope == "layer":
            return {context.depth[names[0]]: names for names in layers_of(context)}
        return {name: [name] for name in context.modules}

    def values(self, seen: Observation) -> Values:
        """λ_t of every unit."""
        if self.scope == "layer":
            return seen.layers
        if not self.routed:
            return seen.lambda_max
        # without tokens there is no gradient, and λ_max is 0
        return {name: value and value / seen.routed.get(name, 1.0) for name, value in seen.lambda_max.items()}

    def compared(self, context: Context) -> list[tuple[list[Any], np.ndarray]]:
        """The units that are decided on together, and the spectrum that τ is of."""
        units, newest = list(self.units(context)), context.history[-1]
        if self.scope != "kind":
            return [(units, newest.integral)]
        return [([u for u in units if context.kind[u] == kind], newest.kinds[kind]) for kind in newest.kinds]

    def modular(self, units: Sequence[Any], values: Values, spectrum: np.ndarray) -> tuple[frozenset[Any], float]:
        """The ``units`` that the modular policy keeps, and τ."""
        if self.threshold == "share":
            chosen = highest(units, values, rank_of(self.alpha, len(units)))
            return chosen, min(values[unit] for unit in chosen)
        if self.threshold == "rank":
            tau = modular_threshold(spectrum, self.alpha)
        elif self.threshold == "top":
            tau = self.alpha * float(spectrum[0])
        else:
            tau = upper_quantile([values[unit] for unit in units], self.alpha)
        return frozenset(unit for unit in units if values[unit] >= tau), tau

    def select(self, context: Context) -> Selection:
        units, values = self.units(context), [self.values(seen) for seen in context.history]
        active: frozenset[Any] = frozenset(units)
        still: frozenset[Any] = frozenset()
        taus: dict[Any, float] = {}
        if self.policy != "temporal":
            active = frozenset()
            for group, spectrum in self.compared(context):
                kept, tau = self.modular(group, values[-1], spectrum)
                active, taus = active | kept, taus | dict.fromkeys(group, tau)
        if self.policy != "modular":
            still = frozenset(
                unit for unit in units if temporally_frozen([seen[unit] for seen in values], self.beta, self.thaw)
            )
        active, note = active - still, None
        if not active:
            first = max(units, key=lambda unit: values[-1][unit])
            active, still = frozenset({first}), still - {first}
            note = f"no module passed the policies; kept the one with the largest λ_max, {first}"

        def modules(chosen: frozenset[Any]) -> frozenset[str]:
            return frozenset(name for unit in chosen for name in units[unit])

        thresholds = {name: tau for unit, tau in taus.items() for name in units[unit]}
        return Selection(modules(active), frozenset() if self.thaw else modules(still), thresholds, note)


METHOD = MAT
