"""Whether a file is a task, a model or a method that runs can use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from mat.errors import InputError
from mat.experiments.config.plugins import load_file
from mat.experiments.contract.method import check_method
from mat.experiments.contract.model import check_model
from mat.experiments.contract.task import check_task

# what a file of a kind has, and no other has
CHECKS: dict[str, Callable[[ModuleType], list[str]]] = {
    "METHOD": check_method,
    "build": check_model,
    "load": check_task,
}


def check_file(path: Path) -> list[str]:
    """What is missing or wrong in a plug-in's file, in plain sentences; [] when it passes.

    Raises InputError for a file that cannot be imported.
    """
    module = load_file(path, "plug-in")
    kinds = [check for mark, check in CHECKS.items() if mark in vars(module)]
    if len(kinds) != 1:
        return ["it is no plug-in: a method has METHOD, a model Settings and build, a task Settings and load"]
    try:
        return kinds[0](module)
    except InputError as error:
        return [str(error)]
