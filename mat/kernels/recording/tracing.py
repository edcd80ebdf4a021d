"""Which sample every row of a call belongs to, found from gradients at its output.

In evaluation mode no output depends on another sample's rows. So where the cotangent of every sample is multiplied
with a factor of its own, the gradient of every row is multiplied with its own sample's. Powers of two change no digit
of a number, so this is as exact in low precision. The factors of a sample, one a backward pass, spell its number:
2^d for the digit d, to a base that half of the precision's exponents hold (float32 and bfloat16: 64; float16: 8).
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from mat.kernels.recording.operands import Call


def tag_base(dtypes: Collection[torch.dtype]) -> int:
    """The base of the digits that the narrowest of the precisions holds."""
    return int(min(torch.tensor(torch.finfo(dtype).max, dtype=torch.float64).log2() for dtype in dtypes).round()) // 2


def tags(n: int, base: int) -> Tensor:
    """The digits of 0 … n − 1, lowest first: (digits, n)."""
    count = 1
    while base**count < n:
        count += 1
    return torch.stack([torch.arange(n) // base**place % base for place in range(count)])


class Tracer:
    """The rows of one call, with the gradient at its output for untagged cotangents, and then for tagged ones."""

    def __init__(self, call: Call, gradient: Tensor, base: int) -> None:
        self.call, self.base, self.gradient = call, base, gradient
        self.sample, self.place, self.whole = 0, 0, True
        self.largest = _largest(self._rows(gradient))
        # rows that are rounding errors beside the others are nobody's
        self.used = self.largest > min(16 * torch.finfo(gradient.dtype).eps, 1e-3) * self.largest.max()

    def _rows(self, gradient: Tensor) -> Tensor:
        return gradient.reshape(self.call.layout.rows, -1)

    def read(self, tagged: Tensor) -> None:
        """Read the next digit of every row off its gradient, which must be a power of two times the untagged one as
        a whole, to within 0.1 % (or √ε of the precision, if that is more)."""
        rows, scaled = self._rows(self.gradient), self._rows(tagged)
        one = torch.ones_like(self.largest)
        digit = (_largest(scaled) / self.largest.where(self.used, one)).log2().round().nan_to_num(-1)
        off = _largest(scaled - rows * (2**digit)[:, None].to(rows.dtype))
        allowed = max(1e-3, torch.finfo(rows.dtype).eps ** 0.5) * self.largest * 2**digit
        within = (digit >= 0) & (digit < self.base) & (off <= allowed)
        self.whole = self.whole and bool(within[self.used].all())
        self.sample = self.sample + digit.long() * self.base**self.place
        self.place += 1

    def assign(self) -> bool:
        """Tell the call which sample each row is of; whether every row is some sample's."""
        layout, sample = self.call.layout, torch.as_tensor(self.sample)
        if not self.whole or not bool((sample[self.used] < layout.n).all()):
            return False
        if not (layout.clear and torch.equal(sample[self.used], layout.expected.to(sample.device)[self.used])):
            layout.assign(sample.where(self.used, -torch.ones_like(sample)))
        return True


def _largest(rows: Tensor) -> Tensor:
    """Of each row the largest magnitude, float64."""
    return torch.linalg.vector_norm(rows, float("inf"), 1).double()
