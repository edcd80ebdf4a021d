"""The blocks of a scale's YAML: what may stand where. What they say is worked out in ``scale`` and ``families``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from mat.experiments.config.spec import Probe, Recipe
from mat.experiments.task_signature import OBJECTIVES
from mat.settings.label import Label
from mat.settings.strict import Strict, model_of, real


def _different(values: list[Any]) -> list[Any]:
    if len(set(values)) < len(values):
        raise ValueError(f"expected different ones, got {values}; leave repeated ones out")
    return values


def _rising(values: list[float]) -> list[float]:
    if values != sorted(values):
        raise ValueError(f"expected the lowest and then the highest, got {values}")
    return values


def _of_one_sample(shapes: dict[str, list[int]]) -> dict[str, list[int]]:
    if any(shape[0] != 1 for shape in shapes.values()):
        example = "{input_ids: [1, 128]}"
        raise ValueError(f"expected the shape of one sample of every input, such as {example}, got {shapes}")
    return shapes


Seeds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1), AfterValidator(_different)]
Labels = Annotated[list[Label], AfterValidator(_different)]
PluginBlock = dict[str, Any]
Place = Annotated[str, Field(min_length=1)]
Positive = Annotated[int, Field(ge=1)]
Shape = Annotated[list[Annotated[int, Field(ge=1, le=1 << 16)]], Field(min_length=1, max_length=8)]  # of an input
InputName = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*$")]
Repository = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")]


class RunLabels(Strict):
    """What tables call a run by."""

    scale: Label
    """Of its scale."""
    task: Label
    """Of what is trained."""
    method: Label
    """Of what it is trained by."""


class StartBlock(Strict):
    """Where a task's initial weights come from: a run of this config, or a published checkpoint."""

    task: str | None = None
    """Label of the task whose run of the same seed it starts from; that run's model must be bert."""
    method: str | None = None
    """Label of the method of that run."""
    hub: Repository | None = None
    """A model repository of the hub, such as google-bert/bert-base-uncased."""
    revision: str | None = None
    """The repository's commit, 40 hexadecimal digits."""

    @model_validator(mode="after")
    def _one_of_both(self) -> StartBlock:
        if self.model_fields_set not in ({"task", "method"}, {"hub", "revision"}):
            raise ValueError(
                "expected task and method of a run of this config, or hub and revision of a published checkpoint, got "
                f"{', '.join(self.given()) or 'nothing'}"
            )
        return self


class TaskBlock(Strict):
    """A task label: what is trained on which data, and how."""

    task: PluginBlock
    """The task by ``name``, or in a ``file`` of your own, and its settings."""
    model: PluginBlock | None = None
    """The model by ``name``, or in a ``file`` of your own; without it that of the run it starts from."""
    recipe: model_of(Recipe) = Field(default_factory=model_of(Recipe))
    """How it is trained."""
    probe: model_of(Probe) = Field(default_factory=model_of(Probe))
    """What the kernel probe measures."""
    start: StartBlock | None = None
    """Where the initial weights come from; without it they are drawn by the seed."""
    methods: Annotated[Labels, Field(min_length=1)] | None = None
    """Labels of the methods that it is trained by; all of them without it."""
    seeds: Seeds | None = None
    """Of the scale's seeds those that it is run with; all of them without it."""
    tags: Labels = Field([])
    """Names that it can be selected by."""


class MethodBlock(Strict):
    """A method label: the method by ``name``, or in a ``file`` of your own, its settings, and what it changes; or the
    settings that were tuned for a method, with ``tuned``, and what is changed of them."""

    model_config = ConfigDict(extra="allow")

    tuned: Label | None = None
    """Label of the method whose settings `mat tune` chose for each task; a task that it chose none for is not run."""
    model: dict[str, Any] = Field({})
    """Settings that replace those of the task's model."""
    recipe: model_of(Recipe) = Field(default_factory=model_of(Recipe))
    """Settings that replace those of the task's recipe."""
    probe: model_of(Probe) = Field(default_factory=model_of(Probe))
    """Settings that replace those of the task's probe."""
    lr_factor: real(gt=0) = 1
    """Factor on the task's learning rate."""
    seeds: Seeds | None = None
    """Of the scale's seeds those that it is run with; all of them without it."""

    @model_validator(mode="after")
    def _named_once(self) -> MethodBlock:
        named = [name for name in ("name", "file") if name in self.settings]
        if self.tuned is not None and named:
            raise ValueError(f"expected tuned or {named[0]}, got both; the tuned settings name their method")
        return self

    @property
    def settings(self) -> dict[str, Any]:
        """Name or file of the method, and its own settings."""
        return self.model_extra or {}

    @property
    def written(self) -> dict[str, Any]:
        """All of it as it was written."""
        given = {name: one.given() if isinstance(one, Strict) else one for name, one in self.given().items()}
        return {**self.settings, **given}


class FamilyBlock(Strict):
    """What a study measures: a run by vanilla of a task label, with settings of its own."""

    of: Label
    """Label of the task whose data, model, recipe and probe it has."""
    task: dict[str, Any] = Field({})
    """Settings that replace those of the task (in branches)."""
    model: PluginBlock | None = None
    """Another model than the task label's."""
    recipe: model_of(Recipe) | None = None
    """Another recipe than the task label's."""


class StudyBlock(Strict):
    """A study beside the runs: its families, and settings of its own, which the study reads."""

    model_config = ConfigDict(extra="allow")

    families: Annotated[dict[Label, FamilyBlock], Field(min_length=1)]
    """What it is measured on, by a name of its own."""
    seeds: Seeds | None = None
    """Of the scale's seeds those that it is measured with; all of them without it."""


class Reported(Strict):
    """What the paper reports over all its settings."""

    active_share: real(ge=0, le=1)
    """Share of modules and epochs that are active."""
    savings: Annotated[list[real(ge=0, le=100)], Field(min_length=2, max_length=2), AfterValidator(_rising)]
    """The lowest and the highest saving, in percent of a run's compute."""


class Compute(Strict):
    """What the paper reports for one model: compute of a run, PFLOP in its own unit."""

    vanilla: real(gt=0)
    """By vanilla training."""
    mat: real(gt=0)
    """By MAT, at most vanilla's."""

    @model_validator(mode="after")
    def _saves(self) -> Compute:
        if self.mat > self.vanilla:
            raise ValueError(f"0 < mat ≤ vanilla is expected, got {self.given()}")
        return self


class ModelShapes(Strict):
    """A model at the shapes that it trains on; no data is read."""

    model: PluginBlock
    """The model by ``name`` and its settings."""
    objective: Literal[tuple(OBJECTIVES)]
    """What it is trained for."""
    shapes: Annotated[dict[InputName, Shape], AfterValidator(_of_one_sample)]
    """Of every input, for one sample: the first number is 1."""
    outputs: Positive
    """Logits per prediction: classes, or size of the vocabulary."""
    batch: Positive
    """Samples per step."""
    reported: Compute | None = None
    """What the paper reports for it."""
    note: str = ""
    """What the page says of it."""


class CeilingBlock(Strict):
    """What a step can save at most, by the closed forms, for the scale's tasks and for models given by their shapes."""

    draws: Annotated[int, Field(ge=1, le=100_000)] = 200
    """Random active sets per share."""
    seed: Annotated[int, Field(ge=0)] = 0
    """What they are drawn by."""
    reported: Reported
    """What the page compares them with."""
    models: dict[Label, ModelShapes] = Field({})
    """Models by a label of their own, none a task's."""
