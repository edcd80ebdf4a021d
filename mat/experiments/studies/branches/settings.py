"""What is trained from checkpoints, and measured of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from mat.errors import InputError
from mat.experiments.checks import check_increasing
from mat.limits import Range, check_limits

SETS = ("top", "bottom", "random", "all", "none")


@dataclass(frozen=True)
class Settings:
    """What is trained and measured, at every checkpoint.

    *Trainability*: every module alone. *Generalisation*: the ``set_share`` of the modules with the largest (top) and
    the smallest (bottom) λ_max, as many at random, all and none of them, each with the remainder.
    """

    shares: tuple[Annotated[float, Range(ge=0, lt=1)], ...] = (0.1, 0.5)
    """Checkpoints, as increasing shares of the run's steps, in [0, 1)."""
    steps: Annotated[int, Range(ge=0)] = 20
    """Training steps of a module alone, everything else frozen; 0: not measured."""
    set_share: Annotated[float, Range(gt=0, le=0.5)] = 0.34  # with more, top and bottom would share modules
    """Share of the modules that are in a set, in (0, 0.5]."""
    set_steps: Annotated[int, Range(ge=0)] = 60
    """Training steps of a set with the remainder; 0: not measured."""
    anneal: bool = False
    """Whether a branch's learning rate falls to 0 within it, linearly from the schedule's at the checkpoint, so that
    ends of training are compared; else it stays."""
    samples: Annotated[int, Range(ge=2)] = 256
    """Training samples that the loss is read on."""
    validation_samples: Annotated[int, Range(ge=1)] = 256
    """Samples of the validation split that the loss is read on after single modules."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "shares", tuple(self.shares))
        check_limits(self)
        check_increasing("shares", self.shares)
        if not self.steps and not self.set_steps:
            raise InputError("steps or set_steps must be ≥ 1: with both 0 nothing is trained")

    def check_run(self, last: int, steps: int) -> None:
        """Raise InputError where a branch from the ``last`` checkpoint would go beyond the run's ``steps``."""
        longest = max(self.steps, self.set_steps)
        if last + longest > steps:
            raise InputError(
                f"a branch of {longest} steps from step {last} goes beyond the run's {steps} steps; lower steps, "
                "set_steps or the last of shares, or train for more epochs"
            )

    def set_size(self, modules: int) -> int:
        """Modules of top, bottom and random, of so many."""
        return max(1, round(self.set_share * modules))

    def branch_steps(self, modules: int) -> int:
        """Training steps of all branches of one checkpoint; a module none of which is trained counts as one, too."""
        return self.steps * (modules + 1) + self.set_steps * len(SETS)
