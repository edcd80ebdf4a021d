"""What a training step's factors are multiplied to: the Gram matrices of some samples, and the gradient of all.

A weight's gradient is the sum of the per-sample gradients. Where these are formed for the Gram matrices
(``mat.kernels.gram``), their sum is taken in place of a product of its own, so that the kernel costs the step little
more than the Gram matrices' own products.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mat.kernels.batched import as_matrix
from mat.kernels.gram import Segment, cheaper_form, formed, gram_of, identity
from mat.kernels.recording.factors import Factors, OneHot
from mat.partition.partition import Slice
from mat.partition.projections import runs_of

Runs = Sequence[tuple[int, int]]  # (start, stop), disjoint
Contribution = Factors | Tensor  # of one use: factors of a matrix, or per-sample gradients (batch, numel)


class Products(NamedTuple):
    """``grams``: module -> (n, n) float64. ``gradient``: shaped like the parameter, right on the wanted slices and
    anything elsewhere; ``macs``: multiply-adds of that gradient by one product of its own."""

    grams: dict[str, Tensor]
    gradient: Tensor
    macs: int


def multiply(
    uses: Sequence[Contribution],
    parameter: Tensor,
    pieces: Sequence[tuple[str, Slice]],
    wanted: Collection[Slice],
    n: int,
    memory: int,
) -> Products | None:
    """Of one ``parameter`` from all its ``uses`` by a batch; None where their forms do not go together.

    ``pieces``: (module, slice) in order; ``wanted``: slices whose gradient is wanted; ``n``: the samples of the Gram
    matrices are the batch's first; ``memory``: bytes of working space.
    """
    vectors = [use for use in uses if isinstance(use, Tensor)]
    factors = [use for use in uses if isinstance(use, Factors)]
    if not factors:
        formed_rows = sum(vectors[1:], start=vectors[0])
        formed_rows = formed_rows.reshape(len(formed_rows), *parameter.shape)
        found = [(module, gram_of(piece.of(formed_rows[:n], 1).reshape(n, -1))) for module, piece in pieces]
        return Products(_added(found), formed_rows.sum(0, dtype=parameter.dtype), 0)
    matrix = None if vectors else as_matrix(factors, parameter.shape, pieces[0][1].dim)
    if matrix is None:
        return None
    turned, unit = matrix
    grams = [(module, parameter.new_zeros(n, n, dtype=torch.float64)) for module, _ in pieces]
    segments = [Segment(p.start * unit, p.stop * unit, gram) for (_, p), (_, gram) in zip(pieces, grams, strict=True)]
    runs = runs_of((piece.start * unit, piece.stop * unit) for piece in wanted)
    flipped, width = turned[0] is not factors[0], factors[0].right.width
    rows = width if flipped else parameter.numel() // width
    total = parameter.new_zeros(rows, parameter.numel() // rows)
    macs = _gram_and_gradient(turned, segments, runs, total, n, memory)
    return Products(_added(grams), (total.T if flipped else total).reshape(parameter.shape), macs)


def _gram_and_gradient(
    factors: Sequence[Factors], segments: Sequence[Segment], runs: Runs, total: Tensor, n: int, memory: int
) -> int:
    """Adds to the segments' Gram matrices, and to ``total`` (rows, columns) the sum over all samples on the rows
    ``runs``; returns the multiply-adds of that sum alone, as a plain product."""
    batch, dtype = factors[0].left.n, factors[0].left.dtype
    first = [f.of(slice(n), dtype) for f in factors]
    left = [(f, runs) for f in factors]

    if cheaper_form(first, segments) == "formed":

        def add(block: Tensor, start: int) -> None:
            if _overlaps(runs, [(start, start + block.shape[1])]):
                total[start : start + block.shape[1], : block.shape[2]] += block.sum(0, dtype=total.dtype)

        formed(first, segments, memory, add)
        covered = [(segment.start, segment.stop) for segment in segments]
        left = [(f.of(slice(n, None), dtype), _overlaps(runs, covered)) for f in factors if n < batch]
        left += [(f, _outside(runs, covered)) for f in factors]
    else:
        identity(first, segments, memory)
    for f, where in left:
        for start, stop in _overlaps(where, [(f.row, f.row + f.left.width)]):
            rows = f.left.part(slice(None), start - f.row, stop - f.row).transpose(1, 2)
            total[start:stop, f.column : f.column + f.right.width] += f.right.summed(rows)
    return sum(_macs(f, runs) for f in factors)


def _macs(f: Factors, runs: Runs) -> int:
    """Multiply-adds of a plain product of both sides on these rows; picking rows of a table multiplies nothing."""
    if isinstance(f.left, OneHot) or isinstance(f.right, OneHot):
        return 0
    rows = sum(stop - start for start, stop in _overlaps(runs, [(f.row, f.row + f.left.width)]))
    return f.left.n * f.left.positions * rows * f.right.width


def _added(found: Sequence[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """One Gram matrix per module, which may own several slices."""
    grams: dict[str, Tensor] = {}
    for module, gram in found:
        grams[module] = grams[module] + gram if module in grams else gram
    return grams


def _overlaps(some: Runs, others: Runs) -> Runs:
    """What lies in both."""
    pairs = ((max(a, c), min(b, d)) for a, b in some for c, d in others)
    return [(start, stop) for start, stop in pairs if start < stop]


def _outside(some: Runs, others: Runs) -> Runs:
    """What lies in ``some`` and in none of the ``others``, which are sorted."""
    left = []
    for start, stop in some:
        for a, b in _overlaps([(start, stop)], others):
            left.append((start, a))
            start = b
        left.append((start, stop))
    return [(start, stop) for start, stop in left if start < stop]
