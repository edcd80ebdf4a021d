"""What a run would cost, known before anything is run: from the outline of its task and the closed form of its model.

Training is the closed form of a step with every module active, an upper bound for methods that skip work. A kernel
probe is a forward pass and the estimator's backward passes, each twice a forward pass (``mat.flops.nominal``), whether
it is charged or only observed. How much is probed within a budget (``extent``) follows from the task, the model and the
recipe, and of the method only from whether it reads the remainder's kernel: runs that are compared have one probe set.
Evaluation is of the validation split when it is due and of the test split at the end.
"""

from __future__ import annotations

import json
from typing import NamedTuple

import torch

from mat.errors import InputError
from mat.experiments.config.spec import Spec
from mat.experiments.models.closed_form import REMAINDER
from mat.experiments.task_signature import Signature
from mat.experiments.tasks.base import Outline
from mat.flops.nominal import probe_macs
from mat.kernels.estimators import backward_passes
from mat.kernels.probes.budget import Extent, Prices, choose
from mat.methods.base import check_kinds, probe_passes
from mat.partition.partition import Partition


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
        if self.probe.n > self.sizes["train"]:
            raise InputError(f"a probe of {self.probe.n} samples is more than the {self.sizes['train']} samples")
        self.steps_per_epoch = self.sizes["train"] // self.recipe.batch
        self.steps = self.recipe.steps(self.steps_per_epoch)
        family, settings = spec.model.module, spec.model.settings
        work = family.work(settings, outline.signature, self.recipe.batch)
        names = [name for name in work if name != REMAINDER]
        self.modules = len(names)
        if self.method.kinds:
            check_kinds(self.method, {module.kind for module in modules_of(spec, outline.signature).modules})
        self.step = work.step(names, self.method.mode)
        self.forward = sum(one.forward for one in family.work(settings, outline.signature, 1).values())
        self.logits, self.positions = logits(outline.signature), positions(outline.signature)
        self.extent = extent(spec, outline.signature, self.steps_per_epoch)

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


def extent(spec: Spec, signature: Signature, steps_per_epoch: int) -> Extent:
    """How much is probed: as the specification says, or what its budget allows of it. Raises InputError where a budget
    allows no probe of a method that chooses or measures anything, and where the first one would come when the run is
    over."""
    probe, steps, method = spec.probe, spec.recipe.steps(steps_per_epoch), spec.method.settings
    if spec.first_probe(steps) >= steps:
        raise InputError(f"probe: first must be one of the run's {steps} steps, got {probe.first}; lower it")
    wanted = Extent(probe.n, probe.directions, probe.every or steps_per_epoch)
    if probe.budget is None:
        return wanted
    try:
        return choose(prices(spec, signature), probe.budget, wanted, probe.estimator, steps)
    except InputError:
        if method.dense and not method.measured():
            return wanted
        raise


def prices(spec: Spec, signature: Signature) -> Prices:
    """Of probing and training, by the closed form; a step at its least trains the remainder alone, in ``detach``, and
    sends no token to any expert."""
    family, settings = spec.model.module, spec.model.settings
    one, step = family.work(settings, signature, 1), family.work(settings, signature, spec.recipe.batch)
    partition = modules_of(spec, signature)
    modules = partition.modules if not spec.method.settings.remainder else partition.with_remainder().modules
    forward, weights, inputs = map(sum, zip(*one.values(), strict=True))
    parameters = sum(partition.size(module.slices) for module in modules)
    unsure = sum(step[module.name].forward for module in partition.modules if module.kind == "expert")
    return Prices(
        step.step((), "detach") - unsure,
        forward,
        inputs,
        weights,
        parameters,
        len(partition.modules),
        logits(signature),
    )


def modules_of(spec: Spec, signature: Signature) -> Partition:
    """The modules of the specification's model, by sizes only: nothing of it is in memory. Kept, because a scale has
    dozens of methods for each of its models."""
    key = f"{json.dumps(spec.model.identity, sort_keys=True)} {signature}"
    if key not in _MODULES:
        family, settings = spec.model.module, spec.model.settings
        with torch.random.fork_rng(), torch.device("meta"):
            _MODULES[key] = family.partition(settings, family.build(settings, signature))
    return _MODULES[key]


_MODULES: dict[str, Partition] = {}


def run_cost(spec: Spec) -> Cost:
    """Cost of one run. Raises InputError where task, model and recipe do not fit each other."""
    shape = Shape(spec)
    probes = -(-(shape.steps - spec.first_probe(shape.steps)) // shape.extent.every)
    kernel = backward_passes(shape.probe.estimator, shape.extent.directions, shape.logits)
    passes = probe_passes(shape.method.measured(), kernel)
    probe = sum(probe_macs(shape.forward, shape.extent.n, backwards) for backwards in passes)
    evaluations = 1 + -(-shape.steps // shape.recipe.evaluate_every)
    samples = evaluations * shape.sizes["validation"] + shape.sizes["test"]
    return Cost(shape.steps, shape.steps * shape.step, probes * probe, samples * shape.forward)
