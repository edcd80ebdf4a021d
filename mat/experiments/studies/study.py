"""What a study is: one record says what a config may ask of it, how its jobs are measured and what they would cost."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mat.errors import InputError
from mat.experiments.config.scale import check_seeds, own_seeds, trained
from mat.experiments.config.settings import read
from mat.experiments.config.spec import Spec
from mat.experiments.studies.job import Job
from mat.experiments.studies.session import Session, job_modules, measure
from mat.experiments.training.cost import Cost, Shape
from mat.experiments.training.machine import HERE, Machine
from mat.experiments.training.resume import SAVE_EVERY, Report, silent


@dataclass(frozen=True)
class Study:
    """A question that is asked of families of models, each in the training of its own run by vanilla.

    ``name``: of the config's block, the command and the folder of its tables; ``settings``: the dataclass of what is
    measured; ``session``: measures one job; ``cost``: of one job, with the numbers of its run; ``columns``: of a job's
    table, beside what every study says of a job. A family is ``{of: TASK LABEL}``: that block's task, model, recipe and
    probe; the keys ``own`` may be given instead, ``task`` as settings that replace single ones of the block's task.
    ``check``: raises InputError, saying why, for a job that cannot be measured.
    """

    name: str
    settings: type
    session: type[Session]
    cost: Callable[[Job, Shape], Cost]
    columns: tuple[str, ...]
    own: tuple[str, ...] = ("model", "recipe")
    check: Callable[[Job], None] = lambda job: None

    def job(self, given: Mapping[str, Any]) -> Job:
        """A job from its JSON content. Raises InputError."""
        if not isinstance(given, Mapping) or set(given) != {"labels", "spec", "settings"}:
            raise InputError(f"a job is a mapping with labels, spec and settings, got {str(given)[:80]}")
        labels = given["labels"]
        if not isinstance(labels, Mapping) or set(labels) != {"scale", "family", "task"}:
            raise InputError(f"a job's labels are scale, family and task, got {labels!r}")
        settings = read(self.settings, given["settings"], self.name)
        return Job(self.name, **labels, spec=Spec.of(given["spec"]), settings=settings)

    def jobs(self, config: Mapping[str, Any]) -> list[Job]:
        """Every family × seed of the config's block; none without one. Raises InputError naming the place.

        ``seeds`` of the block: of the config's those that it is measured with (default: all).
        """
        block = config.get(self.name)
        if block is None:
            return []
        if not isinstance(block, Mapping):
            raise InputError(f"{self.name} must be a mapping with families and settings, got {block!r}")
        families = block.get("families")
        if not isinstance(families, Mapping) or not families:
            raise InputError(f"{self.name} needs a non-empty mapping of families, got {families!r}")
        check_seeds(f"{self.name}: seeds", block.get("seeds", []))
        given = {key: value for key, value in block.items() if key not in ("families", "seeds")}
        settings = read(self.settings, given, self.name)
        found = []
        for family, entry in families.items():
            where = f"{self.name}.families.{family}"
            base = _base(where, family, entry, config["tasks"], ("of", *self.own))
            for seed in own_seeds(block, config["seeds"]):
                trained_by = {
                    "method": {"name": "vanilla"},
                    "seed": seed,
                    "threads": config.get("threads", 1),
                }
                try:
                    spec = Spec.of({**base, **trained_by})
                    job = Job(self.name, str(config["scale"]), str(family), entry["of"], spec, settings)
                    self.check(job)
                except InputError as error:
                    raise InputError(f"{where}: {error}") from None
                found.append(job)
        return found

    def measure(
        self,
        job: Job,
        out: Path,
        machine: Machine = HERE,
        *,
        report: Report = silent,
        save_every: float = SAVE_EVERY,
    ) -> pd.DataFrame:
        """Train the job's run, measure it, and write the table ``out`` (Parquet); returns the table."""
        return measure(self.session, job, out, machine, report, save_every)

    def modules(self, job: Job) -> dict[str, str]:
        """Hash by module of what can change a job's numbers."""
        return job_modules(self.session, job)


def _base(
    where: str, family: Any, entry: Any, tasks: Mapping[str, Any], known: Sequence[str]
) -> dict[str, Any]:
    """What the family's specifications share."""
    if not re.fullmatch(r"[\w-]+", str(family)):
        raise InputError(f"{where}: a family's name is made of letters, digits, _ and -; choose another")
    if not isinstance(entry, Mapping) or "of" not in entry or set(entry) - set(known):
        raise InputError(f"{where} must be a mapping with 'of' and only {', '.join(known)}, got {entry!r}")
    if entry["of"] not in tasks:
        raise InputError(f"{where}: 'of' must name one of the tasks {', '.join(tasks)}, got {entry['of']!r}")
    if tasks[entry["of"]].get("start") is not None:
        raise InputError(f"{where}: {entry['of']} starts from another run; choose a task that does not")
    base = {**trained(entry["of"], tasks), **{k: v for k, v in entry.items() if k not in ("of", "task")}}
    if "task" in entry:
        if not isinstance(entry["task"], Mapping) or "name" in entry["task"]:
            raise InputError(
                f"{where}: task must be settings of the task of {entry['of']}, got {entry['task']!r}"
            )
        base["task"] = {**base["task"], **entry["task"]}
    if isinstance(base.get("recipe", {}), Mapping):  # no curve is kept: only the two ends are evaluated
        base["recipe"] = {**base.get("recipe", {}), "evaluate_every": 10**9}
    return base
