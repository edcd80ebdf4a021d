"""Run specifications: a small frozen record of everything that determines a run.

A specification's hash is its run's name. Unknown keys, unknown names and impossible values are refused here,
before any compute is spent.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field

from mat.errors import InputError
from mat.experiments.checks import check_choice, check_least
from mat.experiments.config.plugins import Plugin
from mat.kernels.estimators import ESTIMATORS, STEP, check_positions
from mat.kernels.ntk import NORMALISATIONS
from mat.kernels.probes.budget import check_budget
from mat.kernels.probes.growth import Growth
from mat.settings.strict import Strict, read, validate

THREADS = 1024  # of one run, at most


@dataclass(frozen=True)
class Recipe:
    """How a model is trained."""

    optimizer: str = "adamw"
    """adamw or sgd."""
    lr: float = 1e-3
    """The learning rate at its height."""
    momentum: float = 0.9
    """Of sgd."""
    weight_decay: float = 0.01
    """As the optimizer takes it."""
    decay: str = "matrices"
    """What weight decay is for: matrices (parameters of two dimensions or more) or all parameters."""
    schedule: str = "linear"
    """What the learning rate does after its warm-up, to zero at the end: constant (no decay), cosine or linear."""
    warmup: float = 0.05
    """Share of all steps, in [0, 1), in which the learning rate rises."""
    clip: float = 0.0
    """Largest norm of a step's gradient; 0 for none."""
    batch: int = 32
    """Samples per step."""
    epochs: int = 1
    """Passes over the training split."""
    evaluate_every: int = 50
    """Steps from one evaluation on the validation split to the next."""
    precision: str = "float32"
    """Of a training step's products, by automatic mixed precision: float32 or bfloat16; the rest stays in float32."""

    def __post_init__(self) -> None:
        check_choice("optimizer", self.optimizer, ("adamw", "sgd"))
        check_choice("schedule", self.schedule, ("constant", "cosine", "linear"))
        check_choice("decay", self.decay, ("all", "matrices"))
        check_choice("precision", self.precision, ("float32", "bfloat16"))
        for name in ("batch", "epochs", "evaluate_every"):
            check_least(name, getattr(self, name), 1)
        for name in ("lr", "weight_decay", "momentum", "clip"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"{name} must be a finite number ≥ 0, got {getattr(self, name)!r}")
        if not 0 <= self.warmup < 1:
            raise InputError(f"warmup must be a share of the steps in [0, 1), got {self.warmup!r}")


@dataclass(frozen=True)
class Probe:
    """What the kernel probe measures."""

    n: int = 128
    """Training samples that the kernel is measured on; with the estimator step, the first of a training batch."""
    estimator: str = "projected"
    """Of the modular kernels: sum_of_logits, projected, trace, full, loss or step."""
    normalisation: str = "raw"
    """Of the modules' eigenvalues: raw, cosine or per_parameter."""
    directions: int = 4
    """Of the estimator projected: random directions of the logits."""
    positions: int = 0
    """Of the estimators sum_of_logits, projected and loss: how many of a text's positions, drawn once by the seed; all
    where the model has no more. 0: all."""
    every: int | None = None
    """Steps from one probe to the next; none: an epoch's."""
    budget: float | None = None
    """Share of the training's compute that probes may take; n, directions and every are then the most that is measured
    (mat/kernels/probes/budget.py). None: exactly these are."""
    grow_above: float | None = None
    """Kendall's τ_b with the probe before above which the ranking stands still and the next interval grows. None: all
    intervals are equal."""
    grow_by: int = 2
    """What the interval is multiplied by when it grows, a whole number from 2 on."""
    grow_to: int = 8
    """The longest interval, as a multiple of every."""

    def __post_init__(self) -> None:
        check_least("n", self.n, 2)
        check_least("directions", self.directions, 1)
        check_least("positions", self.positions, 0)
        check_choice("estimator", self.estimator, tuple(ESTIMATORS))
        check_positions(self.estimator, self.positions)
        check_choice("normalisation", self.normalisation, NORMALISATIONS)
        if self.every is not None:
            check_least("every", self.every, 1)
        if self.budget is not None:
            check_budget(self.budget)
        if self.grow_above is not None:
            Growth(self.grow_above, self.grow_by, self.grow_to)

    @property
    def growth(self) -> Growth | None:
        """How intervals grow, if they do."""
        return None if self.grow_above is None else Growth(self.grow_above, self.grow_by, self.grow_to)


@dataclass(frozen=True)
class Start:
    """Where the initial weights come from: a run, or a published checkpoint."""

    run: str | None = None
    """Name of an earlier run, whose folder is beside this one's."""
    hub: str | None = None
    """A model repository of the hub (in a mirror: under its id)."""
    revision: str | None = None
    """The repository's commit, 40 hexadecimal digits."""

    def __post_init__(self) -> None:
        if (self.run is None) == (self.hub is None):
            raise InputError("start needs either run or hub")
        if (self.hub is None) != (self.revision is None):
            raise InputError("start: a hub checkpoint needs its revision (a commit), and only it has one")
        if self.revision is not None and not re.fullmatch("[0-9a-f]{40}", self.revision):
            raise InputError(
                f"start: revision must be a commit, 40 hexadecimal digits, because a branch moves; got "
                f"{self.revision!r}"
            )


@dataclass(frozen=True)
class Spec:
    """One run: what is trained by what, how, and how it is probed."""

    task: Plugin
    model: Plugin
    method: Plugin
    recipe: Recipe
    probe: Probe
    start: Start | None
    seed: int
    threads: int

    def __post_init__(self) -> None:
        if self.probe.estimator == STEP and self.probe.n > self.recipe.batch:
            raise InputError(
                f"probe: the estimator {STEP} measures samples of one training batch, n of at most {self.recipe.batch} "
                f"(recipe: batch), got {self.probe.n}"
            )

    @classmethod
    def of(cls, given: Any, place: str = "", folder: Path = Path()) -> Spec:
        """A complete specification from a mapping that may leave defaults out; ``folder``: where files of plug-ins are.

        Raises InputError, naming the ``place`` in it.
        """
        block = validate(_Given, given, place or "specification")
        at = f"{place}." if place else ""
        plugins = {
            kind: Plugin.of(kind, getattr(block, kind), f"{at}{kind}", folder) for kind in ("task", "model", "method")
        }
        return cls(
            **plugins,
            recipe=read(Recipe, block.recipe, f"{at}recipe"),
            probe=read(Probe, block.probe, f"{at}probe"),
            start=None if block.start is None else read(Start, block.start, f"{at}start"),
            seed=block.seed,
            threads=block.threads,
        )

    @property
    def json(self) -> str:
        """All of it as JSON, which ``of`` reads again."""
        return json.dumps(self._all("plain"), sort_keys=True)

    @property
    def identity(self) -> dict[str, Any]:
        """What names a run: all of it without the folders of files and without settings that are None, so that a new
        one, off by default, renames none."""
        return _without_none(self._all("identity"))

    @cached_property
    def name(self) -> str:
        """Of task, model and method, the seed, and a hash of ``identity``."""
        digest = hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:12]
        return f"{self.task.name}-{self.model.name}-{self.method.name}-s{self.seed}-{digest}"

    def modules(self) -> list[str | Path]:
        """What task, model and method are: dotted modules, or files of the user's own."""
        return [self.task.origin, self.model.origin, self.method.origin]

    def _all(self, how: str) -> dict[str, Any]:
        whole = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: getattr(part, how) if isinstance(part, Plugin) else asdict(part) if is_dataclass(part) else part
            for name, part in whole.items()
        }


def _without_none(given: Any) -> Any:
    """Mappings, at every depth, without the keys whose value is None."""
    if isinstance(given, list | tuple):
        return [_without_none(value) for value in given]
    if isinstance(given, dict):
        return {key: _without_none(value) for key, value in given.items() if value is not None}
    return given


class _Given(Strict):
    """A specification as it is written."""

    task: Any
    model: Any
    method: Any
    recipe: Any = Field(default_factory=dict)
    probe: Any = Field(default_factory=dict)
    start: Any = None
    seed: int = Field(0, ge=0)
    threads: int = Field(1, ge=1, le=THREADS)
