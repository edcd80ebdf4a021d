"""What the ceiling is computed for: the scale's own tasks, and models given by their shapes alone, without data.

The config's block ``ceiling`` holds what the paper reports beside it, and the paper's models: ::

    ceiling:
      draws: 200
      reported: {active_share: 0.34, savings: [26.4, 50.9]}  # of the epochs; percent of a run's compute
      models:
        bert_base: {model: {name: bert, …}, objective: masked_lm, shapes: {input_ids: [1, 128]}, outputs: 30522,
                    batch: 32, reported: {vanilla: 28.70, mat: 16.50}}  # PFLOP of a whole run
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from mat.errors import InputError
from mat.experiments.config.blocks import CeilingBlock, Compute, ModelShapes
from mat.experiments.config.plugins import Plugin
from mat.experiments.config.scale import ScaleConfig, Trained
from mat.experiments.task_signature import Signature


@dataclass(frozen=True)
class Subject:
    """A model at the shapes that it trains on. ``source``: 'task' (the scale's own) or 'paper'; ``shapes``: of one
    sample's inputs, batch dimension 1."""

    label: str
    source: str
    model: Plugin
    objective: str
    shapes: Mapping[str, tuple[int, ...]]
    outputs: int
    batch: int
    reported: Compute | None = None
    note: str = ""

    def work(self):
        """The step's work by module and for the remainder, in MACs. Raises InputError for shapes that do not fit."""
        example = {name: torch.empty(shape, device="meta") for name, shape in self.shapes.items()}
        signature = Signature(self.objective, example, self.outputs)
        return self.model.module.work(self.model.settings, signature, self.batch)


@dataclass(frozen=True)
class Plan:
    """A scale's ceiling. ``tasks``: model and batch of each task label, whose shapes come with its data."""

    scale: str
    settings: CeilingBlock
    tasks: Mapping[str, Trained]
    models: tuple[Subject, ...] = field(default=())

    def subjects(self, prepared: Mapping[str, Mapping[str, Any]]) -> list[Subject]:
        """The tasks by what was ``prepared`` for each label, then the models. Raises InputError for a missing one."""
        found = []
        for label, task in self.tasks.items():
            data = prepared.get(label)
            if data is None or not {"objective", "shapes", "outputs"} <= set(data):
                raise InputError(
                    f"expected objective, shapes and outputs of the task {label}; prepare its data "
                    "again and give the file"
                )
            shapes = {name: tuple(shape) for name, shape in data["shapes"].items()}
            signature = data["objective"], shapes, data["outputs"]
            found.append(Subject(label, "task", task.model, *signature, task.recipe.batch))
        return found + list(self.models)


def plan(config: ScaleConfig) -> Plan | None:
    """What a scale's config asks for; None without a block ``ceiling``. Raises InputError naming the place."""
    block = config.ceiling
    if block is None:
        return None
    with config.named:
        low, high = block.reported.savings
        if low > high:
            raise InputError(f"ceiling.reported.savings: expected the lowest and then the highest, got {[low, high]}")
        tasks = {label: config.of_task(label) for label in config.tasks}
        models = tuple(_model(config, label, entry) for label, entry in block.models.items())
        return Plan(config.scale, block, tasks, models)


def _model(config: ScaleConfig, label: str, entry: ModelShapes) -> Subject:
    place = f"ceiling.models.{label}"
    if label in config.tasks:
        raise InputError(f"{place}: {label} is the label of a task; choose another")
    if any(shape[0] != 1 for shape in entry.shapes.values()):
        raise InputError(
            f"{place}.shapes: expected the shape of one sample of every input, such as {{input_ids: [1, 128]}}, got "
            f"{entry.shapes}"
        )
    if entry.reported is not None and entry.reported.mat > entry.reported.vanilla:
        raise InputError(f"{place}.reported: 0 < mat ≤ vanilla is expected, got {entry.reported.given()}")
    shapes = {name: tuple(shape) for name, shape in entry.shapes.items()}
    model = config.plugin("model", entry.model, f"{place}.model")
    shapes = {name: tuple(shape) for name, shape in entry.shapes.items()}
    found = Subject(
        label, "paper", model, entry.objective, shapes, entry.outputs, entry.batch, entry.reported, entry.note
    )
    try:
        found.work()
    except InputError as error:
        raise InputError(f"{place}: {error}") from None
    return found


def part(config: ScaleConfig, tasks: Iterable[str]) -> str:
    """A config, as JSON, of the ceiling and of these tasks alone: the same whatever else the scale has."""
    found = {label: config.of_task(label) for label in tasks}
    return json.dumps(
        {
            "scale": config.scale,
            "seeds": config.seeds[:1],
            "tasks": {
                label: {"task": one.task.plain, "model": one.model.plain, "recipe": {"batch": one.recipe.batch}}
                for label, one in found.items()
            },
            "methods": {"vanilla": {"name": "vanilla"}},
            "ceiling": config.ceiling.model_dump(exclude_unset=True),
        }
    )
