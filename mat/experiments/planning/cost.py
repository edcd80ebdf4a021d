"""What a scale's runs would cost, known before anything is run: from outlines of tasks and closed forms of models.

Training is the closed form of a step with every module active, an upper bound for methods that skip work. A kernel
probe is a forward pass and the estimator's backward passes, each twice a forward pass (``mat.flops.nominal``), whether it is
charged or only observed. Evaluation is of the validation split when it is due and of the test split at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from mat.errors import InputError
from mat.experiments.config.runs import Run
from mat.experiments.config.scale import ScaleConfig
from mat.experiments.config.spec import Spec
from mat.experiments.models.closed_form import REMAINDER
from mat.experiments.studies.agreement import config as agreement_plan
from mat.experiments.studies.branches import config as branches_plan
from mat.experiments.studies.job import Job
from mat.experiments.task_signature import Signature
from mat.experiments.tasks.base import Outline
from mat.kernels.estimators import Estimator
from mat.methods.base import GRADIENTS, SPECTRA
from mat.records.costs import FLOPS_PER_MAC


class Cost(NamedTuple):
    """Multiply-adds (MACs) of one run."""

    training: int
    probes: int
    evaluation: int


@dataclass(frozen=True)
class Row:
    """The runs of one task label and method: ``cost`` of all of them together, ``steps`` of each."""

    task: str
    method: str
    tags: tuple[str, ...]
    precision: str
    runs: int
    steps: int
    cost: Cost

    def hours(self, rates: Mapping[str, float]) -> float:
        """Hours of one worker at ``rates`` (GFLOP/s by precision); probes and evaluation are in float32."""
        seconds = self.cost.training / rates[self.precision]
        seconds += (self.cost.probes + self.cost.evaluation) / rates["float32"]
        return FLOPS_PER_MAC * seconds / 1e9 / 3600


class Shape:
    """The numbers of one specification that its cost is made of, in MACs and samples."""

    def __init__(self, spec: Spec) -> None:
        outline: Outline = spec.task.module.outline(spec.task.settings)
        self.recipe, self.probe, self.sizes = spec.recipe, spec.probe, outline.sizes
        if self.recipe.batch > self.sizes["train"]:
            raise InputError(f"a batch of {self.recipe.batch} is more than the {self.sizes['train']} samples")
        self.steps_per_epoch = self.sizes["train"] // self.recipe.batch
        self.steps = self.recipe.epochs * self.steps_per_epoch
        family, settings = spec.model.module, spec.model.settings
        work = family.work(settings, outline.signature, self.recipe.batch)
        names = [name for name in work if name != REMAINDER]
        self.modules = len(names)
        self.step = family.step(work, names, spec.method.settings.mode)
        self.forward = sum(one.forward for one in family.work(settings, outline.signature, 1).values())
        self.logits = logits(outline.signature)

    def passes(self, estimator: str, directions: int, n: int) -> int:
        """MACs of a kernel probe of n samples."""
        # counting needs no loss function, but an estimator called loss is refused without one
        backwards = Estimator(estimator, max(directions, 1), loss=len).count(self.logits)
        return (1 + 2 * backwards) * self.forward * n


def logits(signature: Signature) -> int:
    """k, the logits of one sample."""
    return signature.outputs * (signature.length if signature.objective.endswith("_lm") else 1)


def run_cost(spec: Spec) -> tuple[int, Cost]:
    """Steps and cost of one run. Raises InputError where task, model and recipe do not fit each other."""
    shape, method = Shape(spec), spec.method.settings
    every = shape.probe.every or shape.steps_per_epoch
    measured = {SPECTRA, GRADIENTS} if method.observe else method.reads
    probes = -(-shape.steps // every)
    evaluations = 1 + -(-shape.steps // shape.recipe.evaluate_every)
    samples = evaluations * shape.sizes["validation"] + shape.sizes["test"]
    passes = {
        SPECTRA: shape.passes(shape.probe.estimator, shape.probe.directions, shape.probe.n),
        GRADIENTS: shape.passes("loss", 1, shape.probe.n),
    }
    one = sum(passes[what] for what in measured)
    return shape.steps, Cost(shape.steps * shape.step, probes * one, samples * shape.forward)


def job_cost(job: Job) -> tuple[int, Cost]:
    """The same of one measurement: a vanilla run without a test, to its last checkpoint, and what is measured there.

    Of estimators: every one on every probe set, at the largest n that its budget allows. Of branches: their steps, each
    as one with every module active; one probe; and the samples that are read before and after."""
    shape, settings = Shape(job.spec), job.settings
    checkpoints, steps = len(settings.shares), round(max(settings.shares) * shape.steps)
    evaluations = 1 + (steps == shape.steps)
    if isinstance(settings, branches_plan.Settings):
        sets, validation = len(branches_plan.SETS), shape.sizes["validation"]
        each = settings.samples + min(settings.validation_samples, validation)
        read = (shape.modules + 2) * each if settings.steps else 0
        read += (sets + 1) * (settings.samples + validation) if settings.set_steps else 0
        once = shape.passes(shape.probe.estimator, shape.probe.directions, shape.probe.n)
        samples = checkpoints * read + evaluations * validation
        trained = steps + checkpoints * settings.branch_steps(shape.modules)
        return steps, Cost(trained * shape.step, checkpoints * once, samples * shape.forward)
    once = sum(
        shape.passes(found.estimator, found.directions, found.sizes[-1])
        for found in settings.measurements(shape.logits)
    )
    probes = checkpoints * settings.probe_sets * once
    return steps, Cost(steps * shape.step, probes, evaluations * shape.sizes["validation"] * shape.forward)


def measurements(config: ScaleConfig) -> list[Job]:
    """Every job of a config beside its runs."""
    return [*agreement_plan.jobs(config), *branches_plan.jobs(config)]


def rows(runs: Iterable[Run], jobs: Iterable[Job] = ()) -> list[Row]:
    """One row per task label and method, in the order of the runs, then one per family of ``jobs``."""
    runs, jobs = list(runs), list(jobs)
    tags = {run.task: run.tags for run in runs}
    groups: dict[tuple[str, str], list[Any]] = {}
    for one in [*runs, *jobs]:
        method = f"({one.what}: {one.family})" if isinstance(one, Job) else one.method
        groups.setdefault((one.task, method), []).append(one)
    found = []
    for (task, method), same in groups.items():
        first = same[0]
        try:
            steps, cost = job_cost(first) if isinstance(first, Job) else run_cost(first.spec)
        except InputError as error:
            raise InputError(f"tasks.{task} with {method}: {error}") from None
        together = Cost(*(len(same) * macs for macs in cost))
        precision = first.spec.recipe.precision
        found.append(Row(task, method, tags.get(task, ()), precision, len(same), steps, together))
    return found
