"""What a scale's runs and the measurements beside them would cost: one row per task label and method, or family."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from mat.errors import InputError
from mat.experiments.config.runs import Run, expand
from mat.experiments.config.scale import ScaleConfig
from mat.experiments.config.spec import Spec
from mat.experiments.planning.speed import Speed
from mat.experiments.studies import ceiling
from mat.experiments.studies.registry import STUDIES
from mat.experiments.studies.registry import jobs as jobs_of
from mat.experiments.studies.session import Job
from mat.experiments.training.cost import Cost, Shape, run_cost


class Macs(NamedTuple):
    """Multiply-adds by what they are for."""

    training: int
    probes: int
    evaluation: int


@dataclass(frozen=True)
class Row:
    """The runs of one task label and method: ``spec`` of one of them, ``cost`` of all together, ``steps`` of each."""

    task: str
    method: str
    tags: tuple[str, ...]
    spec: Spec
    runs: int
    steps: int
    cost: Macs

    def hours(self, speed: Speed) -> float:
        """Hours of one worker."""
        return speed.seconds(*self.cost, self.runs) / 3600


def whole(config: ScaleConfig) -> tuple[list[Run], list[Job]]:
    """The runs of a scale and the jobs of its studies, its ceilings read beside them. Raises InputError where any of
    it cannot be used."""
    runs = expand(config)
    ceiling.models_of(config)
    return runs, jobs_of(config)


def rows(runs: Iterable[Run], jobs: Iterable[Job] = ()) -> list[Row]:
    """One row per task label and method, in the order of the runs, then one per family of ``jobs``. Raises InputError
    where task, model and recipe do not fit each other."""
    runs, jobs = list(runs), list(jobs)
    tags = {run.task: run.tags for run in runs}
    groups: dict[tuple[str, str], list[Run | Job]] = {}
    for one in [*runs, *jobs]:
        method = f"({one.study}: {one.family})" if isinstance(one, Job) else one.method
        groups.setdefault((one.task, method), []).append(one)
    found = []
    for (task, method), same in groups.items():
        try:
            steps, *macs = cost_of(same[0])
        except InputError as error:
            raise InputError(f"tasks.{task} with {method}: {error}") from None
        together = Macs(*(len(same) * one for one in macs))
        found.append(Row(task, method, tags.get(task, ()), same[0].spec, len(same), steps, together))
    return found


def cost_of(one: Run | Job) -> Cost:
    """Of a run or a study's job. Raises InputError where task, model and recipe do not fit each other."""
    return STUDIES[one.study].cost(one, Shape(one.spec)) if isinstance(one, Job) else run_cost(one.spec)
