"""From a scale's config to the runs that a study is measured on: every family × seed, trained by vanilla."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from mat.errors import InputError
from mat.experiments.config.blocks import FamilyBlock
from mat.experiments.config.scale import ScaleConfig, Trained, own_seeds
from mat.experiments.config.spec import Recipe, Spec
from mat.settings.strict import read

NEVER = 10**9  # no curve of them is kept: only the two ends are evaluated


class FamilyRun(NamedTuple):
    """A family's name, the task label whose data it reads, and its run."""

    family: str
    task: str
    spec: Spec


def families(config: ScaleConfig, study: str) -> list[FamilyRun]:
    """The runs of the config's block ``study``; none without one. Raises InputError naming the place."""
    block, found = getattr(config, study), []
    if block is None:
        return []
    with config.named:
        vanilla = config.plugin("method", {"name": "vanilla"}, "method")
        for family, entry in block.families.items():
            trained = _trained(config, entry, f"{study}.families.{family}")
            for seed in own_seeds(block, config.seeds):
                found.append(FamilyRun(family, entry.of, trained.spec(vanilla, seed=seed, threads=config.threads)))
    return found


def _trained(config: ScaleConfig, entry: FamilyBlock, place: str) -> Trained:
    if entry.of not in config.tasks:
        raise InputError(f"{place}.of: expected one of the tasks {', '.join(config.tasks)}, got {entry.of!r}")
    block = config.tasks[entry.of]
    if block.start is not None:
        raise InputError(f"{place}: {entry.of} starts from another run; choose a task that does not")
    if {"name", "file"} & set(entry.task):
        raise InputError(f"{place}.task: expected settings of the task of {entry.of}, got {entry.task!r}")
    found = config.of_task(entry.of)
    if entry.task:
        found = replace(found, task=config.plugin("task", {**block.task, **entry.task}, f"{place}.task"))
    if entry.model is not None:
        found = replace(found, model=config.plugin("model", entry.model, f"{place}.model"))
    if entry.recipe is not None:
        found = replace(found, recipe=read(Recipe, entry.recipe.given(), f"{place}.recipe"))
    return replace(found, recipe=replace(found.recipe, evaluate_every=NEVER))
