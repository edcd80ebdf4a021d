"""Rank correlations: Kendall's τ_b and Spearman's ρ of many rankings at once; Spearman's ρ given other quantities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LEAST = 4  # modules of a correlation; three ranks agree too easily
TIE = 1e-6  # kernels are products in single precision: λ_max that differ by less, relatively, are tied


def signs(values: np.ndarray) -> np.ndarray:
    """(cells, m) values → (cells, m·m) signs of all differences; 0 where they are within ``TIE``, relatively.

    A row that is not finite throughout is zero, like a constant one: nothing in it is ordered.
    """
    finite = np.isfinite(values).all(axis=1, keepdims=True)
    left = np.where(finite, values, 0.0)[:, :, None]
    right = left.transpose(0, 2, 1)
    apart = np.abs(left - right) > TIE * np.maximum(np.abs(left), np.abs(right))
    return (np.sign(left - right) * apart).reshape(len(values), -1)


def kendall(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Kendall's τ_b of rows given by ``signs``: Σ s·s' / √(Σ s² Σ s'²); NaN where a row is degenerate."""
    size = np.sqrt((first**2).sum(1) * (second**2).sum(1))
    with np.errstate(invalid="ignore"):
        return np.where(size > 0, (first * second).sum(1) / np.where(size > 0, size, 1), np.nan)


def spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's ρ of rows given by ``signs``: the same cosine, of the summed signs of a module: its centred rank,
    twice."""
    m = round(first.shape[1] ** 0.5)
    return kendall(*(rows.reshape(-1, m, m).sum(2) for rows in (first, second)))


def partial_spearman(x: Sequence[float], y: Sequence[float], controls: Sequence[Sequence[float]] = ()) -> float:
    """Spearman's ρ of ``x`` and ``y`` (m,), given ``controls`` (each (m,)): Pearson's r of the residuals of the ranks.

    NaN with fewer than ``LEAST`` values beside the controls, and where the controls leave nothing of ``x`` or ``y``.
    """
    from scipy import stats

    ranks = [stats.rankdata(values) for values in (x, y, *controls)]
    m = len(ranks[0])
    if m < LEAST + len(controls):
        return float("nan")
    design = np.column_stack([np.ones(m), *ranks[2:]])
    left = []
    for own in ranks[:2]:
        residual = own - design @ np.linalg.lstsq(design, own, rcond=None)[0]
        size = np.linalg.norm(residual)
        if size <= 1e-9 * np.linalg.norm(own):
            return float("nan")
        left.append(residual / size)
    return float(np.clip(left[0] @ left[1], -1, 1))
