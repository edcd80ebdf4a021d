"""Run specifications: a small frozen record of everything that determines a run.

A specification's hash is its run's name. Unknown keys, unknown names and impossible values are refused here,
before any compute is spent.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from mat.errors import InputError
from mat.experiments.config.plugins import Plugin
from mat.kernels.estimators import ESTIMATORS, STEP, check_positions
from mat.kernels.ntk import NORMALISATIONS
from mat.kernels.probes.growth import Growth
from mat.limits import Range, check_limits
from mat.methods.base import Method
from mat.settings.strict import Strict, read, validate

THREADS = PROCESSES = 1024  # of one run, at most
COARSE = 2**-7  # from one number of bfloat16 to the next, as a share of it, at most
Count = Annotated[int, Range(ge=1)]


@dataclass(frozen=True)
class Recipe:
    """How a model is trained."""

    optimizer: Literal["adamw", "sgd"] = "adamw"
    """adamw or sgd."""
    lr: Annotated[float, Range(gt=0)] = 1e-3
    """The learning rate at its height."""
    momentum: Annotated[float, Range(ge=0, lt=1)] = 0.9
    """Of sgd, in [0, 1)."""
    weight_decay: Annotated[float, Range(ge=0, le=10)] = 0.01
    """As the optimizer takes it."""
    decay: Literal["all", "matrices"] = "matrices"
    """What weight decay is for: matrices (parameters of two dimensions or more) or all parameters."""
    schedule: Literal["constant", "cosine", "linear"] = "linear"
    """What the learning rate does after its warm-up, to zero at the end: constant (no decay), cosine or linear."""
    warmup: Annotated[float, Range(ge=0, lt=1)] = 0.05
    """Share of all steps, in [0, 1), in which the learning rate rises."""
    clip: Annotated[float, Range(ge=0)] = 0.0
    """Largest norm of a step's gradient; 0 for none."""
    batch: Count = 32
    """Samples per step."""
    epochs: Annotated[int, Range(ge=1, le=100_000)] = 1
    """Passes over the training split."""
    budget: Annotated[float, Range(gt=0, le=1)] | None = None
    """Share of the epochs' steps that is trained, in (0, 1]; warm-up and schedule go over these. None: all are."""
    match_compute: str | None = None
    """Label of the method whose run's whole compute (executed, charged probes included) is spent instead, in as many
    steps as it pays for; warm-up and schedule go by the share of it that is spent. None: by steps."""
    evaluate_every: Count = 50
    """Steps from one evaluation on the validation split to the next."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of a training step's products, by automatic mixed precision: float32 or bfloat16; the rest stays in float32."""
    nudge: Annotated[float, Range(ge=1e-7, le=1)] | None = None
    """What one initial weight is moved by, as a share of itself: for twins of runs. None: nothing is moved."""

    def __post_init__(self) -> None:
        check_limits(self)
        if self.budget is not None and self.match_compute is not None:
            raise InputError(
                "a run has budget, a share of its steps, or match_compute, another run's; give one of them"
            )
        if self.nudge is not None and self.precision == "bfloat16" and self.nudge < COARSE:
            raise InputError(f"nudge: bfloat16 rounds it away, at least {COARSE:g} is expected, got {self.nudge:g}")

    def steps(self, per_epoch: int) -> int:
        """Steps that are trained where an epoch has ``per_epoch``, at least one; beside ``match_compute`` those of the
        epochs."""
        whole = self.epochs * per_epoch
        return whole if self.budget is None else max(round(self.budget * whole), 1)

    def warm(self, steps: int) -> int:
        """Of so many steps those in which the learning rate rises."""
        return round(self.warmup * steps)


@dataclass(frozen=True)
class Probe:
    """What the kernel probe measures."""

    n: Annotated[int, Range(ge=2)] = 128
    """Training samples that the kernel is measured on; with the estimator step, the first of a training batch."""
    estimator: Literal[tuple(ESTIMATORS)] = "projected"
    """Of the modular kernels: sum_of_logits, projected, trace, full, loss or step."""
    normalisation: Literal[NORMALISATIONS] = "raw"
    """Of the modules' eigenvalues: raw, cosine or per_parameter."""
    directions: Annotated[int, Range(ge=1, le=4096)] = 4
    """Of the estimator projected: random directions of the logits."""
    positions: Annotated[int, Range(ge=0)] = 0
    """Of the estimators sum_of_logits, projected and loss: how many of a text's positions, drawn once by the seed; all
    where the model has no more. 0: all."""
    every: Count | None = None
    """Steps from one probe to the next; none: an epoch's."""
    first: Count | Literal["warmup"] | None = None
    """Step of the first probe, before which everything trains: a number, or warmup, the learning rate's; none: 0."""
    budget: Annotated[float, Range(gt=0, lt=1)] | None = None
    """Share of the training's compute that probes may take; n, directions and every are then the most that is measured
    (mat/kernels/probes/budget.py). None: exactly these are."""
    grow_above: Annotated[float, Range(ge=-1, lt=1)] | None = None
    """Kendall's τ_b with the probe before above which the ranking stands still and the next interval grows. None: all
    intervals are equal."""
    grow_by: Annotated[int, Range(ge=2, le=1024)] = 2
    """What the interval is multiplied by when it grows, a whole number from 2 on."""
    grow_to: Annotated[int, Range(ge=2)] = 8
    """The longest interval, as a multiple of every, at least grow_by."""

    def __post_init__(self) -> None:
        check_limits(self)
        check_positions(self.estimator, self.positions)
        Growth(self.grow_above or 0, self.grow_by, self.grow_to)  # which are refused where nothing grows, too

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
    processes: int | None = None
    """That share each batch; None: one, which names no run."""

    def __post_init__(self) -> None:
        number = self.processes or 1
        if self.recipe.batch % number:
            raise InputError(
                f"recipe: batch is shared by {number} processes, so it must be a multiple of that, got "
                f"{self.recipe.batch}"
            )
        share = self.recipe.batch // number
        if self.probe.estimator == STEP and self.probe.n > share:
            raise InputError(
                f"probe: the estimator {STEP} measures samples of one training batch, n of at most {share} "
                f"(recipe: batch{', over the processes' if number > 1 else ''}), got {self.probe.n}"
            )
        if self.probe.estimator == STEP and number > 1 and self.method.settings.dense and self.method.settings.observe:
            raise InputError(
                f"probe: in several processes the estimator {STEP} cannot read what {self.method.name} trains, all "
                "modules; choose another estimator"
            )
        if self.recipe.match_compute is not None:
            self._check_matched(number)

    def _check_matched(self, processes: int) -> None:
        """Refuse where the number of steps must be known before them, or another run is followed, too."""
        method, refused = self.method.settings, ""
        if type(method).length is not Method.length:
            refused = f"{self.method.name} matches the compute of a run by itself"
        elif method.needs_length:
            refused = f"{self.method.name} must know the number of its steps"
        elif getattr(method, "match", None) not in (None, self.recipe.match_compute):
            refused = f"{self.method.name} matches another run; both must be one"
        elif processes > 1:
            refused = "several processes do not all know what is spent"
        if refused:
            raise InputError(f"recipe: match_compute {self.recipe.match_compute!r} cannot be: {refused}; leave it out")

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
            processes=None if block.processes == 1 else block.processes,
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

    @property
    def follows(self) -> str | None:
        """The run that its method is matched to, or its compute, if it is to one: in a config its label."""
        return getattr(self.method.settings, "match", None) or self.recipe.match_compute

    def following(self, run: str) -> Spec:
        """The same, matched to this run."""
        method, recipe = self.method, self.recipe
        if getattr(method.settings, "match", None) is not None:
            method = replace(method, settings=replace(method.settings, match=run))
        if recipe.match_compute is not None:
            recipe = replace(recipe, match_compute=run)
        return replace(self, method=method, recipe=recipe)

    def first_probe(self, steps: int) -> int:
        """The step of the first probe, where the learning rate's schedule goes over so many steps."""
        first = self.probe.first
        return self.recipe.warm(steps) if first == "warmup" else first or 0

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
    processes: int | None = Field(None, ge=1, le=PROCESSES)
