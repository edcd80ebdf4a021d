"""What rounding does to a training, so that two trainings are compared by their arithmetic and not by one machine's."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

# What a gradient may differ by, of the model's largest, where its sum is taken in another order: √4096 ε, for sums of
# some thousand terms.
ROUNDING = 64 * torch.finfo(torch.float64).eps


def largest_gradient(model: nn.Module) -> float:
    return max(float(p.grad.abs().max()) for p in model.parameters() if p.grad is not None)


def disturb(model: nn.Module, draws: torch.Generator) -> None:
    """Move every gradient by as much as rounding may."""
    scale = ROUNDING * largest_gradient(model)
    for p in model.parameters():
        if p.grad is not None:
            p.grad += scale * (2 * torch.rand(p.shape, generator=draws, dtype=p.dtype) - 1)


def spread(train: Callable[[Callable[[nn.Module], None]], nn.Module]) -> dict[str, float]:
    """How far apart two trainings end whose gradients differ by rounding: per parameter, its own rounding included.

    ``train(change)``: trains a new model, always the same one, calls ``change(model)`` when it has its gradients, and
    returns it. What comes out is what the optimizer makes of rounding: Adam divides by √v + 1e-8, Rprop follows signs,
    so where a gradient is nothing but rounding (a key's bias under softmax) no fixed bound holds on every processor.
    """
    draws = torch.Generator().manual_seed(0)
    plain = train(lambda model: None).state_dict()
    other = train(lambda model: disturb(model, draws)).state_dict()
    return {
        key: float((value - other[key]).abs().max() + ROUNDING * value.abs().max())
        for key, value in plain.items()
        if value.is_floating_point()
    }


def assert_same_weights(found: nn.Module, expected: nn.Module, allowed: dict[str, float]) -> None:
    """No further apart than ``allowed``, which is of ``spread``."""
    states = found.state_dict()
    for key, value in expected.state_dict().items():
        bound = allowed.get(key, 0.0)
        torch.testing.assert_close(states[key], value, rtol=0, atol=bound, msg=lambda m, k=key: k + m)
