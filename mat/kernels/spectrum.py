"""Spectra of kernels: principal eigenvalue, trace and effective rank, always in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Spectrum:
    """λ_max, trace, and effective rank exp(−Σ pᵢ ln pᵢ) with pᵢ = λᵢ/Σλ; the rank of a zero kernel is 0."""

    lambda_max: float
    trace: float
    effective_rank: float


def eigenvalues(gram: ArrayLike) -> np.ndarray:
    """Eigenvalues of a symmetric (n, n) kernel, largest first; round-off below zero is set to zero.

    Raises ValueError when ``gram`` is not square, FloatingPointError when it is not finite.
    """
    gram = np.asarray(gram, dtype=np.float64)
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1]:
        raise ValueError(f"a square kernel is expected, got shape {gram.shape}")
    if not np.isfinite(gram).all():
        raise FloatingPointError("the kernel is not finite: the model's outputs or gradients have overflowed")
    return np.clip(np.linalg.eigvalsh((gram + gram.T) / 2)[::-1], 0.0, None)


def spectrum(gram: ArrayLike) -> Spectrum:
    """The spectrum of one symmetric positive semi-definite (n, n) kernel."""
    values = eigenvalues(gram)
    trace = float(values.sum())
    if trace == 0.0:
        return Spectrum(0.0, 0.0, 0.0)
    p = values[values > 0] / trace
    return Spectrum(float(values[0]), trace, float(np.exp(-(p * np.log(p)).sum())))


def eigen_macs(n: int) -> int:
    """Multiply-adds of one dense symmetric eigenvalue solve of size n: 2/3 n³ (tridiagonalisation,
    4/3 n³ FLOPs; Golub & Van Loan, Matrix Computations, section 8.3), the lower-order QR sweeps left out."""
    return 2 * n**3 // 3
