"""Seconds and peak memory of the evidence's steps as runs grow, on made-up runs: ``python -m tests.benchmarks.size``.

Numbers of runs may be given; each is measured in a process of its own, whose peak is that of all its steps so far.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from mat.evidence.report import environment
from mat.evidence.runs import pool, pooled
from tests.evidence.synthetic import METHODS, TASKS, read_runs

Made = TypeVar("Made")
SIZES = (250, 500, 1000, 2000, 4000)


def measure(count: int) -> None:
    """Print a line per step for about ``count`` runs."""
    read = read_runs(seeds=range(count // (len(METHODS) * len(TASKS))))
    tables = _timed(len(read), "pool", lambda: pool.pooled(read))
    with TemporaryDirectory() as folder:
        _timed(len(read), "save", lambda: pooled.save(tables, Path(folder)))
        again = _timed(len(read), "load", lambda: pooled.load(Path(folder)))
    _timed(len(read), "probes of every run", lambda: [again.probes_of(run) for run in again.runs["run"]] and None)
    page = environment.spent(again) + environment.listing(again)
    print(f"{len(read):>5} runs, {'listing':<20} {len(page):>8} characters", flush=True)


def _timed(runs: int, step: str, make: Callable[[], Made]) -> Made:
    start = time.perf_counter()
    made = make()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{runs:>5} runs, {step:<20} {time.perf_counter() - start:>7.2f} s, peak so far {peak:.2f} GiB", flush=True)
    return made


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        measure(int(sys.argv[2]))
    else:
        for size in map(int, sys.argv[1:] or SIZES):
            subprocess.run([sys.executable, "-m", "tests.benchmarks.size", "--one", str(size)], check=True)
