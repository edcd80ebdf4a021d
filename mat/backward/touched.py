"""Whether gradients were changed between a backward pass and a step: those of whole parameters and not those of slices.

Who clips ``model.parameters()`` reaches no slice. The versions of gradients tell so, as their backward pass left them
and as a step finds them; those of slices of one parameter may be counted together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from torch import nn

FIRST = 8  # steps that are looked at


class Touched:
    """Counts how often gradients of ``leaves`` were changed in place, or replaced, since they were accumulated.
    ``left``: steps that are still to be looked at."""

    def __init__(self, leaves: Iterable[nn.Parameter]) -> None:
        self.left = FIRST
        self._made: dict[int, int] = {}  # by where it lies in memory: the newest version
        self._hooks = [leaf.register_post_accumulate_grad_hook(self._accumulated) for leaf in leaves]

    def _accumulated(self, leaf: nn.Parameter) -> None:
        if leaf.grad is not None:  # an undefined gradient is accumulated, too
            self._made[_memory(leaf)] = leaf.grad._version

    def more(self, some: Sequence[nn.Parameter], others: Sequence[nn.Parameter]) -> bool:
        """Whether each of ``some`` that has a gradient was changed more often than any of ``others``. Asked at a step
        while some are ``left``."""
        some, others = ([leaf for leaf in found if leaf.grad is not None] for found in (some, others))
        if not some or not others:
            return False
        shared = Counter(_memory(leaf) for leaf in (*some, *others))
        times = [[self._times(leaf, shared[_memory(leaf)]) for leaf in found] for found in (some, others)]
        self.left -= 1
        self._made = {}
        if not self.left:
            self.stop()
        return min(times[0]) > max(times[1])

    def _times(self, leaf: nn.Parameter, shared: int) -> float:
        assert leaf.grad is not None  # as was asked
        made = self._made.get(_memory(leaf), -1)  # an own tensor, in place of the one that was accumulated
        return (leaf.grad._version - made) / shared

    def stop(self) -> None:
        """Look no longer."""
        self.left = 0
        for hook in self._hooks:
            hook.remove()
        self._hooks = []


def _memory(leaf: nn.Parameter) -> int:
    assert leaf.grad is not None  # of which it is
    return leaf.grad.untyped_storage().data_ptr()
