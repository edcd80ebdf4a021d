"""What the measurement of estimators does: settings, the budget rule, and the jobs that a config asks for.

The question is X6 and ambiguity A3: do rankings of modules by λ_max depend on the kernel's estimator,
normalisation and number of samples?
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from mat.errors import InputError
from mat.experiments.config.scale import ScaleConfig
from mat.experiments.studies import job as family_jobs
from mat.experiments.studies.job import check_increasing, is_number

ESTIMATORS = ("full", "trace", "sum_of_logits", "projected", "loss")


class Measurement(NamedTuple):
    """One estimator with its number of directions (0: it takes none) and the sizes n it is affordable at."""

    estimator: str
    directions: int
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Settings:
    """What is measured, at every checkpoint, on every probe set.

    ``shares``: checkpoints, as shares of the run's steps; ``probe_sets``: disjoint draws of max(``sizes``)
    training samples, of which a probe of n takes the first n; ``directions``: ``projected`` is measured once
    with each. The budget, k being the logits of one sample: an estimator of b backward passes (k for ``full`` and
    ``trace``, r for ``projected``, else 1) at sizes n with n·b ≤ ``sample_passes``; ``full`` besides only with
    n·k ≤ ``full_rows`` (its matrix is nk × nk); ``projected`` only with r < k (with more, ``trace`` is exact and no
    dearer).
    """

    shares: tuple[float, ...] = (0, 0.1, 0.3, 1)
    probe_sets: int = 3
    sizes: tuple[int, ...] = (4, 8, 16, 32, 64, 128)
    estimators: tuple[str, ...] = ESTIMATORS
    directions: tuple[int, ...] = (8, 64)
    full_rows: int = 640
    sample_passes: int = 4096

    def __post_init__(self) -> None:
        for name in ("shares", "sizes", "estimators", "directions"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check_increasing(
            "shares", self.shares, lambda v: is_number(v, int, float) and 0 <= v <= 1, "shares in [0, 1]"
        )
        check_increasing("sizes", self.sizes, lambda v: is_number(v, int) and v >= 2, "whole numbers ≥ 2")
        check_increasing(
            "directions", self.directions, lambda v: is_number(v, int) and v >= 1, "whole numbers ≥ 1"
        )
        unknown = [name for name in self.estimators if name not in ESTIMATORS]
        if unknown or not self.estimators or len(set(self.estimators)) < len(self.estimators):
            raise InputError(
                f"estimators must be different ones of {', '.join(ESTIMATORS)}, got {list(self.estimators)}"
            )
        for name, least in (("probe_sets", 1), ("full_rows", 0), ("sample_passes", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be ≥ {least}, got {getattr(self, name)}")

    def measurements(self, logits: int) -> list[Measurement]:
        """What the budget allows for a model of ``logits`` outputs per sample."""
        found = []
        for name in self.estimators:
            most = self.sample_passes if name != "full" else min(self.sample_passes, self.full_rows)
            rounds = [r for r in self.directions if r < logits] if name == "projected" else [0]
            for r in rounds:
                passes = logits if name in ("full", "trace") else max(r, 1)
                sizes = tuple(n for n in self.sizes if n * passes <= most)
                found += [Measurement(name, r, sizes)] if sizes else []
        return found


class Job(family_jobs.Job):
    """One family and seed, and how its estimators are measured."""

    settings: Settings
    what = "agreement"


def job_of(given: Mapping[str, Any]) -> Job:
    """A job from its JSON content. Raises InputError."""
    return family_jobs.job_of(Job, Settings, given)


def jobs(config: ScaleConfig) -> list[Job]:
    """Every family × seed of the config's ``agreement`` block; none without one. Raises InputError.

    The probe of a family's task label is the default that the estimators are judged beside.
    """
    found = family_jobs.jobs_of(Job, Settings, config)
    for job in found:
        if job.spec.probe.n not in job.settings.sizes:
            with config.named:
                raise InputError(
                    f"agreement.families.{job.family}: sizes must hold the default n = {job.spec.probe.n}, got "
                    f"{list(job.settings.sizes)}"
                )
    return found
