"""The plan of a scale as text: what its runs would cost, and how long that takes here."""

from __future__ import annotations

import os

from mat.experiments.config.runs import expand
from mat.experiments.config.scale import read_scale
from mat.experiments.config.selection import choose, select, terms_of
from mat.experiments.planning.rate import rates_of
from mat.experiments.planning.rows import rows
from mat.experiments.planning.table import number, table
from mat.experiments.studies.registry import jobs


def report(config: str, only: str = "", rate: float | None = None, cores: int | None = None) -> str:
    """The plan of a scale's name or config file as text. Raises InputError for input that cannot be used.

    ``only``: terms of a selection; ``rate``: GFLOP/s of one worker, measured without one; ``cores``: of this machine.
    """
    content, terms = read_scale(config), terms_of(only)
    runs = expand(content)
    tasks = {run.task for run in choose(runs, terms)}
    found = rows(select(runs, terms), [job for job in jobs(content) if job.task in tasks])
    threads = content.threads
    rates, said = rates_of({row.precision for row in found} | {"float32"}, threads, rate)
    workers = max(1, (cores or _cores()) // threads)
    hours = sum(row.hours(rates) for row in found)
    return "\n".join(
        [
            f"scale {content.scale}{', only ' if terms else ''}{','.join(terms)}: nothing has been run",
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


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
