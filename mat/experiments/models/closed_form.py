"""The multiply-adds of one training step as parts: per module the forward pass and the two gradients.

Every family says what its modules cost (``work``); which of it runs follows from the active set and the
backward mode. That is why the largest saving of a step can be known before anything is trained.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import product as product_of
from typing import Any, NamedTuple

from mat.errors import InputError
from mat.modes import MODES
from mat.partition.partition import REMAINDER as REMAINDER


class Work(NamedTuple):
    """Multiply-adds (MACs) of one training step that belong to one module: ``forward``, the gradient of its
    weights (``weight``), and the gradient with respect to its inputs (``input``)."""

    forward: int
    weight: int
    input: int


def product(macs: int) -> Work:
    """A matrix product with a weight: as much again for either gradient."""
    return Work(macs, macs, macs)


def total(*works: Work) -> Work:
    """The sum of ``works``."""
    return Work(*map(sum, zip(*works, strict=True)))


class ModelWork(dict[str, Work]):
    """The work of a model's modules, in the partition's order, and of the remainder; subclasses say what of it runs.

    All raise InputError for an unknown backward mode or module, or a count of modules that cannot be active.
    """

    def step(self, active: Collection[str], mode: str) -> int:
        """MACs of a step with these modules active, in a backward mode of ``mat.modes``."""
        raise NotImplementedError

    def extremes(self, count: int, mode: str) -> tuple[int, int]:
        """Least and most MACs of ``step`` over all active sets of ``count`` modules."""
        raise NotImplementedError

    def checked(self, active: Collection[str], mode: str, count: int = 0) -> set[str]:
        """The active modules as a set."""
        if mode not in MODES:
            raise InputError(f"unknown backward mode {mode!r}; known: {', '.join(MODES)}")
        unknown = sorted(set(active) - (set(self) - {REMAINDER}))
        if unknown:
            raise InputError(f"{unknown[0]!r} is not a module of this model; known: {', '.join(self)}")
        if not 0 <= count < len(self):
            raise InputError(f"there are {len(self) - 1} modules, so {count} of them cannot be active")
        return set(active)


class Layers(ModelWork):
    """A transformer, whose lowest trainable layer is in the remainder, so that every other input's gradient is needed.

    ``outputs``: the heads of a layer → multiply-adds of its output projection, where that is the remainder's (A4):
    in ``detach`` the gradient of its input is computed only while a head is active; ``detach_residual`` is the
    same, as all modules sit beside residual paths. On a GPU without dropout: with it the attention call stays whole
    there (``mat.backward.operators.attention``), and layers with some but not all heads inactive run their scores'
    backward pass in full.
    """

    def __init__(self, work: Mapping[str, Work], outputs: Mapping[tuple[str, ...], int]) -> None:
        super().__init__(work)
        self.outputs = outputs

    def step(self, active: Collection[str], mode: str) -> int:
        """Σ forward + Σ_active weight + Σ_active input (all of them in ``exact``); the remainder always, but in
        ``detach`` not the input of an output projection whose heads are all inactive."""
        trained = self.checked(active, mode) | {REMAINDER}
        through = self if mode == "exact" else trained
        unread = [macs for heads, macs in self.outputs.items() if mode != "exact" and trained.isdisjoint(heads)]
        return (
            sum(one.forward for one in self.values())
            + sum(self[name].weight for name in trained)
            + sum(self[name].input for name in through)
            - sum(unread)
        )

    def extremes(self, count: int, mode: str) -> tuple[int, int]:
        """By dynamic programming over the layers' heads and the other modules, which cost the same whatever else is
        active."""
        self.checked((), mode, count)
        detach = mode != "exact"
        costs = {name: one.weight + (one.input if detach else 0) for name, one in self.items() if name != REMAINDER}
        parts = [(heads, macs if detach else 0) for heads, macs in self.outputs.items()]
        parts.append((tuple(costs.keys() - {name for heads in self.outputs for name in heads}), 0))
        found = {0: (0, 0)}
        for names, once in parts:
            rising = sorted(costs[name] for name in names)
            ends = [(sum(rising[:k]), sum(rising[len(rising) - k :])) for k in range(len(rising) + 1)]
            wider: dict[int, tuple[int, int]] = {}
            for (used, (least, most)), (k, (low, high)) in product_of(found.items(), enumerate(ends)):
                extra = once if k else 0
                old = wider.get(used + k, (math.inf, -math.inf))
                wider[used + k] = min(old[0], least + low + extra), max(old[1], most + high + extra)
            found = wider
        base = self.step((), mode)
        return base + found[count][0], base + found[count][1]


def transformer(settings: Any, length: int, tokens: int, blocks: Sequence[Mapping[str, Work]], rest: Work) -> Layers:
    """A model of ``tokens`` tokens in sequences of ``length``: attention in front of each of ``blocks``, the modules of
    one layer's feed-forward part; ``rest``: the remainder without output projections.

    Of ``settings`` are the ``width``, the number of equal ``heads``, and ``head_outputs``: whether a head owns its
    columns of W_O, or the remainder has W_O (A4). A head has its part of the projections, and of scores and values,
    which have no weights and two inputs each.
    """
    outer, scores = settings.width**2 * tokens, 2 * length * settings.width * tokens // settings.heads
    own = (4 if settings.head_outputs else 3) * outer // settings.heads
    found: dict[str, Work] = {}
    outputs: dict[tuple[str, ...], int] = {}
    for layer, block in enumerate(blocks):
        names = tuple(f"layer{layer}.head{h}" for h in range(settings.heads))
        found |= dict.fromkeys(names, Work(own + scores, own, own + 2 * scores)) | block
        if not settings.head_outputs:
            outputs[names] = outer
    return Layers(found | {REMAINDER: total(rest, product(len(outputs) * outer))}, outputs)


def feed_forward(layers: int, groups: int, macs: int) -> tuple[list[dict[str, Work]], Work]:
    """The modules of each layer's feed-forward part, ``groups`` equal neuron groups of a block that costs ``macs``
    forward, and what is left to the remainder: all blocks where ``groups`` is 0 (A5)."""
    if not groups:
        return [{} for _ in range(layers)], product(layers * macs)
    each = product(macs // groups)
    return [dict.fromkeys(ffn_names(layer, groups), each) for layer in range(layers)], product(0)


def ffn_names(layer: int, groups: int) -> list[str]:
    """Names of a feed-forward block's neuron groups as ``mat.partition.discovery`` gives them."""
    return [f"layer{layer}.ffn{g}" for g in range(groups)] if groups > 1 else [f"layer{layer}.ffn"]
