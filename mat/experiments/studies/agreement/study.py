"""Do rankings of modules by λ_max depend on the kernel's estimator, normalisation and number of samples (X6, A3)?"""

from __future__ import annotations

from mat.errors import InputError
from mat.experiments.studies.agreement.measure import Spectra
from mat.experiments.studies.agreement.settings import Settings
from mat.experiments.studies.session import Job
from mat.experiments.studies.study import Study
from mat.experiments.training.cost import Cost, Shape


def cost(job: Job, shape: Shape) -> Cost:
    """A run without a test, to its last checkpoint, and every estimator on every probe set, at the largest n that its
    budget allows."""
    settings, steps = job.settings, shape.steps_to(max(job.settings.shares))
    once = sum(
        shape.passes(found.estimator, found.directions, found.sizes[-1])
        for found in settings.measurements(shape.logits)
    )
    probes = len(settings.shares) * settings.probe_sets * once
    return Cost(steps, steps * shape.step, probes, shape.ends(steps) * shape.forward)


def check(job: Job) -> None:
    """The probe of a family's task label is the default that the estimators are judged beside."""
    if job.spec.probe.n not in job.settings.sizes:
        raise InputError(f"sizes must hold the default n = {job.spec.probe.n}, got {list(job.settings.sizes)}")


AGREEMENT = Study("agreement", Settings, Spectra, cost, check=check)
