"""Tasks: data, loss and metric, one file per task family; a new task is one file and one line here."""

from __future__ import annotations

import importlib
from types import ModuleType

from mat.errors import InputError

TASKS = {
    "digits": "mat.experiments.tasks.digits",
    "hmm": "mat.experiments.tasks.hmm",
    "acceptability": "mat.experiments.tasks.acceptability",
    "cifar10": "mat.experiments.tasks.cifar10",
    "cifar100": "mat.experiments.tasks.cifar100",
    "tiny_imagenet": "mat.experiments.tasks.tiny_imagenet",
    "imagenet": "mat.experiments.tasks.imagenet",
    "wikitext": "mat.experiments.tasks.wikitext",
    "glue": "mat.experiments.tasks.glue",
}


def task_module(name: str) -> ModuleType:
    """The module of task ``name``: it has ``Settings``, ``load(settings, data, cache) -> Task``, ``outline(settings)``,
    and ``sources(settings)``: what has to be fetched.

    Raises:
        InputError: no task has that name.
    """
    if name not in TASKS:
        raise InputError(f"Unknown task {name!r}: expected one of {', '.join(sorted(TASKS))}.")
    return importlib.import_module(TASKS[name])
