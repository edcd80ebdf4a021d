"""What the measurement of estimators does: settings, the budget rule, and the jobs that a config asks for.

The question is X6 and ambiguity A3: do rankings of modules by λ_max depend on the kernel's estimator,
normalisation and number of samples?
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple

from mat.errors import InputError
from mat.grid import trained
from mat.registry import build
from mat.spec import Spec

ESTIMATORS = ("full", "trace", "sum_of_logits", "projected", "loss")


class Measurement(NamedTuple):
    """One estimator with its number of directions (0: it takes none) and the sizes n it is affordable at."""

    estimator: str
    directions: int
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Settings:
    """What is measured, at every checkpoint, on every probe set.

    ``shares``: checkpoints, as shares of the run's steps; ``probe_sets``: disjoint draws of max(``sizes``)
    training samples, of which a probe of n takes the first n; ``directions``: ``projected`` is measured once
    with each. The budget, k being the logits of one sample: an estimator of b backward passes (k for ``full`` and
    ``trace``, r for ``projected``, else 1) at sizes n with n·b ≤ ``sample_passes``; ``full`` besides only with
    n·k ≤ ``full_rows`` (its matrix is nk × nk); ``projected`` only with r < k (with more, ``trace`` is exact and no
    dearer).
    """

    shares: tuple[float, ...] = (0, 0.1, 0.3, 1)
    probe_sets: int = 3
    sizes: tuple[int, ...] = (4, 8, 16, 32, 64, 128)
    estimators: tuple[str, ...] = ESTIMATORS
    directions: tuple[int, ...] = (8, 64)
    full_rows: int = 640
    sample_passes: int = 4096

    def __post_init__(self) -> None:
        for name in ("shares", "sizes", "estimators", "directions"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        _increasing("shares", self.shares, lambda v: _is(v, int, float) and 0 <= v <= 1, "shares in [0, 1]")
        _increasing("sizes", self.sizes, lambda v: _is(v, int) and v >= 2, "whole numbers ≥ 2")
        _increasing("directions", self.directions, lambda v: _is(v, int) and v >= 1, "whole numbers ≥ 1")
        unknown = [name for name in self.estimators if name not in ESTIMATORS]
        if unknown or not self.estimators or len(set(self.estimators)) < len(self.estimators):
            raise InputError(
                f"estimators must be different ones of {', '.join(ESTIMATORS)}, got {list(self.estimators)}"
            )
        for name, least in (("probe_sets", 1), ("full_rows", 0), ("sample_passes", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be ≥ {least}, got {getattr(self, name)}")

    def measurements(self, logits: int) -> list[Measurement]:
        """What the budget allows for a model of ``logits`` outputs per sample."""
        found = []
        for name in self.estimators:
            most = self.sample_passes if name != "full" else min(self.sample_passes, self.full_rows)
            rounds = [r for r in self.directions if r < logits] if name == "projected" else [0]
            for r in rounds:
                passes = logits if name in ("full", "trace") else max(r, 1)
                sizes = tuple(n for n in self.sizes if n * passes <= most)
                found += [Measurement(name, r, sizes)] if sizes else []
        return found


def _is(value: Any, *kinds: type) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


def _increasing(name: str, values: tuple[Any, ...], fits: Any, wanted: str) -> None:
    if not values or not all(map(fits, values)) or list(values) != sorted(set(values)):
        raise InputError(f"{name} must be {wanted}, increasing and at least one, got {list(values)}")


@dataclass(frozen=True)
class Job:
    """One family and seed: the run that is trained, and what is measured on it."""

    scale: str
    family: str
    task: str  # the label of the task block whose data it reads
    spec: Spec
    settings: Settings

    @cached_property
    def name(self) -> str:
        """Family, seed and the hash of specification and settings."""
        return f"{self.family}-s{self.spec.seed}-{self._digest(json.loads(self.spec.json))}"

    @property
    def setup(self) -> str:
        """The hash of specification and settings without the seed: jobs that share it may be pooled."""
        return self._digest({k: v for k, v in json.loads(self.spec.json).items() if k != "seed"})

    def _digest(self, spec: dict[str, Any]) -> str:
        text = json.dumps([spec, asdict(self.settings)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def labels(self) -> dict[str, str]:
        return {"scale": self.scale, "family": self.family, "task": self.task}

    @property
    def json(self) -> str:
        """The job as the command line takes it."""
        return json.dumps(
            {"labels": self.labels, "spec": json.loads(self.spec.json), "settings": asdict(self.settings)}
        )


def job_of(given: Mapping[str, Any]) -> Job:
    """A job from its JSON content. Raises InputError."""
    if not isinstance(given, Mapping) or set(given) != {"labels", "spec", "settings"}:
        raise InputError(f"a job is a mapping with labels, spec and settings, got {str(given)[:80]}")
    labels = given["labels"]
    if not isinstance(labels, Mapping) or set(labels) != {"scale", "family", "task"}:
        raise InputError(f"a job's labels are scale, family and task, got {labels!r}")
    settings = build("agreement", Settings, given["settings"])
    return Job(**labels, spec=Spec.of(given["spec"]), settings=settings)


def jobs(config: Mapping[str, Any]) -> list[Job]:
    """Every family × seed of the config's ``agreement`` block; none without one. Raises InputError.

    A family is ``{of: TASK LABEL}``: that block's task, model, recipe and probe, trained by ``vanilla``; model and
    recipe may be given instead. The probe is the default that the estimators are judged beside.
    """
    block = config.get("agreement")
    if block is None:
        return []
    if not isinstance(block, Mapping):
        raise InputError(f"agreement must be a mapping with families and settings, got {block!r}")
    families = block.get("families")
    if not isinstance(families, Mapping) or not families:
        raise InputError(f"agreement needs a non-empty mapping of families, got {families!r}")
    settings = build("agreement", Settings, {key: v for key, v in block.items() if key != "families"})
    found = []
    for family, entry in families.items():
        where = f"agreement.families.{family}"
        known = ("of", "model", "recipe")
        if not re.fullmatch(r"[\w-]+", str(family)):
            raise InputError(f"{where}: a family's name is made of letters, digits, _ and -; choose another")
        if not isinstance(entry, Mapping) or "of" not in entry or set(entry) - set(known):
            raise InputError(
                f"{where} must be a mapping with 'of' and only {', '.join(known)}, got {entry!r}"
            )
        if entry["of"] not in config["tasks"]:
            raise InputError(
                f"{where}: 'of' must name one of the tasks {', '.join(config['tasks'])}, got {entry['of']!r}"
            )
        if config["tasks"][entry["of"]].get("start") is not None:
            raise InputError(f"{where}: {entry['of']} starts from another run; choose a task that does not")
        own = {key: value for key, value in entry.items() if key != "of"}
        base = {**trained(entry["of"], config["tasks"]), **own}
        if isinstance(base.get("recipe", {}), Mapping):  # no curve is kept: only the two ends are evaluated
            base["recipe"] = {**base.get("recipe", {}), "evaluate_every": 10**9}
        for seed in config["seeds"]:
            given = {**base, "method": {"name": "vanilla"}, "seed": seed, "threads": config.get("threads", 1)}
            try:
                spec = Spec.of(given)
            except InputError as error:
                raise InputError(f"{where}: {error}") from None
            if spec.probe["n"] not in settings.sizes:
                raise InputError(
                    f"{where}: sizes must hold the default n = {spec.probe['n']}, got {list(settings.sizes)}"
                )
            found.append(Job(str(config["scale"]), str(family), entry["of"], spec, settings))
    return found
