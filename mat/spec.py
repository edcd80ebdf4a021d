"""Run specifications: a small frozen record of everything that determines a run, and configs that expand to them.

A specification's hash is its run's name. Unknown keys, unknown names and impossible values are refused here,
before any compute is spent.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

from mat.errors import InputError
from mat.kernel import ESTIMATORS, NORMALISATIONS
from mat.methods import METHODS
from mat.methods.base import Method
from mat.models import MODELS
from mat.registry import build, find
from mat.tasks import TASKS


@dataclass(frozen=True)
class Recipe:
    """How a model is trained. ``warmup``: share of all steps; ``schedule``: after it, to zero at the end;
    ``decay``: weight decay of 'matrices' only or of 'all' parameters; ``clip``: gradient norm, 0 for none;
    ``evaluate_every`` in steps."""

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

    def __post_init__(self) -> None:
        _choice("optimizer", self.optimizer, ("adamw", "sgd"))
        _choice("schedule", self.schedule, ("constant", "cosine", "linear"))
        _choice("decay", self.decay, ("all", "matrices"))
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
        """The settings record of ``task``, ``model``, ``recipe`` or ``probe``."""
        given = {key: value for key, value in getattr(self, what).items() if key != "name"}
        if what in ("recipe", "probe"):
            return build(what, {"recipe": Recipe, "probe": Probe}[what], given)
        return build(what, self.plugin(what).Settings, given)

    def plugin(self, what: str):
        """The module of the ``task`` or ``model`` plug-in."""
        return find(what, {"task": TASKS, "model": MODELS}[what], getattr(self, what)["name"])

    def method_record(self) -> Method:
        """The method with its settings."""
        given = {key: value for key, value in self.method.items() if key != "name"}
        return build("method", find("method", METHODS, self.method["name"]).METHOD, given)


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


@dataclass(frozen=True)
class Run:
    """A specification with the labels that its config gives it."""

    scale: str
    task: str
    method: str
    spec: Spec
    needs: str | None

    @property
    def labels(self) -> dict[str, str]:
        return {"scale": self.scale, "task": self.task, "method": self.method}


# the blocks ``agreement`` and ``ceiling`` are read by mat.agreement_plan and mat.ceiling_plan
CONFIG_KEYS = ["scale", "seeds", "threads", "tasks", "methods", "agreement", "ceiling"]


def expand(config: Mapping[str, Any]) -> list[Run]:
    """Every task × method × seed of a scale's config, validated. Raises InputError naming the place.

    A method with ``match: LABEL`` follows the run of that label with the same task and seed; ``Run.needs``
    is that run's name.
    """
    known_keys("the config", config, CONFIG_KEYS)
    for key in ("scale", "seeds", "tasks", "methods"):
        if not config.get(key):
            raise InputError(f"the config needs a non-empty {key!r}, got {config.get(key)!r}")
    for key in ("tasks", "methods"):
        if not isinstance(config[key], Mapping):
            raise InputError(f"{key} must be a mapping from labels to their settings, got {config[key]!r}")
    seeds = config["seeds"]
    if not isinstance(seeds, list) or len(set(map(str, seeds))) < len(seeds):
        raise InputError(f"seeds must be a list of different whole numbers, got {seeds!r}")
    runs: list[Run] = []
    for task, block in config["tasks"].items():
        known_keys(f"tasks.{task}", block, ["task", "model", "recipe", "probe"])
        for seed in seeds:
            made: dict[str, Run] = {}
            for label in _ordered(config["methods"]):
                entry = dict(config["methods"][label])
                needs = None
                if entry.get("match") is not None:
                    needs = made[entry["match"]].spec.name
                    entry["match"] = needs
                try:
                    spec = Spec.of(
                        {**block, "method": entry, "seed": seed, "threads": config.get("threads", 1)}
                    )
                except InputError as error:
                    raise InputError(f"tasks.{task} with methods.{label}: {error}") from None
                made[label] = Run(str(config["scale"]), task, label, spec, needs)
            runs += made.values()
    names = [run.spec.name for run in runs]
    for run in runs:
        if names.count(run.spec.name) > 1:
            raise InputError(
                f"tasks.{run.task} with methods.{run.method} repeats another entry of the config"
            )
    return runs


def _ordered(methods: Mapping[str, Any]) -> list[str]:
    """Labels with every matched method before the ones that match it."""
    for label, entry in methods.items():
        if not isinstance(entry, Mapping):
            raise InputError(f"methods.{label} must be a mapping with a name, got {entry!r}")
    free = [label for label, entry in methods.items() if entry.get("match") is None]
    for label, entry in methods.items():
        if label not in free and entry["match"] not in free:
            raise InputError(
                f"methods.{label}: match must name one of {', '.join(free)}, got {entry['match']!r}"
            )
    return free + [label for label in methods if label not in free]
