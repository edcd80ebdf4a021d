"""The multiply-adds of one training step as parts: per module the forward pass and the two gradients.

Every family says what its modules cost (``work``); which of it runs follows from the active set and the
backward mode. That is why the largest saving of a step can be known before anything is trained.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import product as product_of
from typing import NamedTuple

from mat.backward.sparse import MODES
from mat.errors import InputError
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


Works = Mapping[str, Work]


class Layers(dict[str, Work]):
    """The work of a transformer's modules, in their order, and of the remainder.

    ``outputs``: the heads of a layer → multiply-adds of its output projection, where that is the remainder's (A4):
    in ``detach`` the gradient of its input is computed only while one of the heads is active.
    """

    def __init__(self, work: Works, outputs: Mapping[tuple[str, ...], int]) -> None:
        super().__init__(work)
        self.outputs = outputs


@dataclass(frozen=True)
class Attention:
    """The attention of every layer: ``heads`` equal heads over ``tokens`` tokens in sequences of ``length``;
    ``outputs``: whether a head owns its columns of W_O, or the remainder has W_O (A4)."""

    width: int
    heads: int
    length: int
    tokens: int
    outputs: bool = True

    def head(self) -> Work:
        """One head: its part of the projections, and of scores and values, without weights and two inputs each."""
        own = (4 if self.outputs else 3) * self.width**2 * self.tokens // self.heads
        scores = 2 * self.length * self.width * self.tokens // self.heads
        return Work(own + scores, own, own + 2 * scores)

    def layers(self, blocks: Sequence[Works], remainder: Work) -> Layers:
        """The work of a transformer: this attention in front of each of ``blocks``, the modules of one layer's
        feed-forward part; ``remainder``: all else, without output projections."""
        head, outer = self.head(), self.width**2 * self.tokens
        found: dict[str, Work] = {}
        outputs: dict[tuple[str, ...], int] = {}
        for layer, block in enumerate(blocks):
            names = tuple(f"layer{layer}.head{h}" for h in range(self.heads))
            found |= dict.fromkeys(names, head) | block
            if not self.outputs:
                outputs[names] = outer
        rest = total(remainder, product(len(outputs) * outer))
        return Layers(found | {REMAINDER: rest}, outputs)


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


def step(work: Layers, active: Collection[str], mode: str) -> int:
    """MACs of a step: Σ forward + Σ_active weight + Σ_active input (all of them in ``exact``); the remainder always,
    but in ``detach`` not the input of an output projection whose heads are all inactive.

    For models whose lowest trainable layer is in the remainder, so that every other input's gradient is needed.
    Raises InputError for an unknown mode or module.
    """
    trained = check(work, active, mode) | {REMAINDER}
    through = work if mode == "exact" else trained
    unread = [macs for heads, macs in work.outputs.items() if mode == "detach" and trained.isdisjoint(heads)]
    return (
        sum(one.forward for one in work.values())
        + sum(work[name].weight for name in trained)
        + sum(work[name].input for name in through)
        - sum(unread)
    )


def extremes(work: Layers, count: int, mode: str) -> tuple[int, int]:
    """Least and most MACs of ``step`` over all active sets of ``count`` modules. Raises InputError as it does.

    By dynamic programming over the layers' heads and the other modules, which cost the same whatever else is active.
    """
    check(work, (), mode)
    if not 0 <= count < len(work):
        raise InputError(f"there are {len(work) - 1} modules, so {count} of them cannot be active")
    detach = mode == "detach"
    costs = {name: one.weight + (one.input if detach else 0) for name, one in work.items() if name != REMAINDER}
    together = [name for heads in work.outputs for name in heads]
    parts = [(heads, macs if detach else 0) for heads, macs in work.outputs.items()]
    parts.append((tuple(costs.keys() - set(together)), 0))
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
    base = step(work, (), mode)
    return base + found[count][0], base + found[count][1]


def check(work: Works, active: Collection[str], mode: str) -> set[str]:
    """The active modules as a set. Raises InputError for an unknown mode or module."""
    if mode not in MODES:
        raise InputError(f"unknown backward mode {mode!r}; known: {', '.join(MODES)}")
    unknown = sorted(set(active) - (set(work) - {REMAINDER}))
    if unknown:
        raise InputError(f"{unknown[0]!r} is not a module of this model; known: {', '.join(work)}")
    return set(active)
