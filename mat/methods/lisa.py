"""LISA: a few whole layers drawn anew at every interval.

Claim: a rival of C6 that chooses layers, not modules, and by chance alone. Source: Pan et al., LISA: Layerwise
Importance Sampling for Memory-Efficient Large Language Model Fine-Tuning, NeurIPS 2024, arXiv 2403.17919.

Equation: γ of the layers, uniformly without replacement; active = all of their modules.

Theirs: γ intermediate layers re-drawn every K steps, embedding and output layer always training. Different here:
everything that is no module always trains, norms included; the optimizer keeps the state of a layer that stops, theirs
drops it; K is the probe's interval. Their gradients are exact: mode ``exact``. Detached, without residual connections,
a layer below one that was not drawn gets no gradient.

Knobs: exactly one of ``layers`` (γ, all where there are fewer), ``match`` and ``share``. With the last two, layers are
drawn until at least c_t modules are active (``mat.methods.base.Matched``), so up to a layer more than c_t.
"""

from __future__ import annotations

from dataclasses import dataclass

from mat.errors import InputError
from mat.methods.base import Context, Count, Matched, Method, Selection, layers_of


@dataclass(frozen=True)
class Lisa(Matched):
    layers: Count | None = None
    """Number of layers drawn per interval, at least 1; in place of ``match`` and ``share``."""

    def __post_init__(self) -> None:
        if self.layers is None:
            return super().__post_init__()
        Method.__post_init__(self)
        if self.match is not None or self.share is not None:
            raise InputError("layers is in place of match and share, got it with another; leave one out")

    def select(self, context: Context) -> Selection:
        layers = layers_of(context)
        active: list[str] = []
        for drawn, index in enumerate(context.rng.permutation(len(layers))):
            enough = len(active) >= self.count(context) if self.layers is None else drawn >= self.layers
            if enough:
                break
            active += layers[index]
        return Selection(frozenset(active))


METHOD = Lisa
