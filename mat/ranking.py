"""Kendall's τ_b of many rankings at once."""

from __future__ import annotations

import numpy as np

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
