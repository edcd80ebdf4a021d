"""What is measured of estimators, and the budget that limits it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from mat.errors import InputError
from mat.experiments.checks import check_increasing, check_least
from mat.kernels.estimators import backward_passes

ESTIMATORS = ("full", "trace", "sum_of_logits", "projected", "loss")


class Measurement(NamedTuple):
    """One estimator with its number of directions (0: it takes none) and the sizes n it is affordable at."""

    estimator: str
    directions: int
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Settings:
    """What is measured, at every checkpoint, on every probe set.

    The budget, k being the logits of one sample: an estimator of b backward passes (k for ``full`` and
    ``trace``, r for ``projected``, else 1) at sizes n with n·b ≤ ``sample_passes``; ``full`` besides only with
    n·k ≤ ``full_rows`` (its matrix is nk × nk); ``projected`` only with r < k (with more, ``trace`` is exact and no
    dearer).
    """

    shares: tuple[float, ...] = (0, 0.1, 0.3, 1)
    """Checkpoints, as increasing shares of the run's steps, in [0, 1]."""
    probe_sets: int = 3
    """Disjoint draws of as many training samples as the largest size."""
    sizes: tuple[int, ...] = (4, 8, 16, 32, 64, 128)
    """Numbers of samples, increasing; a probe takes the first so many of a draw."""
    estimators: tuple[str, ...] = ESTIMATORS
    """Of full, trace, sum_of_logits, projected and loss."""
    directions: tuple[int, ...] = (8, 64)
    """Of the estimator projected: it is measured once with each, increasing."""
    full_rows: int = 640
    """Largest matrix of the estimator full: n samples of k logits have n · k rows."""
    sample_passes: int = 4096
    """Largest product of samples and backward passes of an estimator."""

    def __post_init__(self) -> None:
        for name in ("shares", "sizes", "estimators", "directions"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check_increasing("shares", self.shares, lambda v: 0 <= v <= 1, "shares in [0, 1]")
        check_increasing("sizes", self.sizes, lambda v: v >= 2, "whole numbers ≥ 2")
        check_increasing("directions", self.directions, lambda v: v >= 1, "whole numbers ≥ 1")
        unknown = [name for name in self.estimators if name not in ESTIMATORS]
        if unknown or not self.estimators or len(set(self.estimators)) < len(self.estimators):
            raise InputError(
                f"estimators must be different ones of {', '.join(ESTIMATORS)}, got {list(self.estimators)}"
            )
        for name, least in (("probe_sets", 1), ("full_rows", 0), ("sample_passes", 1)):
            check_least(name, getattr(self, name), least)

    def measurements(self, logits: int) -> list[Measurement]:
        """What the budget allows for a model of ``logits`` outputs per sample."""
        found = []
        for name in self.estimators:
            most = self.sample_passes if name != "full" else min(self.sample_passes, self.full_rows)
            rounds = [r for r in self.directions if r < logits] if name == "projected" else [0]
            for r in rounds:
                passes = backward_passes(name, r, logits)
                sizes = tuple(n for n in self.sizes if n * passes <= most)
                found += [Measurement(name, r, sizes)] if sizes else []
        return found
