"""Do rankings of modules by λ_max depend on the kernel's estimator, normalisation and number of samples (X6, A3)?"""

from __future__ import annotations

from mat.errors import InputError
from mat.experiments.studies.agreement.measure import Spectra
from mat.experiments.studies.agreement.price import REPEATS
from mat.experiments.studies.agreement.settings import Settings
from mat.experiments.studies.session import Job, checkpoints
from mat.experiments.studies.study import Study
from mat.experiments.training.cost import Cost, Shape
from mat.kernels.estimators import STEP


def cost(job: Job, shape: Shape) -> Cost:
    """A run without a test, to its last checkpoint; every estimator on every probe set, at the largest n that its
    budget allows; and, once, the probes and steps that prices follow from (``agreement.price``) at every n."""
    settings, steps = job.settings.beside(job.spec.probe, shape.extent), shape.steps_to(max(job.settings.shares))
    checkpoints(settings.shares, shape.steps)
    found = settings.affordable(shape.logits, shape.positions, shape.recipe.batch)
    asked = settings.probe_sets * settings.size(found, shape.recipe.batch)
    if asked > shape.sizes["train"]:
        raise InputError(
            f"{settings.probe_sets} probe sets of up to {asked // settings.probe_sets} samples are more than the "
            f"{shape.sizes['train']} training samples; lower probe_sets or sizes"
        )
    recorded = [n for one in found if one.estimator == STEP for n in one.sizes]
    found = [one for one in found if one.estimator != STEP]
    once = sum(shape.passes(one.estimator, one.directions - one.known, one.sizes[-1]) for one in found)
    once += bool(recorded) * shape.step
    priced = sum(shape.passes("projected", r, n) for n in settings.sizes for r in (1, 1, 2, 8))
    priced += 2 * sum(shape.passes("full", 0, n) for one in found if one.estimator == "full" for n in one.sizes)
    priced += 2 * (REPEATS + 1) * len(recorded) * shape.step
    probes = len(settings.shares) * settings.probe_sets * once + priced
    return Cost(steps, steps * shape.step, probes, shape.ends(steps) * shape.forward)


AGREEMENT = Study("agreement", Settings, Spectra, cost)
