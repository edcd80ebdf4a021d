"""What is trained from checkpoints, and measured of it."""

from __future__ import annotations

from dataclasses import dataclass

from mat.errors import InputError
from mat.experiments.checks import check_increasing, check_least

SETS = ("top", "bottom", "random", "all", "none")


@dataclass(frozen=True)
class Settings:
    """What is trained and measured, at every checkpoint.

    *Trainability*: every module alone. *Generalisation*: the ``set_share`` of the modules with the largest (top) and
    the smallest (bottom) λ_max, as many at random, all and none of them, each with the remainder.
    """

    shares: tuple[float, ...] = (0.1, 0.5)
    """Checkpoints, as increasing shares of the run's steps, in [0, 1)."""
    steps: int = 20
    """Training steps of a module alone, everything else frozen; 0: not measured."""
    set_share: float = 0.34
    """Share of the modules that are in a set, in (0, 0.5]."""
    set_steps: int = 60
    """Training steps of a set with the remainder; 0: not measured."""
    samples: int = 256
    """Training samples that the loss is read on."""
    validation_samples: int = 256
    """Samples of the validation split that the loss is read on after single modules."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "shares", tuple(self.shares))
        check_increasing("shares", self.shares, lambda v: 0 <= v < 1, "shares in [0, 1)")
        for name, least in (("steps", 0), ("set_steps", 0), ("samples", 2), ("validation_samples", 1)):
            check_least(name, getattr(self, name), least)
        if not self.steps and not self.set_steps:
            raise InputError("steps or set_steps must be ≥ 1: with both 0 nothing is trained")
        if not 0 < self.set_share <= 0.5:  # with more, top and bottom would share modules
            raise InputError(f"set_share must be in (0, 0.5], got {self.set_share}")

    def set_size(self, modules: int) -> int:
        """Modules of top, bottom and random, of so many."""
        return max(1, round(self.set_share * modules))

    def branch_steps(self, modules: int) -> int:
        """Training steps of all branches of one checkpoint; a module none of which is trained counts as one, too."""
        return self.steps * (modules + 1) + self.set_steps * len(SETS)
