"""One reading of a scale's YAML: ``ScaleConfig``. Runs, studies, the plan and the workflow start from it alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr

from mat.errors import InputError
from mat.experiments.config.blocks import CeilingBlock, MethodBlock, Place, Seeds, StudyBlock, TaskBlock
from mat.experiments.config.plugins import Plugin
from mat.experiments.config.spec import THREADS, Probe, Recipe, Spec
from mat.experiments.config.tuned import Chosen, merged, path_of, read_tuned
from mat.settings.label import Label
from mat.settings.power import TaskPlan, scale_plan
from mat.settings.strict import Strict, read, validate
from mat.settings.yaml_file import read_yaml

CONFIGS = Path("workflows/config")
MEASURED = ("agreement", "branches", "step_times")  # blocks of studies that train or time runs
MACHINE = ("data", "cache", "device")  # where and on what it runs: no part of any specification


class ScaleConfig(Strict):
    """A scale: every task by every method with every seed, and studies beside them."""

    scale: Label
    """Its name, which results are kept under."""
    seeds: Seeds
    """Every run is made with each of them."""
    power: Place | None = None
    """A file, named from this one's folder, that says how many of the seeds each task is run with; all without it."""
    threads: Annotated[int, Field(ge=1, le=THREADS)] = 1
    """CPU threads of one run; part of its identity, because sums depend on it in the last bit."""
    data: Place | None = None
    """A mirror of data sets in hub layout; without it the hub is asked."""
    cache: Place | None = None
    """Where downloaded and prepared data go."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to train."""
    tasks: Annotated[dict[Label, TaskBlock], Field(min_length=1)]
    """What is trained, by a label."""
    methods: Annotated[dict[Label, MethodBlock], Field(min_length=1)]
    """What it is trained by, by a label."""
    agreement: StudyBlock | None = None
    """Which kernel estimators can be trusted (X6, A3)."""
    branches: StudyBlock | None = None
    """Modules, and sets of them, trained alone from checkpoints (C2, C3)."""
    step_times: StudyBlock | None = None
    """Seconds of a training step at active shares, in turn with dense steps (X2)."""
    ceiling: CeilingBlock | None = None
    """What a step can save at most, by the closed forms."""

    _path: Path | None = PrivateAttr(None)
    _planned: dict[str, TaskPlan] = PrivateAttr(default_factory=dict)

    @classmethod
    def of(cls, content: Any, path: Path | None = None) -> ScaleConfig:
        """From a mapping, read from the file ``path`` if from one: files of plug-ins are looked for beside it.

        Raises InputError, naming file and place of the first thing that is wrong.
        """
        with _named(path):
            config = validate(cls, content)
            config._path = path
            if config.scale == "reference":
                raise InputError("scale: reference is where the committed results are; choose another name")
            if config.power is not None:
                file = (path.parent if path else Path()) / config.power
                config._planned = scale_plan(file, config.scale, list(config.tasks)).tasks
            for label, block in config.tasks.items():
                both = sorted(set(block.tags) & set(config.methods))
                if both:
                    raise InputError(f"tasks.{label}.tags: {both[0]} is the label of a method; choose another")
                unknown = [name for name in block.methods or () if name not in config.methods]
                if unknown:
                    known = ", ".join(config.methods)
                    raise InputError(f"tasks.{label}.methods: expected some of {known}, got {unknown[0]!r}")
            known = [label for label, block in config.methods.items() if block.tuned is None]
            for label, block in config.methods.items():
                if block.tuned not in (None, *known):
                    raise InputError(
                        f"methods.{label}.tuned: expected one of {', '.join(known)}, got {block.tuned!r}; change it"
                    )
            return config

    @property
    def named(self):
        """A context whose errors begin with the file that was read."""
        return _named(self._path)

    @property
    def path(self) -> Path | None:
        """The file that it was read from."""
        return self._path

    @property
    def planned(self) -> Mapping[str, TaskPlan]:
        """What the power plan says, by task."""
        return self._planned

    def seeds_of_task(self, label: str) -> list[int]:
        """The seeds that a task is run with: the first of the scale's, as many as the power plan says, of them those
        of its own."""
        plan = self._planned.get(label)
        return own_seeds(self.tasks[label], self.seeds[: plan.seeds] if plan else self.seeds)

    def plugin(self, kind: str, given: Mapping[str, Any], place: str) -> Plugin:
        return Plugin.of(kind, given, place, self._path.parent if self._path else Path())

    def methods_of(self, task: str) -> dict[str, MethodBlock]:
        """What a task label is trained by, tuned settings filled in; without what was not tuned for it, and what is
        matched to that. Raises InputError."""
        asked = self.tasks[task].methods
        found = {
            label: block if block.tuned is None else self._tuned_block(task, label, block)
            for label, block in self.methods.items()
            if asked is None or label in asked
        }
        lacking = {label for label, block in found.items() if block is None}
        return {
            label: block
            for label, block in found.items()
            if block is not None and not lacking & {block.settings.get("match"), block.recipe.match_compute}
        }

    def untuned(self) -> dict[str, list[str]]:
        """By task label the methods that it should be trained by and is not, because nothing was tuned for them."""
        found = {}
        for task, block in self.tasks.items():
            has = self.methods_of(task)
            lacking = [label for label in block.methods or self.methods if label not in has]
            found |= {task: lacking} if lacking else {}
        return found

    @cached_property
    def tuned(self) -> dict[str, dict[str, Chosen]]:
        """What was tuned for this scale, by task and method."""
        return {} if self._path is None else read_tuned(path_of(self._path, self.scale), self.seeds)

    def _tuned_block(self, task: str, label: str, block: MethodBlock) -> MethodBlock | None:
        """The block of a tuned label with the settings that were chosen, what it says itself on top; None without."""
        chosen = self.tuned.get(task, {}).get(block.tuned)
        if chosen is None:
            return None
        changes = {name: value for name, value in block.written.items() if name != "tuned"}
        return validate(MethodBlock, merged(chosen.settings, changes), f"methods.{label}, as tuned for {task}")

    def of_task(self, label: str) -> Trained:
        """What a task label trains, by itself. Raises InputError."""
        block, place = self.tasks[label], f"tasks.{label}"
        model = self._model(label)
        if model is None:
            raise InputError(f"{place}: 'model' is missing; name one, such as model: {{name: vgg}}")
        return Trained(
            task=self.plugin("task", block.task, f"{place}.task"),
            model=self.plugin("model", model, f"{place}.model"),
            recipe=read(Recipe, block.recipe.given(), f"{place}.recipe"),
            probe=read(Probe, block.probe.given(), f"{place}.probe"),
            written=model,
        )

    def _model(self, label: str, *before: str) -> dict[str, Any] | None:
        """The model as it is written: the label's own, or that of the label which it starts from."""
        block = self.tasks[label]
        start = None if block.start is None else block.start.task
        if block.model is not None or start is None:
            return block.model
        if start not in self.tasks or start in (label, *before):
            return None
        return self._model(start, label, *before)


@dataclass(frozen=True)
class Trained:
    """What a task label trains, whatever the method. ``written``: its model as the config has it."""

    task: Plugin
    model: Plugin
    recipe: Recipe
    probe: Probe
    written: Mapping[str, Any]

    def changed(self, config: ScaleConfig, block: MethodBlock, place: str) -> Trained:
        """With what a method changes of it. Raises InputError."""
        found = self
        if block.model:
            written = {**self.written, **block.model}
            found = replace(found, model=config.plugin("model", written, f"{place}: model"), written=written)
        for part in ("recipe", "probe"):
            given = getattr(block, part).given()
            try:
                found = replace(found, **{part: replace(getattr(found, part), **given)})
            except InputError as error:
                raise InputError(f"{place}: {part}: {error}") from None
        if block.lr_factor == 1:
            return found
        return replace(found, recipe=replace(found.recipe, lr=block.lr_factor * found.recipe.lr))

    def spec(self, method: Plugin, **more: Any) -> Spec:
        """A specification; ``more``: start, seed, threads."""
        return Spec(self.task, self.model, method, self.recipe, self.probe, **{"start": None, **more})


def read_scale(given: str | Path, overrides: Mapping[str, Any] | None = None, configs: Path = CONFIGS) -> ScaleConfig:
    """The config of a scale by its name in ``configs``, or of a file.

    ``overrides``: seeds, data, cache and device that replace the file's. Raises InputError.
    """
    path = Path(given)
    if not path.is_file():
        path = configs / f"{given}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in configs.glob("*.yaml"))) or f"none in {configs}"
        raise InputError(f"unknown scale {str(given)!r}; known: {known}; or name a config file")
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise InputError(f"{path.name}: expected a mapping with scale, seeds, tasks and methods, got {content!r}")
    changes = {key: value for key, value in (overrides or {}).items() if value is not None}
    unknown = sorted(set(changes) - {"seeds", *MACHINE})
    if unknown:
        raise InputError(f"unknown key {unknown[0]!r} beside the config; known: {', '.join(('seeds', *MACHINE))}")
    if "seeds" in changes:
        changes["seeds"] = seeds_of(changes["seeds"])
    config = ScaleConfig.of(content, path)
    with config.named:
        _check_own_seeds(config)
    return ScaleConfig.of({**content, **changes}, path) if changes else config


def _check_own_seeds(config: ScaleConfig) -> None:
    """Refuse seeds of a block that are none of the file's: nothing would be run with them. Seeds that are given beside
    the file may leave some out."""
    blocks = {f"tasks.{label}": block for label, block in config.tasks.items()}
    blocks |= {f"methods.{label}": block for label, block in config.methods.items()}
    blocks |= {name: block for name in MEASURED if (block := getattr(config, name)) is not None}
    for place, block in blocks.items():
        unknown = [seed for seed in block.seeds or () if seed not in config.seeds]
        if unknown:
            raise InputError(f"{place}.seeds: expected some of the scale's {config.seeds}, got {unknown[0]}; change it")
    for label, plan in config.planned.items():
        if plan.seeds > len(config.seeds):
            raise InputError(
                f"{config.power}: {label}.seeds: expected at most the {len(config.seeds)} that the scale lists, got "
                f"{plan.seeds}; list more seeds or lower it"
            )


def seeds_of(given: Any) -> Any:
    """Seeds as the command line gives them (``0``, ``0,1`` or ``[0,1]``, texts to Snakemake) as whole numbers; anything
    else stays as it is, to be refused where seeds are read."""
    parts = given.split(",") if isinstance(given, str) else given if isinstance(given, list) else [given]
    return [int(part) if isinstance(part, str) and part.strip().isdecimal() else part for part in parts]


@contextmanager
def _named(path: Path | None) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        if path is None or str(error).startswith(f"{path.name}: "):
            raise
        raise InputError(f"{path.name}: {error}") from None


def own_seeds(block: Any, seeds: list[int]) -> list[int]:
    """Those of ``seeds`` that a block is run with."""
    return [seed for seed in seeds if block.seeds is None or seed in block.seeds]
