"""How long a training step takes at an active share: what a run's seconds follow from by arithmetic (X2)."""

from __future__ import annotations

from mat.backward.promises import FIRST
from mat.experiments.studies.session import Job
from mat.experiments.studies.step_times.measure import StepTimes
from mat.experiments.studies.step_times.settings import Settings
from mat.experiments.studies.study import Study
from mat.experiments.training.cost import Cost, Shape
from mat.kernels.estimators import STEP


def cost(job: Job, shape: Shape) -> Cost:
    """No run: sparse steps, a dense step beside each, and probes, every one as often as it is made, counted ones
    included; each step as one with every module active."""
    settings, extent = job.settings, shape.extent
    sides = settings.rounds * len(settings.modes) * len(settings.active_shares)
    steps = (2 * sides + 2 * settings.rounds) * (settings.steps + 1) + sides + FIRST * (1 + len(settings.modes))
    probes = 0 if shape.probe.estimator == STEP else 1 + settings.rounds
    probe = shape.passes(shape.probe.estimator, extent.directions, extent.n)
    return Cost(0, steps * shape.step, probes * probe, 0)


STEP_TIMES = Study("step_times", Settings, StepTimes, cost, own=True, alone=True)
