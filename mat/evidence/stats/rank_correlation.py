"""Spearman's ρ of many rankings at once, beside Kendall's τ_b (``mat.ranking``), and given other quantities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mat.ranking import kendall

LEAST = 4  # modules of a correlation; three ranks agree too easily


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
