"""Per-sample gradients of a weight matrix in factors, so that they need not be formed.

The gradient of sample i is a sum over positions t (tokens, pixels) of outer products, Σ_t left[i, t] ⊗ right[i, t]:
for y = W x the gradient at the output and the input. A *side* is one of the two, for all samples: ``Dense`` as a
tensor, ``OneHot`` as the rows that it picks from a table, ``Patches`` as the images that it is cut from. What is
multiplied is said in ``mat.kernels.gram``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# Where one convolution with a group for each sample is faster than one for each sample: from that many channels of
# the images, up to that many entries of the weight (measured; tests/benchmarks).
FEW_CHANNELS, SMALL_WEIGHT = 8, 2**16


class Dense:
    """One factor as a tensor (n, T, width)."""

    def __init__(self, values: Tensor) -> None:
        self.values = values
        self.n, self.positions, self.width = values.shape
        self.dtype, self.device = values.dtype, values.device

    def of(self, samples: slice, dtype: torch.dtype) -> Dense:
        """Of some samples, in another precision."""
        return Dense(self.values[samples].to(dtype))

    def part(self, samples: slice, start: int, stop: int) -> Tensor:
        """Entries ``start:stop`` of the width, for some samples: (samples, T, stop − start)."""
        return self.values[samples, :, start:stop]

    def times(self, left: Tensor) -> Tensor:
        """Σ_t left[i, :, t] ⊗ self[i, t]: (n, rows, width), for ``left`` (n, rows, T)."""
        return torch.bmm(left, self.values)

    def summed(self, left: Tensor) -> Tensor:
        """The sum over the samples of ``times``: (rows, width), from one product."""
        return left.transpose(1, 2).flatten(0, 1).T @ self.values.flatten(0, 1)


class OneHot:
    """Rows picked by ids (n, T) from a table of ``width`` rows; ids outside 0 … width − 1 pick nothing."""

    def __init__(self, ids: Tensor, width: int, dtype: torch.dtype) -> None:
        self.ids, self.width, self.dtype, self.device = ids, width, dtype, ids.device
        self.n, self.positions = ids.shape

    def of(self, samples: slice, dtype: torch.dtype) -> OneHot:
        return OneHot(self.ids[samples], self.width, dtype)

    def part(self, samples: slice, start: int, stop: int) -> Tensor:
        ids = self.ids[samples]
        wanted = torch.arange(start, stop, device=ids.device)
        return (ids[..., None] == wanted).to(self.dtype)

    def times(self, left: Tensor) -> Tensor:
        out = left.new_zeros(self.n, left.shape[1], self.width)
        for into, ids, values in zip(out, self.ids, left, strict=True):
            into.index_add_(1, ids[ids >= 0], values[:, ids >= 0])
        return out

    def summed(self, left: Tensor) -> Tensor:
        ids, values = self.ids.flatten(), left.transpose(0, 1).flatten(1)
        picked = ids >= 0
        return left.new_zeros(left.shape[1], self.width).index_add_(1, ids[picked], values[:, picked])


class Patches:
    """What a convolution multiplies its weight with: patches of images (n, m, C, H, W), width C·kh·kw.

    ``m`` images belong to each sample; T = m·H'·W'. Patches are cut out when they are asked for.
    """

    def __init__(self, images: Tensor, kernel: tuple[int, int], geometry: tuple[tuple[int, int], ...]) -> None:
        self.images, self.kernel, self.geometry = images, kernel, geometry
        self.n, self.each, channels, *size = images.shape
        stride, padding, dilation = geometry
        out = [
            (length + 2 * p - d * (k - 1) - 1) // s + 1
            for length, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
        ]
        self.out, self.taps = out, kernel[0] * kernel[1]
        self.positions, self.width = self.each * out[0] * out[1], channels * self.taps
        self.dtype, self.device = images.dtype, images.device

    def of(self, samples: slice, dtype: torch.dtype) -> Patches:
        return Patches(self.images[samples].to(dtype), self.kernel, self.geometry)

    def part(self, samples: slice, start: int, stop: int) -> Tensor:
        first, last = start // self.taps, -(-stop // self.taps)
        images = self.images[samples, :, first:last].flatten(0, 1)
        stride, padding, dilation = self.geometry
        if self.kernel == (1, 1) and not any(padding):
            columns = images[:, :, :: stride[0], :: stride[1]].flatten(2)
        else:
            columns = F.unfold(images, self.kernel, dilation, padding, stride)
        columns = columns[:, start - first * self.taps : stop - first * self.taps]
        # (samples·m, width, T/m) -> (samples, T, width)
        columns = columns.transpose(1, 2)
        return columns if self.each == 1 else columns.reshape(-1, self.positions, stop - start)

    def summed(self, left: Tensor) -> Tensor:
        rows = left.shape[1]
        gradients = left.reshape(self.n, rows, self.each, *self.out).transpose(1, 2).flatten(0, 1)
        return self._of_weight(gradients, self.images.flatten(0, 1), rows, 1).flatten(1)

    def times(self, left: Tensor) -> Tensor:
        """As weight gradients of convolutions, so that no patch is cut out, which is two to three times faster than
        patches and batched products: of one convolution with a group for each sample where weights are small, else
        sample by sample (measured; tests/benchmarks)."""
        rows, channels = left.shape[1], self.images.shape[2]
        gradients = left.reshape(self.n, rows, self.each, *self.out).transpose(1, 2)
        if channels >= FEW_CHANNELS and rows * self.width <= SMALL_WEIGHT:
            images = self.images.transpose(0, 1).flatten(1, 2)
            found = self._of_weight(gradients.transpose(0, 1).flatten(1, 2), images, self.n * rows, self.n)
            return found.reshape(self.n, rows, -1)
        each = zip(gradients, self.images, strict=True)
        return torch.stack([self._of_weight(g, x, rows, 1) for g, x in each]).flatten(2)

    def _of_weight(self, gradients: Tensor, images: Tensor, rows: int, groups: int) -> Tensor:
        weight = gradients.new_empty(rows, images.shape[1] // groups, *self.kernel)
        options = (None, *self.geometry, False, (0, 0), groups, (False, True, False))
        return torch.ops.aten.convolution_backward(gradients, images, weight, *options)[1]


Side = Dense | OneHot | Patches


class Factors(NamedTuple):
    """Σ_t left[i, t] ⊗ right[i, t], at rows from ``row`` and columns from ``column`` of the matrix."""

    left: Side
    right: Side
    row: int = 0
    column: int = 0

    @staticmethod
    def stack(parts: Sequence[Factors]) -> Factors:
        """The same use of more samples."""
        left, right = [part.left for part in parts], [part.right for part in parts]
        return Factors(_stacked(left), _stacked(right), parts[0].row, parts[0].column)

    def of(self, samples: slice, dtype: torch.dtype) -> Factors:
        """The same use of some of the samples, both sides in the precision ``dtype``."""
        return Factors(self.left.of(samples, dtype), self.right.of(samples, dtype), self.row, self.column)

    @property
    def swapped(self) -> Factors:
        """The factors of the transposed matrix."""
        return Factors(self.right, self.left, self.column, self.row)


def _stacked(sides: Sequence[Side]) -> Side:
    """The same factor of more samples."""
    first = sides[0]
    if isinstance(first, Dense):
        return Dense(torch.cat([side.values for side in sides if isinstance(side, Dense)]))
    if isinstance(first, OneHot):
        ids = [side.ids for side in sides if isinstance(side, OneHot)]
        return OneHot(torch.cat(ids), first.width, first.dtype)
    images = [side.images for side in sides if isinstance(side, Patches)]
    return Patches(torch.cat(images), first.kernel, first.geometry)
