"""What a training step can save at most: its work by part, and what is left of it at a given active share.

Closed-form ledger: multiply-adds (MACs) of matrix products and convolutions, forward and backward, of one step.
No probe, no optimizer, no evaluation, and no effect on the number of steps. It is computed for the scale's own tasks,
and for models of the config's block ``ceiling``, given by their shapes alone, without data: ::

    ceiling:
      draws: 200
      reported: {active_share: 0.34, savings: [26.4, 50.9]}  # of the epochs; percent of a run's compute
      models:
        bert_base: {model: {name: bert, …}, objective: masked_lm, shapes: {input_ids: [1, 128]}, outputs: 30522,
                    batch: 32, reported: {vanilla: 28.70, mat: 16.50}}  # PFLOP of a whole run
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from mat.errors import InputError
from mat.experiments.config.blocks import ModelShapes
from mat.experiments.config.plugins import Plugin
from mat.experiments.config.scale import ScaleConfig
from mat.experiments.models.closed_form import REMAINDER, Work
from mat.experiments.task_signature import Signature
from mat.modes import ENDS
from mat.seeds import stream_seed
from mat.settings.strict import validate

SHARES = tuple(step / 20 for step in range(21))


class Subject(NamedTuple):
    """A model at the shapes that it trains on. ``source``: 'task' (the scale's own) or 'paper'."""

    label: str
    source: str
    model: Plugin
    at: ModelShapes

    def work(self) -> dict[str, Work]:
        """The step's work by module and for the remainder, in MACs. Raises InputError for shapes that do not fit."""
        example = {name: torch.empty(shape, device="meta") for name, shape in self.at.shapes.items()}
        signature = Signature(self.at.objective, example, self.at.outputs)
        return self.model.module.work(self.model.settings, signature, self.at.batch)


def models_of(config: ScaleConfig) -> list[Subject]:
    """The models of the config's block ``ceiling``; none without one. Raises InputError naming the place."""
    found = []
    with config.named:
        for label, entry in config.ceiling.models.items() if config.ceiling else ():
            place = f"ceiling.models.{label}"
            if label in config.tasks:
                raise InputError(f"{place}: {label} is the label of a task; choose another")
            found.append(Subject(label, "paper", config.plugin("model", entry.model, f"{place}.model"), entry))
            try:
                found[-1].work()
            except InputError as error:
                raise InputError(f"{place}: {error}") from None
    return found


def subjects_of(config: ScaleConfig, prepared: Mapping[str, Mapping[str, Any]]) -> list[Subject]:
    """The tasks, at the shapes that were ``prepared`` for each label, then the models. Raises InputError."""
    if config.ceiling is None:
        raise InputError("the config has no block ceiling; add one")
    found = []
    for label in config.tasks:
        data, task = prepared.get(label, {}), config.of_task(label)
        at = {name: data[name] for name in ("objective", "shapes", "outputs") if name in data}
        if len(at) < 3:
            raise InputError(
                f"expected objective, shapes and outputs of the task {label}; prepare its data again and give the file"
            )
        shapes = validate(
            ModelShapes, {"model": {}, "batch": task.recipe.batch, **at}, f"what was prepared for {label}"
        )
        found.append(Subject(label, "task", task.model, shapes))
    return found + models_of(config)


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


def kind_of(name: str) -> str:
    """The kind of a module by its name in ``work``: layer1.expert3 is an expert."""
    return re.sub(r"\d+$", "", name.rpartition(".")[2])


def parts(found: Iterable[Subject], config: ScaleConfig) -> pd.DataFrame:
    """One row per model and kind of module: MACs of a dense step by forward pass, weight gradients and input
    gradients, in all and in percent of the step; what the model is beside it."""
    return pd.DataFrame(row for subject in found for row in _parts_of(subject, config.scale))


def _parts_of(subject: Subject, scale: str) -> Iterator[dict[str, Any]]:
    work, at, reported = subject.work(), subject.at, subject.at.reported
    dense = sum(map(sum, work.values()))
    about = {
        "scale": scale,
        "label": subject.label,
        "source": subject.source,
        "model": subject.model.name,
        "input": ", ".join(f"{name} {' × '.join(map(str, s))}" for name, s in at.shapes.items()),
        "outputs": at.outputs,
        "batch": at.batch,
        "modules": len(work) - 1,
        "dense_macs": dense,
        "forward_total_macs": sum(one.forward for one in work.values()),
        "reported_vanilla_pflop": math.nan if reported is None else reported.vanilla,
        "reported_mat_pflop": math.nan if reported is None else reported.mat,
        "note": at.note,
    }
    for kind in dict.fromkeys(map(kind_of, work)):
        same = [one for name, one in work.items() if kind_of(name) == kind]
        row = about | {"kind": kind, "kind_modules": 0 if kind == REMAINDER else len(same)}
        for name in ("forward", "input", "weight"):
            macs = sum(getattr(one, name) for one in same)
            row |= {f"{name}_macs": macs, f"{name}_percent": 100 * macs / dense}
        yield row


def savings(found: Iterable[Subject], config: ScaleConfig) -> pd.DataFrame:
    """One row per model, backward mode and active share: what a step saves, in percent of the dense step.

    ``mean``, ``min`` and ``max`` over random active sets, drawn uniformly among those of that size;
    the sets of one draw grow with the share, so that the mean falls with it exactly. ``least`` and ``most`` over
    all sets of that size.
    """
    return pd.DataFrame(row for subject in found for row in _savings_of(subject, config))


def _savings_of(subject: Subject, config: ScaleConfig) -> Iterator[dict[str, Any]]:
    work, asked = subject.work(), config.ceiling
    names = [name for name in work if name != REMAINDER]
    dense = sum(map(sum, work.values()))
    random = np.random.default_rng(stream_seed(asked.seed, "ceiling", subject.label))
    orders = [random.permutation(names).tolist() for _ in range(asked.draws)]
    for mode in ENDS:
        for share in sorted({*SHARES, asked.reported.active_share}):
            count = math.floor(share * len(names) + 0.5)
            macs = [work.step(order[:count], mode) for order in orders]
            least, most = work.extremes(count, mode)
            yield {
                "scale": config.scale,
                "label": subject.label,
                "mode": mode,
                "share": share,
                "active": count,
                "modules": len(names),
                "draws": len(macs),
                "saving_mean": 100 * (1 - sum(macs) / (len(macs) * dense)),
                "saving_min": 100 * (1 - max(macs) / dense),
                "saving_max": 100 * (1 - min(macs) / dense),
                "saving_least": 100 * (1 - most / dense),
                "saving_most": 100 * (1 - least / dense),
                "reported_active_share": asked.reported.active_share,
                "reported_low": asked.reported.savings[0],
                "reported_high": asked.reported.savings[1],
            }
