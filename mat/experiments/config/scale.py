"""From a scale's config to its runs: every task × method × seed, and which run needs which."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mat.errors import InputError
from mat.experiments.config.spec import Recipe, Spec

# the blocks ``agreement``, ``branches`` and ``ceiling`` are read by mat.experiments.studies.agreement.config, branches_plan and ceiling_plan
CONFIG_KEYS = ["scale", "seeds", "threads", "tasks", "methods", "agreement", "branches", "ceiling"]
TASK_KEYS = ["task", "model", "recipe", "probe", "start", "methods", "seeds", "tags"]
# what an entry of ``methods`` may change of the task it is run on
CHANGES = ("model", "recipe", "probe")


@dataclass(frozen=True)
class Run:
    """A specification with the labels that its config gives it; ``follows``: the run whose numbers of active modules
    its method repeats, ``starts_from``: the run whose weights it starts from; ``tags`` of its task."""

    scale: str
    task: str
    method: str
    spec: Spec
    follows: str | None = None
    tags: tuple[str, ...] = ()

    @property
    def starts_from(self) -> str | None:
        return None if self.spec.start is None else self.spec.start.run

    @property
    def labels(self) -> dict[str, str]:
        return {"scale": self.scale, "task": self.task, "method": self.method}


def expand(config: Mapping[str, Any]) -> list[Run]:
    """Every task × method × seed of a scale's config, validated. Raises InputError naming the place.

    A method with ``match: LABEL`` follows the run of that label with the same task and seed. Its ``model``, ``recipe``
    and ``probe`` replace those settings of the task's, ``lr_factor`` multiplies its learning rate. A task with
    ``start: {task: LABEL, method: LABEL}`` begins with the weights at the end of that run of the same seed, and has
    its model unless it names one; ``start: {hub: ID, revision: COMMIT}`` with a published checkpoint. ``methods`` of a
    task: those of the config it is trained by (default: all); ``tags``: names it can be selected by. ``seeds`` of a
    task or a method: of the config's seeds those that it is run with (default: all).
    """
    _check(config)
    runs: list[Run] = []
    for task in _in_order(config["tasks"]):
        block = config["tasks"][task]
        chosen = _methods(task, block, config["methods"])
        for seed in own_seeds(block, config["seeds"]):
            made: dict[str, Run] = {}
            given = {**trained(task, config["tasks"]), "seed": seed, "threads": config.get("threads", 1)}
            given["start"] = _start(task, block, seed, runs)
            seeded = {label: entry for label, entry in chosen.items() if seed in own_seeds(entry, [seed])}
            for label in _ordered(seeded):
                place = f"tasks.{task} with methods.{label}"
                entry, changed = _changed(place, chosen[label], given)
                follows = None
                if entry.get("match") is not None:
                    follows = entry["match"] = made[entry["match"]].spec.name
                try:
                    spec = Spec.of({**changed, "method": entry})
                except InputError as error:
                    raise InputError(f"{place}: {error}") from None
                tags = tuple(block.get("tags", ()))
                made[label] = Run(str(config["scale"]), str(task), str(label), spec, follows, tags)
            runs += made.values()
    names = [run.spec.name for run in runs]
    for run in runs:
        if names.count(run.spec.name) > 1:
            raise InputError(
                f"tasks.{run.task} with methods.{run.method} repeats another entry of the config"
            )
    return runs


def _check(config: Mapping[str, Any]) -> None:
    known_keys("the config", config, CONFIG_KEYS)
    for key in ("scale", "seeds", "tasks", "methods"):
        if not config.get(key):
            raise InputError(f"the config needs a non-empty {key!r}, got {config.get(key)!r}")
    for key in ("tasks", "methods"):
        if not isinstance(config[key], Mapping):
            raise InputError(f"{key} must be a mapping from labels to their settings, got {config[key]!r}")
    check_seeds("seeds", config["seeds"])
    for task, block in config["tasks"].items():
        if not re.fullmatch(r"[\w.-]+", str(task)):
            raise InputError(f"tasks: a label is made of letters, digits and ._-, got {task!r}")
        known_keys(f"tasks.{task}", block, TASK_KEYS)
        if block.get("methods") == []:
            raise InputError(f"tasks.{task}: methods must name one at least, or be left out for all")
        both = sorted(set(block.get("tags") or ()) & set(map(str, config["methods"])))
        if both:
            raise InputError(f"tasks.{task}: the tag {both[0]} is the label of a method; choose another")
        for key in ("methods", "tags"):
            value = block.get(key, [])
            if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
                raise InputError(f"tasks.{task}: {key} must be a list of names, got {value!r}")
        check_seeds(f"tasks.{task}: seeds", block.get("seeds", []))
    for label, entry in config["methods"].items():
        if not isinstance(entry, Mapping):
            raise InputError(f"methods.{label} must be a mapping with a name, got {entry!r}")
        check_seeds(f"methods.{label}: seeds", entry.get("seeds", []))


def known_keys(what: str, given: Any, known: Sequence[str]) -> None:
    """Raise InputError, naming the place ``what``, unless ``given`` is a mapping with keys from ``known`` only."""
    if not isinstance(given, Mapping):
        raise InputError(f"{what} must be a mapping with the keys {', '.join(known)}, got {given!r}")
    unknown = sorted(str(key) for key in set(given) - set(known))
    if unknown:
        raise InputError(f"unknown key {unknown[0]!r} in {what}; known: {', '.join(known)}")


def check_seeds(place: str, seeds: Any) -> None:
    if not isinstance(seeds, list) or len(set(map(str, seeds))) < len(seeds):
        raise InputError(f"{place} must be a list of different whole numbers, got {seeds!r}")


def own_seeds(entry: Mapping[str, Any], seeds: list[Any]) -> list[Any]:
    """Those of ``seeds`` that a task or method is run with."""
    return [seed for seed in seeds if seed in entry.get("seeds", seeds)]


def _in_order(tasks: Mapping[str, Any]) -> list[str]:
    """Task labels, each after the one it starts from. Raises InputError for an unknown one or a circle."""
    done: list[str] = []

    def visit(task: str, path: tuple[str, ...]) -> None:
        if task in done:
            return
        if task in path:
            raise InputError(f"tasks.{task}: start leads back to itself over {', '.join(path)}")
        start = tasks[task].get("start")
        if isinstance(start, Mapping) and "task" in start:
            if not isinstance(start["task"], str) or start["task"] not in tasks:
                raise InputError(
                    f"tasks.{task}: start must name one of the tasks {', '.join(tasks)}, got {start['task']!r}"
                )
            visit(start["task"], (*path, task))
        done.append(task)

    for task in tasks:
        visit(task, ())
    return done


def trained(label: str, tasks: Mapping[str, Any]) -> dict[str, Any]:
    """Task, model, recipe and probe of a task label; the model of what it starts from unless it names one."""
    block = tasks[label]
    given = {key: value for key, value in block.items() if key in ("task", "model", "recipe", "probe")}
    start = block.get("start")
    if "model" not in given and isinstance(start, Mapping) and "task" in start:
        earlier = trained(start["task"], tasks)
        given |= {"model": earlier["model"]} if "model" in earlier else {}
    return given


def _start(task: str, block: Mapping[str, Any], seed: Any, runs: Iterable[Run]) -> Mapping[str, Any] | None:
    """The ``start`` of a specification: the name of the run, or the hub's checkpoint as it is given."""
    start = block.get("start")
    if start is None or (isinstance(start, Mapping) and "task" not in start and "run" not in start):
        return start
    known_keys(f"tasks.{task}: start", start, ["task", "method"])
    found = {run.method: run for run in runs if run.task == start["task"] and run.spec.seed == seed}
    if not isinstance(start.get("method"), str) or start["method"] not in found:
        raise InputError(
            f"tasks.{task}: start needs a method of the task {start['task']}, one of {', '.join(found)}, got "
            f"{start.get('method')!r}"
        )
    earlier = found[start["method"]].spec
    if earlier.model.name != "bert":
        raise InputError(
            f"tasks.{task}: only runs of the model bert can be started from, {start['task']} trains "
            f"{earlier.model.name}"
        )
    return {"run": earlier.name}


def _methods(task: str, block: Mapping[str, Any], methods: Mapping[str, Any]) -> Mapping[str, Any]:
    """The methods that a task is trained by."""
    labels = block.get("methods") or list(methods)
    unknown = [label for label in labels if label not in methods]
    if unknown:
        raise InputError(f"tasks.{task}: methods must be among {', '.join(methods)}, got {unknown[0]!r}")
    return {label: methods[label] for label in methods if label in labels}


def _changed(
    place: str, entry: Mapping[str, Any], given: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """An entry of ``methods`` without what it changes of the task, and the task's settings ``given`` with it."""
    method, changed = dict(entry), dict(given)
    method.pop("seeds", None)
    for key in CHANGES:
        changes, before = method.pop(key, {}), given.get(key, {})
        if not isinstance(changes, Mapping):
            raise InputError(f"{place}: {key} must be a mapping of the settings to change, got {changes!r}")
        if changes and isinstance(before, Mapping):  # anything else is refused where it is read
            changed[key] = {**before, **changes}
    factor = method.pop("lr_factor", 1)
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < float("inf"):
        raise InputError(f"{place}: lr_factor must be a finite number > 0, got {factor!r}")
    recipe = changed.get("recipe", {})
    if factor != 1 and isinstance(recipe, Mapping):
        changed["recipe"] = {**recipe, "lr": factor * recipe.get("lr", Recipe.lr)}
    return method, changed


def _ordered(methods: Mapping[str, Any]) -> list[str]:
    """Labels with every matched method before the ones that match it."""
    free = [label for label, entry in methods.items() if entry.get("match") is None]
    for label, entry in methods.items():
        if label not in free and entry["match"] not in free:
            raise InputError(
                f"methods.{label}: match must name one of {', '.join(free)}, got {entry['match']!r}"
            )
    return free + [label for label in methods if label not in free]
