"""Run specifications: a small frozen record of everything that determines a run.

A specification's hash is its run's name. Unknown keys, unknown names and impossible values are refused here,
before any compute is spent.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

from mat.errors import InputError
from mat.experiments.config.plugins import build, find
from mat.experiments.models import MODELS
from mat.experiments.tasks import TASKS
from mat.kernels.estimators import ESTIMATORS
from mat.kernels.ntk import NORMALISATIONS
from mat.methods import METHODS
from mat.methods.base import Method


@dataclass(frozen=True)
class Recipe:
    """How a model is trained. ``warmup``: share of all steps; ``schedule``: after it, to zero at the end;
    ``decay``: weight decay of 'matrices' only or of 'all' parameters; ``clip``: gradient norm, 0 for none;
    ``evaluate_every`` in steps; ``precision``: of a training step's products, by automatic mixed precision
    (weights, optimizer, probes and evaluation stay in float32)."""

    optimizer: str = "adamw"
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.01
    decay: str = "matrices"
    schedule: str = "linear"
    warmup: float = 0.05
    clip: float = 0.0
    batch: int = 32
    epochs: int = 1
    evaluate_every: int = 50
    precision: str = "float32"

    def __post_init__(self) -> None:
        _choice("optimizer", self.optimizer, ("adamw", "sgd"))
        _choice("schedule", self.schedule, ("constant", "cosine", "linear"))
        _choice("decay", self.decay, ("all", "matrices"))
        _choice("precision", self.precision, ("float32", "bfloat16"))
        for name in ("batch", "epochs", "evaluate_every"):
            _at_least(name, getattr(self, name), 1)
        for name in ("lr", "weight_decay", "momentum", "clip"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"{name} must be a finite number ≥ 0, got {getattr(self, name)!r}")
        if not 0 <= self.warmup < 1:
            raise InputError(f"warmup must be a share of the steps in [0, 1), got {self.warmup!r}")


@dataclass(frozen=True)
class Probe:
    """What the kernel probe measures: ``n`` samples, every ``every`` steps (None: every epoch);
    ``directions``: of the estimator ``projected``."""

    n: int = 64
    estimator: str = "projected"
    normalisation: str = "raw"
    directions: int = 8
    every: int | None = None

    def __post_init__(self) -> None:
        _at_least("n", self.n, 2)
        _at_least("directions", self.directions, 1)
        _choice("estimator", self.estimator, tuple(ESTIMATORS))
        _choice("normalisation", self.normalisation, NORMALISATIONS)
        if self.every is not None:
            _at_least("every", self.every, 1)


@dataclass(frozen=True)
class Start:
    """Where the initial weights come from: ``run``, the name of an earlier run beside this one, or ``hub``, a model
    repository at its ``revision`` (in a mirror: under its id)."""

    run: str | None = None
    hub: str | None = None
    revision: str | None = None

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


def _choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"{name} must be one of {', '.join(known)}, got {value!r}")


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise InputError(f"{name} must be ≥ {least}, got {value!r}")


@dataclass(frozen=True)
class Spec:
    """One run. ``task``, ``model`` and ``method`` are a name with complete settings; all are plain JSON."""

    task: Mapping[str, Any]
    model: Mapping[str, Any]
    method: Mapping[str, Any]
    recipe: Mapping[str, Any]
    probe: Mapping[str, Any]
    start: Mapping[str, Any] | None
    seed: int
    threads: int

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Spec:
        """A complete specification from a mapping that may leave defaults out. Raises InputError."""
        known = [field.name for field in fields(cls)]
        known_keys("specification", given, known)
        missing = [key for key in ("task", "model", "method") if key not in given]
        if missing:
            raise InputError(f"a specification needs task, model and method; {missing[0]!r} is missing")
        seed, threads = given.get("seed", 0), given.get("threads", 1)
        for name, value, least in (("seed", seed, 0), ("threads", threads, 1)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InputError(f"{name} must be a whole number ≥ {least}, got {value!r}")
        return cls(
            task=_plugin("task", TASKS, given["task"], "Settings"),
            model=_plugin("model", MODELS, given["model"], "Settings"),
            method=_plugin("method", METHODS, given["method"], "METHOD"),
            recipe=_plain(build("recipe", Recipe, given.get("recipe", {}))),
            probe=_plain(build("probe", Probe, given.get("probe", {}))),
            start=None if given.get("start") is None else _plain(build("start", Start, given["start"])),
            seed=seed,
            threads=threads,
        )

    @property
    def json(self) -> str:
        """Canonical JSON: the text that is hashed."""
        return json.dumps({field.name: getattr(self, field.name) for field in fields(self)}, sort_keys=True)

    @cached_property
    def name(self) -> str:
        digest = hashlib.sha256(self.json.encode()).hexdigest()[:12]
        return f"{self.task['name']}-{self.model['name']}-{self.method['name']}-s{self.seed}-{digest}"

    def settings(self, what: str) -> Any:
        """The settings record of ``task``, ``model``, ``recipe``, ``probe`` or ``start`` (None without one)."""
        if getattr(self, what) is None:
            return None
        given = {key: value for key, value in getattr(self, what).items() if key != "name"}
        if what in _RECORDS:
            return build(what, _RECORDS[what], given)
        return build(what, self.plugin(what).Settings, given)

    def plugin(self, what: str):
        """The module of the ``task`` or ``model`` plug-in."""
        return find(what, {"task": TASKS, "model": MODELS}[what], getattr(self, what)["name"])

    def method_record(self) -> Method:
        """The method with its settings."""
        given = {key: value for key, value in self.method.items() if key != "name"}
        return build("method", find("method", METHODS, self.method["name"]).METHOD, given)


_RECORDS = {"recipe": Recipe, "probe": Probe, "start": Start}


def _plain(record: Any) -> dict[str, Any]:
    """A settings record as plain JSON values, so that a specification equals itself after a round trip."""
    return json.loads(json.dumps(asdict(record)))


def _plugin(what: str, known: Mapping[str, str], given: Any, attribute: str) -> dict[str, Any]:
    if not isinstance(given, Mapping) or "name" not in given:
        raise InputError(
            f"{what} must be a mapping with a name, such as {{name: {min(known)}}}, got {given!r}"
        )
    name = given["name"]
    kind = getattr(find(what, known, name), attribute)
    settings = build(f"{what} {name}", kind, {key: value for key, value in given.items() if key != "name"})
    return {"name": name, **_plain(settings)}


def known_keys(what: str, given: Any, known: Sequence[str]) -> None:
    """Raise InputError, naming the place ``what``, unless ``given`` is a mapping with keys from ``known`` only."""
    if not isinstance(given, Mapping):
        raise InputError(f"{what} must be a mapping with the keys {', '.join(known)}, got {given!r}")
    unknown = sorted(str(key) for key in set(given) - set(known))
    if unknown:
        raise InputError(f"unknown key {unknown[0]!r} in {what}; known: {', '.join(known)}")
