"""Do rankings of modules by λ_max depend on the kernel's estimator, normalisation and number of samples (X6, A3)?"""

from __future__ import annotations

from mat.errors import InputError
from mat.experiments.studies.agreement.measure import Spectra
from mat.experiments.studies.agreement.settings import Settings
from mat.experiments.studies.session import Job
from mat.experiments.studies.study import Study
from mat.experiments.training.cost import Cost, Shape


def cost(job: Job, shape: Shape) -> Cost:
    """A run without a test, to its last checkpoint; every estimator on every probe set, at the largest n that its
    budget allows; and, once, the probes that prices follow from (``agreement.price``) at every n."""
    settings, steps = job.settings, shape.steps_to(max(job.settings.shares))
    found = settings.measurements(shape.logits, shape.positions)
    once = sum(shape.passes(one.estimator, one.directions - one.known, one.sizes[-1]) for one in found)
    priced = sum(shape.passes("projected", r, n) for n in settings.sizes for r in (1, 1, 1, 2, 8))
    priced += 2 * sum(shape.passes("full", 0, n) for one in found if one.estimator == "full" for n in one.sizes)
    probes = len(settings.shares) * settings.probe_sets * once + priced
    return Cost(steps, steps * shape.step, probes, shape.ends(steps) * shape.forward)


def check(job: Job) -> None:
    """The probe of a family's task label is the default that the estimators are judged beside."""
    if job.spec.probe.n not in job.settings.sizes:
        raise InputError(f"sizes must hold the default n = {job.spec.probe.n}, got {list(job.settings.sizes)}")


AGREEMENT = Study("agreement", Settings, Spectra, cost, check=check)
