"""What a study is: one record says what a config may ask of it, how its jobs are measured and what they would cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mat.errors import InputError
from mat.experiments.config.blocks import FamilyBlock
from mat.experiments.config.scale import ScaleConfig, Trained, own_seeds
from mat.experiments.config.spec import Recipe, Spec
from mat.experiments.studies.session import Job, Session
from mat.experiments.training.cost import Cost, Shape
from mat.settings.strict import read

NEVER = 10**9  # no curve of a study's run is kept: only the two ends are evaluated


@dataclass(frozen=True)
class Study:
    """A question that is asked of families of models, each in the training of its own run by vanilla.

    ``name``: of the config's block, the command and the folder of its tables; ``settings``: the dataclass of what is
    measured; ``session``: measures one job; ``cost``: of one job, with the numbers of its run. ``own``: its families
    are tasks as they are, whatever their runs start from. ``alone``: nothing else may run beside its jobs.
    """

    name: str
    settings: type
    session: type[Session]
    cost: Callable[[Job, Shape], Cost]
    own: bool = False
    alone: bool = False

    def job(self, given: Mapping[str, Any]) -> Job:
        """A job from its JSON content. Raises InputError."""
        if set(given) != {"labels", "spec", "settings"}:
            raise InputError(f"a job is a mapping with labels, spec and settings, got {str(given)[:80]}")
        labels = given["labels"]
        if not isinstance(labels, Mapping) or set(labels) != {"scale", "family", "task"}:
            raise InputError(f"a job's labels are scale, family and task, got {labels!r}")
        settings = read(self.settings, given["settings"], self.name)
        return Job(self.name, **labels, spec=Spec.of(given["spec"]), settings=settings)

    def jobs(self, config: ScaleConfig) -> list[Job]:
        """Every family × seed of the config's block; none without one. Raises InputError naming the place."""
        block = getattr(config, self.name)
        if block is None:
            return []
        found = []
        with config.named:
            settings = read(self.settings, block.model_extra, self.name)
            vanilla = config.plugin("method", {"name": "vanilla"}, "method")
            for family, entry in block.families.items():
                place = f"{self.name}.families.{family}"
                trained = _own(config, entry, place) if self.own else _trained(config, entry, place)
                for seed in own_seeds(block, config.seeds):
                    spec = trained.spec(vanilla, seed=seed, threads=config.threads)
                    found.append(Job(self.name, config.scale, family, entry.of, spec, settings))
        return found


def _own(config: ScaleConfig, entry: FamilyBlock, place: str) -> Trained:
    """What a task trains, as it is."""
    _check_task(config, entry, place)
    given = [name for name in ("task", "model", "recipe") if getattr(entry, name)]
    if given:
        raise InputError(f"{place}: expected of alone, got {', '.join(given)} too; it is measured on tasks as they are")
    return config.of_task(entry.of)


def _check_task(config: ScaleConfig, entry: FamilyBlock, place: str) -> None:
    if entry.of not in config.tasks:
        raise InputError(f"{place}.of: expected one of the tasks {', '.join(config.tasks)}, got {entry.of!r}")


def _trained(config: ScaleConfig, entry: FamilyBlock, place: str) -> Trained:
    """What a family's run trains."""
    _check_task(config, entry, place)
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
