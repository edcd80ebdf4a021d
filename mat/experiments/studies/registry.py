"""Studies by name; a new study is one folder and one line here."""

from __future__ import annotations

from mat.errors import InputError
from mat.experiments.config.scale import ScaleConfig
from mat.experiments.studies.agreement.study import AGREEMENT
from mat.experiments.studies.branches.study import BRANCHES
from mat.experiments.studies.session import Job
from mat.experiments.studies.step_times.study import STEP_TIMES
from mat.experiments.studies.study import Study

STUDIES = {study.name: study for study in (AGREEMENT, BRANCHES, STEP_TIMES)}


def find(name: str) -> Study:
    """The study ``name``. Raises InputError listing the known ones."""
    if name not in STUDIES:
        raise InputError(f"unknown study {name!r}; known: {', '.join(STUDIES)}")
    return STUDIES[name]


def jobs(config: ScaleConfig) -> list[Job]:
    """Every job of a config beside its runs, study by study. Raises InputError naming the place."""
    return [job for study in STUDIES.values() for job in study.jobs(config)]
