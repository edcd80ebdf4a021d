"""The plan of a scale as text: what its runs would cost, and how long that takes here."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import Any

from mat.errors import InputError
from mat.evidence.text import yaml_reading
from mat.experiments.config.scale import expand
from mat.experiments.config.selection import choose, select, terms_of
from mat.experiments.planning.rate import rates_of
from mat.experiments.planning.rows import rows
from mat.experiments.planning.table import number, table
from mat.experiments.studies.registry import jobs
from mat.experiments.training.machine import Machine

CONFIGS = Path("workflows/config")
MACHINE = tuple(field.name for field in fields(Machine))  # keys of a config that are no part of what is run


def report(config: str, only: str = "", rate: float | None = None, cores: int | None = None) -> str:
    """The plan of a scale's name or config file as text. Raises InputError for input that cannot be used.

    ``only``: terms of a selection; ``rate``: GFLOP/s of one worker, measured without one; ``cores``: of this machine.
    """
    content, terms = read_config(config), terms_of(only)
    runs = expand(content)
    tasks = {run.task for run in choose(runs, terms)}
    found = rows(select(runs, terms), [job for job in jobs(content) if job.task in tasks])
    threads = content.get("threads", 1)
    rates, said = rates_of({row.precision for row in found} | {"float32"}, threads, rate)
    workers = max(1, (cores or _cores()) // threads)
    hours = sum(row.hours(rates) for row in found)
    return "\n".join(
        [
            f"scale {content['scale']}{', only ' if terms else ''}{','.join(terms)}: nothing has been run",
            "",
            table(found, rates),
            "",
            "1 MAC = 2 FLOP; costs and hours are of all runs of a row, steps of one. Hours of one worker,",
            f"{said}.",
            f"{number(hours)} hours of one worker are {number(hours / workers)} hours of {workers} workers "
            f"({workers} × {threads} threads) if none slows another.",
            "Training is an upper bound for methods that skip work: every step is counted with all modules active.",
            "Probes are counted as passes; with the kernels' own products tiny inputs cost up to 2.5 times as much.",
            "The time is a lower bound: data, normalisation, small kernels and the optimizer are not counted.",
        ]
    )


def read_config(config: str) -> dict[str, Any]:
    """The config of a scale by its name, or of a file. Raises InputError when there is none."""
    path = Path(config)
    if not path.is_file():
        path = CONFIGS / f"{config}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in CONFIGS.glob("*.yaml"))) or f"none in {CONFIGS}"
        raise InputError(f"--config must be a file or a scale, got {config!r}; scales here: {known}")
    content = yaml_reading.read_yaml(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping with scale, seeds, tasks and methods")
    return {key: value for key, value in content.items() if key not in MACHINE}


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
