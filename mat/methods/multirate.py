"""Multirate training: a fast part at every step, a slow part every k-th step with k times the step.

Claim: a baseline of C6. Source: Vlaar & Leimkuhler, Multirate Training of Neural Networks, ICML 2022.
Equation: θ_fast ← θ_fast − h ∇L at every step; θ_slow ← θ_slow − k·h ∇L at every k-th step.

The fast part is the half of the layers nearest the output, the slow part the other half (ambiguity A15);
the remainder is fast. Knobs: ``k`` ≥ 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from mat.limits import Range
from mat.methods.base import Context, Method, Selection


@dataclass(frozen=True)
class Multirate(Method):
    k: Annotated[int, Range(ge=1, le=1000)] = 5
    """Period of the lower half of the layers in steps; beyond a thousand that half would hardly train."""

    def select(self, context: Context) -> Selection:
        return Selection(frozenset(context.modules))

    def periods(self, modules: tuple[str, ...], depth: Mapping[str, int]) -> dict[str, int]:
        layers = sorted(set(depth.values()))
        slow = set(layers[: len(layers) // 2])
        return {name: self.k for name in modules if depth[name] in slow}


METHOD = Multirate
