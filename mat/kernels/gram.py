"""Gram matrices of per-sample gradients that stay in factors (``mat.kernels.recording.factors``), never all formed.

The Gram matrix of the samples, restricted to any rows or columns of a weight matrix, follows in two exact ways:

*formed*:   the per-sample gradients are formed block of rows by block of rows, and multiplied;
*identity*: ⟨Σ_t l_t ⊗ r_t, Σ_s l'_s ⊗ r'_s⟩ = Σ_ts ⟨l_t, l'_s⟩⟨r_t, r'_s⟩, which is (A Aᵀ ∘ B Bᵀ) summed over
            positions, and forms no gradient (Goodfellow, arXiv 1510.01799, for T = 1; Li et al., ICLR 2022).

``cheaper_form`` takes one by counting multiply-adds. In both, all slices of one dimension are segments of the same
product, so cutting a layer into more modules adds almost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mat.kernels.recording.factors import Dense, Factors, OneHot, Patches, Side

# A block that stays in the processor's cache is faster than a larger one (measured; tests/benchmarks).
CACHE_BYTES = 2**24

# Samples to a tile of the Gram matrix; tiles below the diagonal are left out.
TILE = 64

# What one entry of an elementwise product and its summation costs, in multiply-adds of a matrix product.
ELEMENTWISE = 24


Seen = Callable[[Tensor, int], None]


@dataclass(frozen=True)
class Segment:
    """Rows ``start:stop`` of the matrix, whose Gram matrix is added to ``gram`` (n, n), float64."""

    start: int
    stop: int
    gram: Tensor


def cheaper_form(factors: Sequence[Factors], segments: Sequence[Segment]) -> str:
    """``formed`` or ``identity``, whichever needs fewer multiply-adds.

    formed:   per use n·T·R·C for the gradients, and n (n + 64)/2·R·C once for their products;
    identity: per pair of uses n²·T·T'·(R + C + 24 per segment), halved by symmetry.
    R: rows covered by the segments; C: columns.
    """
    rows = sum(segment.stop - segment.start for segment in segments)
    n = factors[0].left.n
    forming = n * min(n, (n + TILE) // 2) * rows * max(f.column + f.right.width for f in factors)
    pairing = 0.0
    for f in factors:
        forming += n * f.left.positions * rows * f.right.width
        for g in factors:
            each = rows + min(f.right.width, g.right.width) + ELEMENTWISE * len(segments)
            pairing += n * n * f.left.positions * g.left.positions * each / 2
    return "formed" if forming <= pairing else "identity"


def add_grams(factors: Sequence[Factors], segments: Sequence[Segment], memory: int) -> None:
    """Add to every segment's ``gram`` the Gram matrix of the per-sample gradients of its rows.

    ``factors``: all uses of one matrix, whose gradients add up. ``segments``: disjoint, in order.
    ``memory``: bytes of working space to stay within, where one row of all samples fits into it.
    """
    FORMS[cheaper_form(factors, segments)](factors, segments, memory)


def formed(factors: Sequence[Factors], segments: Sequence[Segment], memory: int, seen: Seen | None = None) -> None:
    """Block of rows by block of rows, each formed and multiplied.

    ``seen``: is shown the per-sample gradients (n, rows, columns) of every block, with its first row.
    """
    n, dtype = factors[0].left.n, factors[0].left.dtype
    columns = max(f.column + f.right.width for f in factors)
    # a row's gradients, and its factors where they are made for the purpose
    made = sum(f.left.positions for f in factors if not isinstance(f.left, Dense))
    # convolutions cut out their patches anew for every block, so theirs are as large as may be
    room = memory if any(isinstance(f.right, Patches) for f in factors) else min(memory, CACHE_BYTES)
    height = max(1, room // (n * (columns + made) * dtype.itemsize))
    for start, stop, members in _blocks(segments, height):
        block = _gradients(factors, start, stop, columns)
        if seen is not None:
            seen(block, start)
        for segment, low, high in members:
            # a view: the rows of one sample lie one after the other
            segment.gram.add_(gram_of(block[:, low - start : high - start].flatten(1)))


def gram_of(rows: Tensor) -> Tensor:
    """rows @ rowsᵀ in float64, (n, n); tiles below the diagonal are mirrored, not computed."""
    n = len(rows)
    if n <= TILE:
        return (rows @ rows.T).double()
    out = rows.new_empty(n, n, dtype=torch.float64)
    for a in range(0, n, TILE):
        tiles = rows[a : a + TILE] @ rows[a:].T
        out[a : a + TILE, a:] = tiles
        out[a + TILE :, a : a + TILE] = tiles[:, TILE:].T
    return out


def _gradients(factors: Sequence[Factors], start: int, stop: int, columns: int) -> Tensor:
    """The per-sample gradients of rows ``start:stop``, (n, rows, columns)."""
    total = None
    for f in factors:
        low, high = max(start, f.row), min(stop, f.row + f.left.width)
        if low >= high:
            continue
        found = f.right.times(f.left.part(slice(None), low - f.row, high - f.row).transpose(1, 2))
        if len(factors) == 1 and found.shape[1:] == (stop - start, columns):
            return found
        if total is None:
            total = found.new_zeros(f.left.n, stop - start, columns)
        total[:, low - start : high - start, f.column : f.column + f.right.width] += found
    first = factors[0].left
    return (
        torch.zeros(first.n, stop - start, columns, dtype=first.dtype, device=first.device) if total is None else total
    )


def _blocks(segments: Sequence[Segment], height: int) -> Iterator[tuple[int, int, list[tuple[Segment, int, int]]]]:
    """Consecutive segments gathered into blocks of at most ``height`` rows; longer segments are split.

    Yields (start, stop, [(segment, start, stop), …]) with the part of each segment inside the block.
    """
    members: list[tuple[Segment, int, int]] = []
    for segment in segments:
        low = segment.start
        while low < segment.stop:
            if members and (low != members[-1][2] or low - members[0][1] >= height):
                yield members[0][1], members[-1][2], members
                members = []
            first = members[0][1] if members else low
            high = min(segment.stop, first + height)
            members.append((segment, low, high))
            low = high
    if members:
        yield members[0][1], members[-1][2], members


def identity(factors: Sequence[Factors], segments: Sequence[Segment], memory: int) -> None:
    """Block of samples by block of samples, from the inner products of their positions."""
    n = factors[0].left.n
    longest = max(f.left.positions for f in factors)
    # the two products and their elementwise product live at once
    pairs = max(1, memory // (3 * longest * longest * factors[0].left.dtype.itemsize))
    size = max(1, min(n, int(pairs**0.5)))
    blocks = [slice(start, min(start + size, n)) for start in range(0, n, size)]
    for a, rows in enumerate(blocks):
        for columns in blocks[a:]:
            sums = _pair_of_blocks(factors, segments, rows, columns)
            for segment, values in zip(segments, sums, strict=True):
                segment.gram[rows, columns] += values
                if rows != columns:
                    segment.gram[columns, rows] += values.T


def _pair_of_blocks(
    factors: Sequence[Factors], segments: Sequence[Segment], rows: slice, columns: slice
) -> list[Tensor]:
    """Per segment the Gram entries (rows, columns), float64."""
    out: list[Tensor | int] = [0] * len(segments)
    for f in factors:
        for g in factors:
            low, high = max(f.column, g.column), min(f.column + f.right.width, g.column + g.right.width)
            if low >= high:
                continue
            right = _inner(f.right, g.right, rows, columns, (low - f.column, low - g.column), high - low)
            for place, segment in enumerate(segments):
                first = max(segment.start, f.row, g.row)
                last = min(segment.stop, f.row + f.left.width, g.row + g.left.width)
                if first >= last:
                    continue
                left = _inner(f.left, g.left, rows, columns, (first - f.row, first - g.row), last - first)
                counts = rows.stop - rows.start, columns.stop - columns.start
                out[place] = out[place] + _over_positions(left.mul_(right), *counts)
    return [
        value if isinstance(value, Tensor) else segment.gram.new_zeros(segment.gram[rows, columns].shape)
        for value, segment in zip(out, segments, strict=True)
    ]


def _over_positions(values: Tensor, rows: int, columns: int) -> Tensor:
    """(rows, columns), float64: the sums over the positions of ``values`` (rows·T, columns·T'), which may be changed.

    Position by position, because a sum over two dimensions at once takes two to three times as long."""
    first, *more = values.reshape(rows, len(values) // rows, -1).unbind(1)
    total = first.to(torch.float64)
    for one in more:
        total += one
    return total.reshape(rows, columns, -1).sum(2)


def _inner(a: Side, b: Side, rows: slice, columns: slice, starts: tuple[int, int], width: int) -> Tensor:
    """Inner products of all positions of ``a`` with all of ``b``: (rows·T_a, columns·T_b)."""
    if isinstance(a, OneHot) and isinstance(b, OneHot):
        left, right = a.ids[rows].flatten() - starts[0], b.ids[columns].flatten() - starts[1]
        inside = (left >= 0) & (left < width)
        return ((left[:, None] == right) & inside[:, None]).to(a.dtype)
    if isinstance(b, OneHot):
        return _inner(b, a, columns, rows, starts[::-1], width).T.contiguous()
    right = b.part(columns, starts[1], starts[1] + width).flatten(0, 1)
    if isinstance(a, OneHot):
        ids = a.ids[rows].flatten() - starts[0]
        inside = (ids >= 0) & (ids < width)
        return right.T[ids.clamp(0, width - 1)] * inside[:, None]
    return a.part(rows, starts[0], starts[0] + width).flatten(0, 1) @ right.T


FORMS = {"formed": formed, "identity": identity}
