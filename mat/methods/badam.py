"""BAdam: one block of layers at a time, all of them in turn.

Claim: a rival of C6, block coordinate descent, which measures nothing and neglects no layer. Source: Luo, Yu & Li,
BAdam: A Memory Efficient Full Parameter Optimization Method for Large Language Models, NeurIPS 2024, arXiv 2404.02827.

Equation: the layers are cut into B blocks of neighbours; interval t trains block π_k(t mod B), k = ⌊t / B⌋ the cycle,
π_k a uniform permutation of the blocks (random) or the blocks from the input (ascending) or the output (descending).

Theirs: Adam on one block for K steps, then on the next; the orders are those of their code. Different here: everything
that is no module always trains, where they leave embedding and output layer out unless asked; the optimizer keeps a
block's state, theirs starts anew at every switch; K is the probe's interval. Their gradients are exact: mode ``exact``.
Detached, without residual connections, every block but the uppermost gets no gradient.

Knobs: ``order`` = random | ascending | descending; ``layers`` per block, fewer in the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mat.methods.base import Context, Count, Method, Selection, layers_of


@dataclass(frozen=True)
class BAdam(Method):
    order: Literal["random", "ascending", "descending"] = "random"
    """Order of the blocks within a cycle: random, ascending (from the input) or descending."""
    layers: Count = 1
    """Layers per block, at least 1."""

    def select(self, context: Context) -> Selection:
        layers = layers_of(context)
        starts = list(range(0, len(layers), self.layers))
        cycle, position = divmod(context.interval, len(starts))
        if self.order == "random":
            # the stream that is the same at every interval, drawn from once per cycle, gives π_0, …, π_k
            start = [context.fixed.permutation(starts) for _ in range(cycle + 1)][-1][position]
        else:
            start = (starts if self.order == "ascending" else starts[::-1])[position]
        return Selection(frozenset(name for layer in layers[start : start + self.layers] for name in layer))


METHOD = BAdam
