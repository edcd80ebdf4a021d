"""The plan of a scale as text: what its runs would cost, and how long that takes here."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence

import torch

from mat.errors import InputError
from mat.experiments.config.runs import expand
from mat.experiments.config.scale import read_scale
from mat.experiments.config.selection import choose, select, terms_of
from mat.experiments.planning.rows import Row, rows
from mat.experiments.studies.registry import jobs
from mat.records.costs import FLOPS_PER_MAC, flop_unit

PARTS = ("train", "probe", "eval", "total")
SIDE = 512  # of the matrices whose product is timed
SECONDS = 0.5


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


def table(found: Sequence[Row], rates: Mapping[str, float]) -> str:
    """The rows, the sum per tag (a task of two tags is in both sums) and the sum of all, as text."""
    sums = [
        (f"tag {tag}", [row for row in found if tag in row.tags])
        for tag in dict.fromkeys(tag for row in found for tag in row.tags)
    ]
    lines = [(row.task, row.method, str(row.steps), [row]) for row in found]
    lines += [(name, "", "", part) for name, part in (*sums, ("all", found))]
    total = FLOPS_PER_MAC * sum(sum(row.cost) for row in found)
    factor, unit = flop_unit(total)
    header = ("task", "method", "runs", "steps", *(f"{part} {unit}" for part in PARTS), "hours")
    cells = [header]
    for task, method, steps, part in lines:
        costs = [sum(row.cost[i] for row in part) for i in range(len(PARTS) - 1)]
        flops = [FLOPS_PER_MAC * macs / factor for macs in (*costs, sum(costs))]
        hours = sum(row.hours(rates) for row in part)
        cells.append((task, method, str(sum(row.runs for row in part)), steps, *map(number, (*flops, hours))))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    aligned = [str.ljust, str.ljust, *[str.rjust] * (len(header) - 2)]  # texts to the left, numbers to the right
    made = ["  ".join(pad(*cell) for pad, *cell in zip(aligned, line, widths, strict=True)).rstrip() for line in cells]
    rule = "-" * max(map(len, made))
    return "\n".join([made[0], rule, *made[1 : len(found) + 1], rule, *made[len(found) + 1 :]])


def number(value: float) -> str:
    """Three significant digits, at most six decimals; 0 for nothing."""
    return f"{value:.{min(6, max(0, 2 - math.floor(math.log10(value))))}f}" if value else "0"


def rates_of(precisions: set[str], threads: int, rate: float | None) -> tuple[dict[str, float], str]:
    """GFLOP/s by precision, and what they are."""
    if rate is not None:
        if not 0 < rate < float("inf"):
            raise InputError(f"--rate must be a number of GFLOP/s above 0, got {rate}")
        return dict.fromkeys(precisions, rate), f"at {rate:g} GFLOP/s, as given"
    found = {name: measured_rate(name, threads) for name in sorted(precisions)}
    speeds = ", ".join(f"{value:.3g} GFLOP/s in {name}" for name, value in found.items())
    return found, f"at {speeds}: a {SIDE} × {SIDE} matrix product by {threads} threads here, just now"


def measured_rate(precision: str, threads: int) -> float:
    """GFLOP/s of a product of two matrices of ``SIDE`` rows and columns: the fastest within ``SECONDS``."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        a = torch.ones(SIDE, SIDE, dtype=getattr(torch, precision))
        best, end = float("inf"), time.perf_counter() + SECONDS
        a @ a  # the first one also sets things up
        while time.perf_counter() < end or best == float("inf"):
            start = time.perf_counter()
            a @ a
            best = min(best, time.perf_counter() - start)
    finally:
        torch.set_num_threads(before)
    return 2 * SIDE**3 / best / 1e9
