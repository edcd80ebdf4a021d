"""The n modules that moved most: λ_max against the probe before.

Claim: none; an example of a method in a file of one's own.
Equation: the ``count`` modules with the largest |λ_t − λ_{t−1}|; all of them at the first probe.
Source: –.
Knobs: ``count``.
"""

from dataclasses import dataclass

from mat import Method, Selection
from mat.errors import InputError
from mat.methods.base import SPECTRA, highest


@dataclass(frozen=True)
class Moved(Method):
    count: int = 3
    """Modules to train, at least one."""
    reads = frozenset({SPECTRA})

    def __post_init__(self):
        super().__post_init__()
        if self.count < 1:
            raise InputError(f"count must be ≥ 1, got {self.count}")

    def select(self, context):
        if len(context.history) < 2:
            return Selection(frozenset(context.modules))
        before, now = (seen.lambda_max for seen in context.history[-2:])
        moved = {name: abs(now[name] - before[name]) for name in context.modules}
        return Selection(highest(context.modules, moved, self.count))


METHOD = Moved
