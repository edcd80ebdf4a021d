"""A task's data before any run wants it: fetched, read, and checked to fit the run's model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mat.experiments.config.spec import Spec
from mat.experiments.tasks.base import Task
from mat.experiments.tasks.storage import hub
from mat.experiments.training import checkpoint
from mat.experiments.training.machine import Machine


def fetch(spec: Spec, machine: Machine) -> list[dict[str, Any]]:
    """Download what the task and the start of ``spec`` are made of, or find it in a mirror; what there is."""
    sources = spec.task.module.sources(spec.task.settings) + checkpoint.sources(spec.start)
    return [hub.fetch(source, machine.data, machine.cache) for source in sources]


def check(spec: Spec, machine: Machine) -> dict[str, Any]:
    """Read the task of ``spec`` and make sure that its batches, probe, model and partition fit it.

    Returns sizes, data hash, known bounds, and the shapes of one sample's inputs and the number of outputs.
    Raises InputError, before any compute is spent, otherwise.
    """
    task: Task = spec.task.module.load(spec.task.settings, machine.data, machine.cache)
    task.steps_per_epoch(spec.recipe.batch)
    task.probe(spec.seed, spec.probe.n)
    family, settings, start = spec.model.module, spec.model.settings, spec.start
    model = family.build(settings, task.signature)
    family.partition(settings, model)
    if start is not None and start.hub is not None:
        checkpoint.start(model, start, task, Path(), machine)
    return {
        "task": task.name,
        "sizes": task.sizes,
        "data_hash": task.data_hash,
        "bounds": task.bounds,
        "truncated": dict(task.truncated),
        "objective": task.signature.objective,
        "shapes": {name: list(value.shape) for name, value in task.signature.example.items()},
        "outputs": task.signature.outputs,
    }
