"""What a call of a torch function makes of its operands: how its rows belong to samples, and where per-sample
gradients of a parameter come from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mat.kernels.recording.factors import Factors

Make = Callable[[Tensor], Factors | Tensor]
Locate = Callable[[Tensor, Tensor], Make | None]


class Layout:
    """How the rows of a tensor belong to ``n`` samples.

    ``lead``: the leading dimensions, whose product is the number of rows; the rest are a row's features.
    ``clear``: by its shape, the samples are the first dimension (or, inside attention, the second);
    ``certain``: and no other reading of the shape is as good. ``several``: a sample has more than one row.
    """

    def __init__(self, n: int, lead: tuple[int, ...], source: Tensor, features: int, sample_dim: int = 0) -> None:
        self.n, self.rank, self.rows, self.sample_dim = n, len(lead), math.prod(lead), sample_dim
        self._order: Tensor | None = None
        self.several = self.rows > n
        if sample_dim == 1:
            self.clear = lead[1] == n if len(lead) > 1 else self.rows % n == 0
            self.certain = self.clear and lead[0] != n
        else:
            flattened = _is_flattened(source, n)
            self.clear = lead[0] == n or flattened
            self.certain = flattened or (self.clear and len(lead) + features > 2 and n not in lead[1:])

    @property
    def expected(self) -> Tensor:
        """The sample of every row as the shape has it, where it is clear."""
        rows = torch.arange(self.rows)
        return rows % self.n if self.sample_dim == 1 else rows // (self.rows // self.n)

    def assign(self, sample: Tensor) -> None:
        """Give every row (``rows`` of them) its sample; −1 for a row without gradient, which none needs."""
        order = torch.argsort(sample, stable=True)
        self._order = order[sample[order] >= 0]
        self._owner = sample[self._order]
        counts = torch.bincount(self._owner, minlength=self.n)
        place = torch.arange(len(self._owner), device=sample.device)
        self._place = place - (counts.cumsum(0) - counts)[self._owner]
        self._longest = max(int(counts.max()), 1)

    def gather(self, tensor: Tensor, fill: float = 0) -> Tensor:
        """``tensor`` (*lead, *features) as (n, rows of each, *features); short samples end in ``fill``."""
        features = tensor.shape[self.rank :]
        if self._order is not None:
            rows = tensor.reshape(self.rows, *features)
            out = rows.new_full((self.n, self._longest, *features), fill)
            out[self._owner, self._place] = rows[self._order]
            return out
        if self.sample_dim == 1:
            return tensor.reshape(-1, self.n, *features).transpose(0, 1)
        return tensor.reshape(self.n, -1, *features)

    def positions(self, tensor: Tensor) -> Tensor:
        """``tensor`` (*lead, width) as (n, T, width)."""
        return self.gather(tensor).reshape(self.n, -1, tensor.shape[-1])


def _is_flattened(tensor: Tensor, n: int) -> bool:
    """Whether ``tensor`` is a view of one whose first dimension is the n samples, outermost in memory."""
    base = tensor._base
    return (
        base is not None
        and base.dim() > 2
        and base.shape[0] == n
        and base.stride(0) * n == base.numel() == tensor.numel()
        and tensor.is_contiguous()
    )


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


def same_view(a: Tensor, b: Tensor) -> bool:
    """Whether both are the same entries in the same order, whatever the order of memory."""
    return (a.shape, a.stride(), a.storage_offset()) == (b.shape, b.stride(), b.storage_offset())


def matrix(factors: Callable[[Tensor, int], Factors], width: int) -> Locate:
    """A parameter used as a matrix of rows of ``width`` entries; ``factors(gradient, first row)``."""

    def locate(operand: Tensor, parameter: Tensor) -> Make | None:
        if same_view(operand, parameter):
            return lambda g: factors(g, 0)
        start = offset(operand, parameter)
        whole = operand.is_contiguous() and parameter.is_contiguous()
        if not whole or start % width or parameter.numel() % width:
            return None
        return lambda g: factors(g, start // width)

    return locate


def vector(reduce: Callable[[Tensor], Tensor], n: int) -> Locate:
    """A parameter whose per-sample gradients ``reduce`` forms: (n, numel of the operand)."""

    def locate(operand: Tensor, parameter: Tensor) -> Make | None:
        if not (same_view(operand, parameter) or (operand.is_contiguous() and parameter.is_contiguous())):
            return None
        start = offset(operand, parameter)

        def make(g: Tensor) -> Tensor:
            values = reduce(g).reshape(n, -1)
            whole = values.new_zeros(n, parameter.numel())
            whole[:, start : start + values.shape[1]] = values
            return whole

        return make

    return locate
