"""Vanilla: every module trains at every step; plain PyTorch, nothing skipped.

Claim: the baseline whose compute and quality every saving is measured against.
Equation: active = all. Knobs: none. Source: –.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mat.methods.base import Context, Method, Selection


@dataclass(frozen=True)
class Vanilla(Method):
    dense: ClassVar = True

    def select(self, context: Context) -> Selection:
        return Selection(frozenset(context.modules))


METHOD = Vanilla
