"""The power plan: how many seeds each task of a scale needs, for the effects that matter. ``workflows/power.yaml``.

``matters`` is written by hand: by claim, the smallest effects that it must show, and why those. ``scales`` is made from
a pilot's tables by ``mat step power``: per task the seeds that are run, the first of the scale's list, and per claim
what they stand on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from mat.errors import InputError
from mat.settings.label import Label
from mat.settings.strict import Strict, real, validate
from mat.settings.yaml_file import read_yaml

HEADER = """\
# How many seeds each claim needs for the effect that matters. `matters` is written by hand, `scales` is made by
# `python -m mat step power --tables DIR --most N` from a pilot's tables: its spread between seeds, and how many
# show the effect with 80 % power. A config with `power: ../power.yaml` runs a task with the first `seeds` of its list.
"""


class Matter(Strict):
    """What a claim must show."""

    effects: dict[str, real(gt=0)]
    """By unit, the effect that matters."""
    why: Annotated[str, Field(min_length=1)]
    """Why that."""


class Need(Strict):
    """What a claim needs on a task."""

    effect: real(gt=0)
    """That matters, in ``unit``."""
    unit: str
    """Of the effect."""
    spread: real(gt=0)
    """Standard deviation over the pilot's seeds, in that unit; of savings, of the logarithm of the ratio."""
    n: Annotated[int, Field(ge=2)]
    """Seeds of the pilot."""
    needed: Annotated[int, Field(ge=2)] | None
    """Seeds that show the effect with 80 % power, by a two-sided t test at 95 %; none: more than a hundred."""


class TaskPlan(Strict):
    """A task's seeds, and why."""

    seeds: Annotated[int, Field(ge=1)]
    """How many of the scale's seeds it is run with."""
    claims: dict[str, Need] = Field({})
    """By claim, what it needs."""

    def too_few_for(self, run: int) -> list[str]:
        """Claims that need more than the ``run`` seeds, and how many."""
        short = {name: need.needed for name, need in self.claims.items() if need.needed is None or need.needed > run}
        return [f"{name} ({needed or 'over 100'})" for name, needed in short.items()]


class ScalePlan(Strict):
    """The tasks of a scale, and the command that makes the pilot's tables."""

    command: str
    """That makes the tables which the spreads are of."""
    tasks: dict[Label, TaskPlan]
    """By label; a task without an entry is run with all seeds."""


class PowerPlan(Strict):
    """The whole file."""

    matters: dict[str, Matter]
    """By claim, the effects that matter."""
    scales: dict[Label, ScalePlan] = Field({})
    """By scale, what its pilot says."""


def read_power(path: Path) -> PowerPlan:
    """Read and check the file. Raises InputError at the first thing that is wrong."""
    content: Any = read_yaml(path)
    try:
        return validate(PowerPlan, content)
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from None


def scale_plan(path: Path, scale: str, tasks: list[str]) -> ScalePlan:
    """A scale's part of the file. Raises InputError where it has none, or names a task that the scale does not have."""
    plan = read_power(path)
    if scale not in plan.scales:
        raise InputError(
            f"{path.name}: expected scale {scale}, got {', '.join(plan.scales) or 'none'}; make it with mat step "
            "power, or leave power out"
        )
    unknown = [label for label in plan.scales[scale].tasks if label not in tasks]
    if unknown:
        raise InputError(
            f"{path.name}: {scale}.{unknown[0]}: expected a task of it, one of {', '.join(tasks)}; remove it"
        )
    return plan.scales[scale]
