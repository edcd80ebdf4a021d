"""Where a number would have to lie for its claim to be supported: the rule itself, asked at exactly known values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise, product

from mat.evidence.claims.rule import Outcome
from mat.evidence.claims.verdict import SUPPORTED
from mat.evidence.stats.intervals import Interval

FEW = 3  # numbers of a rule whose values are tried in every combination
HALVINGS = 50


def asked(found: Outcome, thresholds: Iterable[float]) -> list[str]:
    """Of every number that decides, the values at which the rule says supported for some values of the others: pieces
    such as ``0.5..inf``; "" where there are none or no value is refused, and where nothing was decided on numbers.

    A rule changes its verdict at its thresholds, or at bounds beside them; edges are found by halving.
    """
    if found.decide is None:
        return [""] * len(found.deciding)
    grid, places = _grid(thresholds), range(len(found.deciding))
    return [_pieces(_holds(found, place, grid), grid) for place in places]


def _grid(thresholds: Iterable[float]) -> list[float]:
    """Every threshold with both signs, zero, what lies between two of them, and what lies far beyond."""
    edges = sorted({0.0, *(sign * float(value) for value in thresholds for sign in (1, -1))})
    far = 10 * max(1.0, *map(abs, edges))
    between = [(low + high) / 2 for low, high in pairwise(edges)]
    return sorted({-far, *edges, *between, far, edges[0] - far / 100, edges[-1] + far / 100})


def _exactly(value: float, n: int) -> Interval:
    return Interval(value, value, value, max(n, 2), 0.0)


def _holds(found: Outcome, place: int, grid: Sequence[float]) -> Callable[[float], bool]:
    """Whether the rule can say supported with the number at ``place`` at a value."""
    bases = list(_bases(found.deciding, place, grid))

    def holds(value: float) -> bool:
        for base in bases:
            base[place] = _exactly(value, base[place].n)
            if found.decide(base) == SUPPORTED:
                return True
        return False

    return holds


def _bases(measured: list[Interval], place: int, grid: Sequence[float]) -> Iterator[list[Interval]]:
    """The other numbers as they were measured; then at values of the grid, each with each where they are few, else all
    at the same."""
    yield list(measured)
    others = [each for number, each in enumerate(measured) if number != place]
    tried = [grid[0], *grid[1:-1:2], grid[-1]] if len(others) > 1 else grid
    for values in product(tried, repeat=len(others)) if len(others) < FEW else ([v] * len(others) for v in tried):
        base = [_exactly(value, each.n) for value, each in zip(values, others, strict=True)]
        base.insert(place, measured[place])
        yield base


def _pieces(holds: Callable[[float], bool], grid: Sequence[float]) -> str:
    said = [(value, holds(value)) for value in grid]
    if all(held for _, held in said):
        return ""
    pieces, start = [], -math.inf if said[0][1] else None
    for (left, before), (right, after) in pairwise(said):
        if before != after:
            edge = _edge(holds, left, right, before)
            if after:
                start = edge
            else:
                pieces.append(f"{start:.6g}..{edge:.6g}")
                start = None
    if start is not None:
        pieces.append(f"{start:.6g}..inf")
    return " ".join(pieces)


def _edge(holds: Callable[[float], bool], left: float, right: float, before: bool) -> float:
    for _ in range(HALVINGS):
        middle = (left + right) / 2
        left, right = (middle, right) if holds(middle) == before else (left, middle)
    return right if abs(right) > 1e-9 else 0.0
