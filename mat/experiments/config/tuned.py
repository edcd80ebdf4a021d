"""What `mat tune` chose: by task and method, settings that a scale's labels take with ``tuned: METHOD``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mat.errors import InputError
from mat.settings.label import Label
from mat.settings.strict import Strict, validate
from mat.settings.yaml_file import read_yaml

FOLDER = "tuned"  # beside the scale's file
BLOCKS = ("model", "recipe", "probe")  # of the task, which a method may change


class How(Strict):
    """How a method was tuned: the same for all methods of a task."""

    budget: int
    """Configurations in the first rung."""
    rungs: list[list[int | float]]
    """Configurations of each, and their share of vanilla's compute."""
    seeds: list[int]
    """What each configuration was trained with."""


class Chosen(Strict):
    """What was chosen for one method of a task, and what that took."""

    settings: dict[str, Any]
    """As in a scale's methods."""
    loss: float
    """Mean over the seeds of its lowest validation loss, at full compute."""
    how: How
    """How it was searched."""
    macs: float  # whole numbers of a config are far smaller
    """Executed multiply-adds of all its runs, charged probes included."""
    cpu_seconds: float
    """Of the same."""
    code_hash: str
    """Of what its runs at full compute stand on."""
    command: str
    """What wrote it."""
    versions: dict[str, str]
    """Of what computed it."""


class Tuned(Strict):
    """A scale's tuned settings."""

    tasks: dict[Label, dict[Label, Chosen]]
    """By task label and the method's label."""


def path_of(config: Path, scale: str) -> Path:
    """Where the tuned settings of a scale's config file are."""
    return config.parent / FOLDER / f"{scale}.yaml"


def read_tuned(path: Path, seeds: Sequence[int]) -> dict[str, dict[str, Chosen]]:
    """What was chosen, by task and method; nothing where there is no file.

    Raises InputError where it cannot be read, where methods of a task were tuned in different ways, or on one of the
    scale's ``seeds``.
    """
    if not path.exists():
        return {}
    place = f"{FOLDER}/{path.name}"
    found = validate(Tuned, read_yaml(path), place).tasks
    for task, methods in found.items():
        check_alike({name: one.how for name, one in methods.items()}, f"{place}: {task}")
        for name, one in methods.items():
            check_apart(one.how.seeds, seeds, f"{place}: {task}.{name}")
    return found


def check_alike(methods: Mapping[str, How], place: str) -> None:
    """Raise InputError unless the methods of a task were tuned in one way: else the one that had more has won by it."""
    ways = {name: how.model_dump() for name, how in methods.items()}
    first = next(iter(ways), "")
    for name, way in ways.items():
        for what, value in way.items():
            if value != ways[first][what]:
                raise InputError(
                    f"{place}: {first} was tuned with {what} {ways[first][what]}, {name} with {value}; expected one "
                    "for all methods of a task: tune them again together"
                )


def check_apart(tuning: Sequence[int], seeds: Sequence[int], place: str) -> None:
    """Raise InputError where a seed of the scale was tuned on."""
    both = sorted({*tuning} & {*seeds})
    if both:
        raise InputError(
            f"{place}: seed {both[0]} is one of the scale's seeds {list(seeds)}, whose runs are judged; tune on others"
        )


def merged(block: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A method's block with changes to its settings, and to those of model, recipe and probe in it."""
    inside = {name: {**block.get(name, {}), **changes[name]} for name in BLOCKS if name in changes}
    return {**block, **changes, **inside}
