"""What a study is: one record says what a config may ask of it, how its jobs are measured and what they would cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mat.errors import InputError
from mat.experiments.config.families import families
from mat.experiments.config.scale import ScaleConfig
from mat.experiments.config.spec import Spec
from mat.experiments.studies.job import Job
from mat.experiments.studies.session import Session, job_modules, measure
from mat.experiments.training.cost import Cost, Shape
from mat.experiments.training.machine import HERE, Machine
from mat.experiments.training.resume import SAVE_EVERY, Report, silent
from mat.settings.strict import read


@dataclass(frozen=True)
class Study:
    """A question that is asked of families of models, each in the training of its own run by vanilla.

    ``name``: of the config's block, the command and the folder of its tables; ``settings``: the dataclass of what is
    measured; ``session``: measures one job; ``cost``: of one job, with the numbers of its run; ``columns``: of a job's
    table, beside what every study says of a job; ``check``: raises InputError, saying why, for a job that cannot be
    measured.
    """

    name: str
    settings: type
    session: type[Session]
    cost: Callable[[Job, Shape], Cost]
    columns: tuple[str, ...]
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

    def jobs(self, config: ScaleConfig) -> list[Job]:
        """Every family × seed of the config's block; none without one. Raises InputError naming the place."""
        block = getattr(config, self.name)
        if block is None:
            return []
        with config.named:
            settings = read(self.settings, block.model_extra, self.name)
        found = [Job(self.name, config.scale, *run, settings) for run in families(config, self.name)]
        for job in found:
            try:
                self.check(job)
            except InputError as error:
                with config.named:
                    raise InputError(f"{self.name}.families.{job.family}: {error}") from None
        return found

    def measure(
        self, job: Job, out: Path, machine: Machine = HERE, *, report: Report = silent, save_every: float = SAVE_EVERY
    ) -> pd.DataFrame:
        """Train the job's run, measure it, and write the table ``out`` (Parquet); returns the table."""
        return measure(self.session, job, out, machine, report, save_every)

    def modules(self, job: Job) -> dict[str, str]:
        """Hash by module of what can change a job's numbers."""
        return job_modules(self.session, job)
