"""What a run would cost, known before anything is run: from the outline of its task and the closed form of its model.

Training is the closed form of a step with every module active, an upper bound for methods that skip work. A kernel
probe is a forward pass and the estimator's backward passes, each twice a forward pass (``mat.flops.nominal``), whether
it is charged or only observed. Evaluation is of the validation split when it is due and of the test split at the end.
"""

from __future__ import annotations

from typing import NamedTuple

from mat.errors import InputError
from mat.experiments.config.spec import Spec
from mat.experiments.models.closed_form import REMAINDER
from mat.experiments.task_signature import Signature
from mat.experiments.tasks.base import Outline
from mat.flops.nominal import probe_macs
from mat.kernels.estimators import backward_passes
from mat.methods.base import probe_passes


class Cost(NamedTuple):
    """Steps of one run, and multiply-adds (MACs)."""

    steps: int
    training: int
    probes: int
    evaluation: int


class Shape:
    """The numbers of one specification that its cost is made of, in MACs and samples. Raises InputError where task,
    model and recipe do not fit each other."""

    def __init__(self, spec: Spec) -> None:
        outline: Outline = spec.task.module.outline(spec.task.settings)
        self.recipe, self.probe, self.sizes = spec.recipe, spec.probe, outline.sizes
        self.method = spec.method.settings
        if self.recipe.batch > self.sizes["train"]:
            raise InputError(f"a batch of {self.recipe.batch} is more than the {self.sizes['train']} samples")
        self.steps_per_epoch = self.sizes["train"] // self.recipe.batch
        self.steps = self.recipe.epochs * self.steps_per_epoch
        family, settings = spec.model.module, spec.model.settings
        work = family.work(settings, outline.signature, self.recipe.batch)
        names = [name for name in work if name != REMAINDER]
        self.modules = len(names)
        self.step = work.step(names, self.method.mode)
        self.forward = sum(one.forward for one in family.work(settings, outline.signature, 1).values())
        self.logits, self.positions = logits(outline.signature), positions(outline.signature)

    def passes(self, estimator: str, directions: int, n: int) -> int:
        """MACs of a kernel probe of n samples."""
        return probe_macs(self.forward, n, backward_passes(estimator, directions, self.logits))

    def steps_to(self, share: float) -> int:
        """The step of a checkpoint."""
        return round(share * self.steps)

    def ends(self, steps: int) -> int:
        """Samples of the validation split that are read at the start and, if these ``steps`` are all, at the end."""
        return (1 + (steps == self.steps)) * self.sizes["validation"]


def logits(signature: Signature) -> int:
    """k, the logits of one sample."""
    return signature.outputs * positions(signature)


def positions(signature: Signature) -> int:
    """How many of them a sample's logits have: a text's where every one is predicted, else one."""
    return signature.length if signature.objective.endswith("_lm") else 1


def run_cost(spec: Spec) -> Cost:
    """Cost of one run. Raises InputError where task, model and recipe do not fit each other."""
    shape = Shape(spec)
    probes = -(-shape.steps // (shape.probe.every or shape.steps_per_epoch))
    kernel = backward_passes(shape.probe.estimator, shape.probe.directions, shape.logits)
    passes = probe_passes(shape.method.measured(), kernel)
    probe = sum(probe_macs(shape.forward, shape.probe.n, backwards) for backwards in passes)
    evaluations = 1 + -(-shape.steps // shape.recipe.evaluate_every)
    samples = evaluations * shape.sizes["validation"] + shape.sizes["test"]
    return Cost(shape.steps, shape.steps * shape.step, probes * probe, samples * shape.forward)
