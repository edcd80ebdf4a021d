"""The multiply-adds of one training step as parts: per module the forward pass and the two gradients.

Every family says what its modules cost (``work``); which of it runs follows from the active set and the
backward mode. That is why the largest saving of a step can be known before anything is trained.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from mat.backward import MODES
from mat.errors import InputError

REMAINDER = "remainder"


class Work(NamedTuple):
    """Multiply-adds (MACs) of one training step that belong to one module: ``forward``, the gradient of its
    weights (``weight``), and the gradient with respect to its inputs (``input``)."""

    forward: int
    weight: int
    input: int


def product(macs: int) -> Work:
    """A matrix product with a weight: as much again for either gradient."""
    return Work(macs, macs, macs)


def attention_head(width: int, heads: int, length: int, tokens: int) -> Work:
    """One of ``heads`` equal heads over ``tokens`` tokens in sequences of ``length``: its part of the four
    projections, and of scores and values, which have no weights and two inputs each."""
    projections, scores = 4 * width * width * tokens // heads, 2 * length * width * tokens // heads
    return Work(projections + scores, projections, projections + 2 * scores)


def ffn_names(layer: int, groups: int) -> list[str]:
    """Names of a feed-forward block's neuron groups as ``mat.structure`` gives them."""
    return [f"layer{layer}.ffn{g}" for g in range(groups)] if groups > 1 else [f"layer{layer}.ffn"]


Works = Mapping[str, Work]


def step(work: Works, active: Collection[str], mode: str) -> int:
    """MACs of a step: Σ forward + Σ_active weight + Σ_active input (all of them in ``exact``); the remainder always.

    For models whose lowest trainable layer is in the remainder, so that every input's gradient is needed.
    Raises InputError for an unknown mode or module.
    """
    trained = check(work, active, mode) | {REMAINDER}
    through = work if mode == "exact" else trained
    return (
        sum(one.forward for one in work.values())
        + sum(work[name].weight for name in trained)
        + sum(work[name].input for name in through)
    )


def extremes(work: Works, count: int, mode: str) -> tuple[int, int]:
    """Least and most MACs of ``step`` over all active sets of ``count`` modules. Raises InputError as it does."""
    check(work, (), mode)
    costs = sorted(
        one.weight + (one.input if mode == "detach" else 0) for name, one in work.items() if name != REMAINDER
    )
    if not 0 <= count <= len(costs):
        raise InputError(f"there are {len(costs)} modules, so {count} of them cannot be active")
    base = step(work, (), mode)
    return base + sum(costs[:count]), base + sum(costs[len(costs) - count :])


def check(work: Works, active: Collection[str], mode: str) -> set[str]:
    """The active modules as a set. Raises InputError for an unknown mode or module."""
    if mode not in MODES:
        raise InputError(f"unknown backward mode {mode!r}; known: {', '.join(MODES)}")
    unknown = sorted(set(active) - (set(work) - {REMAINDER}))
    if unknown:
        raise InputError(f"{unknown[0]!r} is not a module of this model; known: {', '.join(work)}")
    return set(active)
