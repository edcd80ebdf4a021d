"""What a burst's minutes are enough for, by the closed forms: which runs, in which order, and when each would end.

Runs are taken widest first: all methods with one seed before any with the next, so that what is there can be compared
whenever the time is up. A run that is cut off goes on in the next burst.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from mat.errors import InputError
from mat.experiments.config.runs import Run
from mat.experiments.planning.rows import cost_of
from mat.experiments.planning.speed import Speed
from mat.records.costs import FLOPS_PER_MAC

HEADLINE = ("vanilla", "mat", "mat_exact", "random", "vanilla_short")  # matched methods after what they are matched to
# GFLOP/s of a training step of BERT-base in bfloat16, until the benchmark says it: a fifth of the data sheets' peak
ASSUMED = {"H200": 200e3, "H100": 200e3, "A100": 60e3, "cpu": 10.0}
UNKNOWN = 30e3  # of any other GPU
SETUP = 15.0  # seconds of a run before its first step: data, model, tracing
TESTS, BENCHMARK = 0.2, 0.2  # of the time, at most
MARGIN, OF_ALL = 30.0, 0.1  # seconds that are kept for the last state and the export, or this share of a short burst


class Part(NamedTuple):
    """A run in the plan. ``ends``: seconds from the start of the training at which it would be finished."""

    run: Run
    seconds: float
    ends: float

    def row(self) -> dict[str, Any]:
        """As it is printed and kept."""
        about = {"run": self.run.spec.name, "method": self.run.method, "seed": self.run.spec.seed}
        return {**about, "seconds": round(self.seconds, 1), "ends": round(self.ends, 1)}


def chosen(runs: Iterable[Run], task: str) -> list[Run]:
    """The headline's runs of a task label, widest first. Raises InputError where there are none."""
    runs = list(runs)
    found = [run for run in runs if run.task == task and run.method in HEADLINE]
    if not found:
        labels = ", ".join(sorted({run.task for run in runs}))
        raise InputError(f"no run of {task!r} by one of {', '.join(HEADLINE)}; the scale's tasks: {labels}")
    return sorted(found, key=lambda run: (run.spec.seed, HEADLINE.index(run.method)))


def planned(runs: Sequence[Run], rate: float, sizes: Mapping[str, int]) -> list[Part]:
    """The runs one after the other, at ``rate`` GFLOP/s: an upper bound for those that skip work or spend a budget.

    ``sizes``: samples of the splits that were read; the closed forms are of the published ones.
    """
    speed, found, end = Speed.of(rate)._replace(setup=SETUP), [], 0.0
    for run in runs:
        published = run.spec.task.module.outline(run.spec.task.settings).sizes
        longer, wider = (sizes[split] / published[split] for split in ("train", "validation"))
        _, training, probes, evaluation = cost_of(run)
        macs = (round(longer * training), round(longer * probes), round(longer * wider * evaluation))
        seconds = speed.seconds(*macs, 1)
        found.append(Part(run, seconds, end := end + seconds))
    return found


def assumed(device: str) -> float:
    """GFLOP/s of a device by its name."""
    return next((rate for name, rate in ASSUMED.items() if name in device), UNKNOWN)


def measured(macs: int, seconds: float) -> float:
    """GFLOP/s of a step of so many multiply-adds."""
    return FLOPS_PER_MAC * macs / seconds / 1e9


def margin(seconds: float) -> float:
    """What is kept at the end of a burst of so many seconds."""
    return min(MARGIN, OF_ALL * seconds)
