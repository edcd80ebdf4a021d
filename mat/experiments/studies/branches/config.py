"""What is trained from checkpoints: settings, and the jobs that a config's block ``branches`` asks for.

The questions are C2 and C3: does a module with a large λ_max train better, and does training modules with a small one
harm generalisation?
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mat.errors import InputError
from mat.experiments.config.scale import ScaleConfig
from mat.experiments.studies import job as family_jobs
from mat.experiments.studies.job import check_increasing, is_number

SETS = ("top", "bottom", "random", "all", "none")


@dataclass(frozen=True)
class Settings:
    """What is trained and measured, at every checkpoint.

    ``shares``: checkpoints, as shares of the run's steps. *Trainability*: every module alone, everything else frozen,
    for ``steps`` steps (0: not measured). *Generalisation*: the ``set_share`` of the modules with the largest (top) and
    the smallest (bottom) λ_max, as many at random, all and none of them, each with the remainder, for ``set_steps``
    steps (0: not measured). The loss is read on ``samples`` training samples, and after single modules on the first
    ``validation_samples`` of the validation split.
    """

    shares: tuple[float, ...] = (0.1, 0.5)
    steps: int = 20
    set_share: float = 0.34
    set_steps: int = 60
    samples: int = 256
    validation_samples: int = 256

    def __post_init__(self) -> None:
        object.__setattr__(self, "shares", tuple(self.shares))
        check_increasing(
            "shares", self.shares, lambda v: is_number(v, int, float) and 0 <= v < 1, "shares in [0, 1)"
        )
        for name, least in (("steps", 0), ("set_steps", 0), ("samples", 2), ("validation_samples", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be ≥ {least}, got {getattr(self, name)}")
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


class Job(family_jobs.Job):
    """One family and seed, and what is trained from its checkpoints."""

    settings: Settings
    what = "branches"


def job_of(given: Mapping[str, Any]) -> Job:
    """A job from its JSON content. Raises InputError."""
    return family_jobs.job_of(Job, Settings, given)


def jobs(config: ScaleConfig) -> list[Job]:
    """Every family × seed of the config's ``branches`` block; none without one. Raises InputError."""
    return family_jobs.jobs_of(Job, Settings, config)
