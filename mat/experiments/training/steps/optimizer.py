"""A recipe's optimizer, its groups and its learning rate."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from mat.experiments.config.spec import Recipe


def schedule(recipe: Recipe, step: float, steps: int) -> float:
    """The learning rate's factor at ``step`` of ``steps``: linear warm-up, then the recipe's decay to zero. A place
    that is no whole step is that of a run which goes by compute."""
    warm = recipe.warm(steps)
    if step < warm:
        return min((step + 1) / warm, 1.0)
    if recipe.schedule == "constant":
        return 1.0
    done = (step - warm) / max(steps - warm, 1)
    return 1 - done if recipe.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2


def make_optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """AdamW or SGD over the trainable parameters of ``model``."""
    # foreach: the same numbers in fewer calls, and modules make many small leaves
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(_groups(recipe, model), lr=recipe.lr, foreach=True)
    return torch.optim.SGD(_groups(recipe, model), lr=recipe.lr, momentum=recipe.momentum, foreach=True)


def _groups(recipe: Recipe, model: nn.Module) -> list[dict[str, Any]]:
    """Weight decay for ``all`` parameters, or for ``matrices`` (two dimensions or more) only."""
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in (p for p in model.parameters() if p.requires_grad):
        decayed = recipe.decay == "all" or parameter.dim() > 1
        groups.setdefault(recipe.weight_decay if decayed else 0.0, []).append(parameter)
    return [{"params": found, "weight_decay": decay} for decay, found in groups.items()]
