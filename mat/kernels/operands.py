"""What a call of a torch function makes of its operands: where per-sample gradients of a parameter come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from mat.kernels.factors import Factors
from mat.kernels.row_layout import Layout

Make = Callable[[Tensor], Factors | Tensor]
Locate = Callable[[Tensor, Tensor], Make | None]


@dataclass
class Call:
    """``operands``: (tensor, locate); locate(operand, parameter) is the ``Make`` of that parameter: from the
    gradient at the output to the per-sample gradients, as factors or (n, numel); None where the operand is a
    view that cannot be followed. ``copies``: the output has one sample for all, and is copied n times."""

    layout: Layout
    operands: list[tuple[Tensor, Locate]]
    copies: int = 1


def call_of(layout: Layout, *operands: tuple[Tensor | None, Locate], copies: int = 1) -> Call:
    return Call(layout, [(tensor, locate) for tensor, locate in operands if tensor is not None], copies)


def offset(operand: Tensor, parameter: Tensor) -> int:
    return int(operand.storage_offset() - parameter.storage_offset())


def matrix(factors: Callable[[Tensor, int], Factors], width: int) -> Locate:
    """A parameter used as a matrix of rows of ``width`` entries; ``factors(gradient, first row)``."""

    def locate(operand: Tensor, parameter: Tensor) -> Make | None:
        start = offset(operand, parameter)
        whole = operand.is_contiguous() and parameter.is_contiguous()
        if not whole or start % width or parameter.numel() % width:
            return None
        return lambda g: factors(g, start // width)

    return locate


def vector(reduce: Callable[[Tensor], Tensor], n: int) -> Locate:
    """A parameter whose per-sample gradients ``reduce`` forms: (n, numel of the operand)."""

    def locate(operand: Tensor, parameter: Tensor) -> Make | None:
        if not (operand.is_contiguous() and parameter.is_contiguous()):
            return None
        start = offset(operand, parameter)

        def make(g: Tensor) -> Tensor:
            values = reduce(g).reshape(n, -1)
            whole = values.new_zeros(n, parameter.numel())
            whole[:, start : start + values.shape[1]] = values
            return whole

        return make

    return locate
