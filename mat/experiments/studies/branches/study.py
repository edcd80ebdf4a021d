"""Does a module with a large λ_max train better, and does training one with a small λ_max harm (C2, C3)?"""

from __future__ import annotations

from mat.errors import InputError
from mat.experiments.studies.branches.measure import Branches
from mat.experiments.studies.branches.settings import SETS, Settings
from mat.experiments.studies.session import Job, checkpoints
from mat.experiments.studies.study import Study
from mat.experiments.training.cost import Cost, Shape


def cost(job: Job, shape: Shape) -> Cost:
    """A run without a test, to its last checkpoint; at each, one probe, the steps of all branches, each as one with
    every module active, and the samples that are read before and after."""
    settings, steps = job.settings, shape.steps_to(max(job.settings.shares))
    checkpoints(settings.shares, shape.steps)
    settings.check_run(steps, shape.steps)
    if settings.samples > shape.sizes["train"]:
        raise InputError(f"samples must be ≤ the {shape.sizes['train']} training samples, got {settings.samples}")
    places, validation = len(settings.shares), shape.sizes["validation"]
    each = settings.samples + min(settings.validation_samples, validation)
    read = (shape.modules + 2) * each if settings.steps else 0
    read += (len(SETS) + 1) * (settings.samples + validation) if settings.set_steps else 0
    probe = shape.passes(shape.probe.estimator, shape.probe.directions, shape.probe.n)
    samples = places * read + shape.ends(steps)
    trained = steps + places * settings.branch_steps(shape.modules)
    return Cost(steps, trained * shape.step, places * probe, samples * shape.forward)


BRANCHES = Study("branches", Settings, Branches, cost)
