"""Factors that tell runs apart by gradients, and the few samples that they are asked of.

The factors are ±1, ±2, ±4 and ±8: no product with them rounds, so what is left to compare is a few units of precision.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mat.forward import Inputs, first

FEW = 2  # samples
FACTORS = (1.0, 2.0, 4.0, 8.0, -1.0, -2.0, -4.0, -8.0)
CONFIRMED, CONTRADICTED, UNSEEN, IDLE = "confirmed", "contradicted", "unseen", "idle"


def digits(count: int) -> int:
    return math.ceil(math.log(count, len(FACTORS)) - 1e-9)


def codes(count: int, digit: int) -> Tensor:
    return torch.tensor([FACTORS[m // len(FACTORS) ** digit % len(FACTORS)] for m in range(count)])


def spread(codes: Tensor, length: int) -> Tensor:
    """One entry for every unit of equal runs."""
    return codes.repeat_interleave(length // len(codes))


def scaled(before: Tensor | None, after: Tensor | None, factors: Tensor, summed: bool = False) -> bool:
    """Whether every row's gradients (…, rows) were multiplied by its factor, as exactly as their precision has it.

    ``summed``: they are sums over positions, in no order that is known: to √ε, where a wrong factor is off by half.
    """
    if before is None or after is None:
        return before is after
    if not before.numel():
        return True
    info, expected = torch.finfo(before.dtype), before * factors.to(before)
    relative = info.eps**0.5 if summed else 8 * info.eps
    allowed = relative * expected.abs().amax(0) + info.tiny + info.eps**2 * expected.abs().max()
    return bool(((after - expected).abs().amax(0) <= allowed).all())


def first_few(inputs: Inputs) -> dict[str, Any]:
    """The first samples, which the model may change in place."""
    return {name: v.clone() if isinstance(v, Tensor) else v for name, v in first(inputs, FEW).items()}


@contextmanager
def buffers_kept(model: nn.Module) -> Iterator[None]:
    """Buffers that a forward pass changes are put back."""
    before = [
        (module, name, buffer, buffer.clone(), buffer._version)
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, buffer, values, version in before:
                module._buffers[name] = buffer
                if buffer._version != version:
                    buffer.copy_(values)
