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

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from mat.errors import InputError
from mat.experiments.config.plugins import Plugin
from mat.experiments.config.scale import known_keys, trained
from mat.records.strict import read
from mat.experiments.config.spec import Spec
from mat.experiments.task_signature import OBJECTIVES, Signature


@dataclass(frozen=True)
class Reported:
    """What the paper reports over all settings: ``active_share`` of modules and epochs; the lowest and highest of the
    ``savings``, in percent of a run's compute."""

    active_share: float
    savings: tuple[float, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "savings", tuple(self.savings))
        if not 0 <= self.active_share <= 1:
            raise InputError(f"active_share must be a share in [0, 1], got {self.active_share}")
        ok = len(self.savings) == 2 and all(_is_number(v) for v in self.savings)
        if not ok or not 0 <= self.savings[0] <= self.savings[1] <= 100:
            raise InputError(
                f"savings must be the lowest and the highest percentage, got {list(self.savings)}"
            )


@dataclass(frozen=True)
class Compute:
    """What the paper reports for one model: PFLOP (in its own unit) of a run by ``vanilla`` and by ``mat``."""

    vanilla: float
    mat: float

    def __post_init__(self) -> None:
        if not 0 < self.mat <= self.vanilla:
            raise InputError(f"0 < mat ≤ vanilla is expected, got {self.mat} and {self.vanilla}")


@dataclass(frozen=True)
class Settings:
    """``draws``: random active sets per share; ``seed``: what they are drawn by."""

    draws: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("draws", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be ≥ {least}, got {getattr(self, name)}")


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

    @property
    def family(self):
        """The module of the model's family in ``mat.experiments.models``."""
        return self.model.module

    def work(self):
        """The step's work by module and for the remainder, in MACs. Raises InputError for shapes that do not fit."""
        return self.family.work(self.model.settings, self._signature(), self.batch)

    def _signature(self) -> Signature:
        example = {name: torch.empty(shape, device="meta") for name, shape in self.shapes.items()}
        return Signature(self.objective, example, self.outputs)


@dataclass(frozen=True)
class Plan:
    """A scale's ceiling. ``tasks``: model and batch of each task label, whose shapes come with its data."""

    scale: str
    settings: Settings
    reported: Reported
    tasks: Mapping[str, Mapping[str, Any]]
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
            found.append(Subject(label, "task", task["model"], *signature, task["batch"]))
        return found + list(self.models)


def plan(config: Mapping[str, Any]) -> Plan | None:
    """What a scale's config asks for; None without a block ``ceiling``. Raises InputError naming the place."""
    block = config.get("ceiling")
    if block is None:
        return None
    _check_keys("ceiling", block, ("draws", "seed", "reported", "models"), ("reported",))
    settings = read(Settings, {k: v for k, v in block.items() if k in ("draws", "seed")}, "ceiling")
    _check_keys(
        "ceiling.reported", block["reported"], ("active_share", "savings"), ("active_share", "savings")
    )
    reported = read(Reported, block["reported"], "ceiling.reported")
    tasks = {}
    for label in config["tasks"]:
        spec = Spec.of({**trained(label, config["tasks"]), "method": {"name": "vanilla"}})
        tasks[label] = {"model": spec.model, "batch": spec.recipe.batch}
    models = block.get("models") or {}
    if not isinstance(models, Mapping):
        raise InputError(f"ceiling.models must be a mapping from labels to models, got {models!r}")
    return Plan(
        str(config["scale"]),
        settings,
        reported,
        tasks,
        tuple(_model(label, entry, tasks) for label, entry in models.items()),
    )


def _model(label: str, entry: Any, tasks: Mapping[str, Any]) -> Subject:
    where = f"ceiling.models.{label}"
    if label in tasks:
        raise InputError(f"{where}: {label} is the label of a task; choose another")
    needed = ("model", "objective", "shapes", "outputs", "batch")
    _check_keys(where, entry, (*needed, "reported", "note"), needed)
    for name in ("outputs", "batch"):
        if not _is_count(entry[name]):
            raise InputError(f"{where}: {name} must be a whole number ≥ 1, got {entry[name]!r}")
    if entry["objective"] not in OBJECTIVES:
        raise InputError(
            f"{where}: objective must be one of {', '.join(OBJECTIVES)}, got {entry['objective']!r}"
        )
    shapes = entry["shapes"]
    if not isinstance(shapes, Mapping) or not all(
        isinstance(shape, list) and shape and shape[0] == 1 and all(map(_is_count, shape))
        for shape in shapes.values()
    ):
        raise InputError(
            f"{where}: shapes must map every input to the shape of one sample, such as "
            f"{{input_ids: [1, 128]}}, got {shapes!r}"
        )
    reported = entry.get("reported")
    if reported is not None:
        _check_keys(f"{where}.reported", reported, ("vanilla", "mat"), ("vanilla", "mat"))
        reported = read(Compute, reported, f"{where}.reported")
    if not isinstance(entry["model"], Mapping) or "name" not in entry["model"]:
        raise InputError(f"{where}: model must be a mapping with a name, got {entry['model']!r}")
    found = Subject(
        str(label), "paper", Plugin.of("model", entry["model"], f"{where}.model"), entry["objective"],
        {name: tuple(shape) for name, shape in shapes.items()}, entry["outputs"],
         entry["batch"], reported, str(entry.get("note", "")),
    )  # fmt: skip
    try:
        found.work()
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return found


def _check_keys(where: str, given: Any, known: tuple[str, ...], needed: tuple[str, ...]) -> None:
    known_keys(where, given, known)
    missing = [key for key in needed if key not in given]
    if missing:
        raise InputError(f"{where} needs {missing[0]!r}; needed are {', '.join(needed)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
