"""What a scale's runs would cost, known before anything is run: from outlines of tasks and closed forms of models.

Training is the closed form of a step with every module active, an upper bound for methods that skip work. A kernel
probe is a forward pass and the estimator's backward passes, each twice a forward pass (``mat.nominal``), whether it is
charged or only observed. Evaluation is of the validation split when it is due and of the test split at the end.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mat import agreement_plan, branches_plan
from mat.errors import InputError
from mat.estimators import Estimator
from mat.evidence import schema, write
from mat.evidence.measures import FLOPS_PER_MAC
from mat.form import Form
from mat.grid import Run, expand
from mat.jobs import Job
from mat.methods.base import GRADIENTS, SPECTRA
from mat.models.work import REMAINDER
from mat.selection import choose, select, terms_of
from mat.spec import Spec
from mat.tasks.base import Outline

CONFIGS = Path("workflows/config")
MACHINE = ("data", "cache", "device")  # where and on what a config is run, not what
PARTS = ("train", "probe", "eval", "total")
SIDE = 512  # of the matrices whose product is timed
SECONDS = 0.5


class Cost(NamedTuple):
    """Multiply-adds (MACs) of one run."""

    training: int
    probes: int
    evaluation: int


@dataclass(frozen=True)
class Row:
    """The runs of one task label and method: ``cost`` of all of them together, ``steps`` of each."""

    task: str
    method: str
    tags: tuple[str, ...]
    precision: str
    runs: int
    steps: int
    cost: Cost

    def hours(self, rates: Mapping[str, float]) -> float:
        """Hours of one worker at ``rates`` (GFLOP/s by precision); probes and evaluation are in float32."""
        seconds = self.cost.training / rates[self.precision]
        seconds += (self.cost.probes + self.cost.evaluation) / rates["float32"]
        return FLOPS_PER_MAC * seconds / 1e9 / 3600


class Shape:
    """The numbers of one specification that its cost is made of, in MACs and samples."""

    def __init__(self, spec: Spec) -> None:
        outline: Outline = spec.plugin("task").outline(spec.settings("task"))
        self.recipe, self.probe, self.sizes = spec.settings("recipe"), spec.settings("probe"), outline.sizes
        if self.recipe.batch > self.sizes["train"]:
            raise InputError(f"a batch of {self.recipe.batch} is more than the {self.sizes['train']} samples")
        self.steps_per_epoch = self.sizes["train"] // self.recipe.batch
        self.steps = self.recipe.epochs * self.steps_per_epoch
        family, settings = spec.plugin("model"), spec.settings("model")
        work = family.work(settings, outline.form, self.recipe.batch)
        names = [name for name in work if name != REMAINDER]
        self.modules = len(names)
        self.step = family.step(work, names, spec.method_record().mode)
        self.forward = sum(one.forward for one in family.work(settings, outline.form, 1).values())
        self.logits = logits(outline.form)

    def passes(self, estimator: str, directions: int, n: int) -> int:
        """MACs of a kernel probe of n samples."""
        # counting needs no loss function, but an estimator called loss is refused without one
        backwards = Estimator(estimator, max(directions, 1), loss=len).count(self.logits)
        return (1 + 2 * backwards) * self.forward * n


def logits(form: Form) -> int:
    """k, the logits of one sample."""
    return form.outputs * (form.length if form.objective.endswith("_lm") else 1)


def run_cost(spec: Spec) -> tuple[int, Cost]:
    """Steps and cost of one run. Raises InputError where task, model and recipe do not fit each other."""
    shape, method = Shape(spec), spec.method_record()
    every = shape.probe.every or shape.steps_per_epoch
    measured = {SPECTRA, GRADIENTS} if method.observe else method.reads
    probes = -(-shape.steps // every)
    evaluations = 1 + -(-shape.steps // shape.recipe.evaluate_every)
    samples = evaluations * shape.sizes["validation"] + shape.sizes["test"]
    passes = {
        SPECTRA: shape.passes(shape.probe.estimator, shape.probe.directions, shape.probe.n),
        GRADIENTS: shape.passes("loss", 1, shape.probe.n),
    }
    one = sum(passes[what] for what in measured)
    return shape.steps, Cost(shape.steps * shape.step, probes * one, samples * shape.forward)


def job_cost(job: Job) -> tuple[int, Cost]:
    """The same of one measurement: a vanilla run without a test, to its last checkpoint, and what is measured there.

    Of estimators: every one on every probe set, at the largest n that its budget allows. Of branches: their steps, each
    as one with every module active; one probe; and the samples that are read before and after."""
    shape, settings = Shape(job.spec), job.settings
    checkpoints, steps = len(settings.shares), round(max(settings.shares) * shape.steps)
    evaluations = 1 + (steps == shape.steps)
    if isinstance(settings, branches_plan.Settings):
        sets, validation = len(branches_plan.SETS), shape.sizes["validation"]
        each = settings.samples + min(settings.validation_samples, validation)
        read = (shape.modules + 2) * each if settings.steps else 0
        read += (sets + 1) * (settings.samples + validation) if settings.set_steps else 0
        once = shape.passes(shape.probe.estimator, shape.probe.directions, shape.probe.n)
        samples = checkpoints * read + evaluations * validation
        trained = steps + checkpoints * settings.branch_steps(shape.modules)
        return steps, Cost(trained * shape.step, checkpoints * once, samples * shape.forward)
    once = sum(
        shape.passes(found.estimator, found.directions, found.sizes[-1])
        for found in settings.measurements(shape.logits)
    )
    probes = checkpoints * settings.probe_sets * once
    return steps, Cost(steps * shape.step, probes, evaluations * shape.sizes["validation"] * shape.forward)


def measurements(config: Mapping[str, Any]) -> list[Job]:
    """Every job of a config beside its runs."""
    return [*agreement_plan.jobs(config), *branches_plan.jobs(config)]


def rows(runs: Iterable[Run], jobs: Iterable[Job] = ()) -> list[Row]:
    """One row per task label and method, in the order of the runs, then one per family of ``jobs``."""
    runs, jobs = list(runs), list(jobs)
    tags = {run.task: run.tags for run in runs}
    groups: dict[tuple[str, str], list[Any]] = {}
    for one in [*runs, *jobs]:
        method = f"({one.what}: {one.family})" if isinstance(one, Job) else one.method
        groups.setdefault((one.task, method), []).append(one)
    found = []
    for (task, method), same in groups.items():
        first = same[0]
        try:
            steps, cost = job_cost(first) if isinstance(first, Job) else run_cost(first.spec)
        except InputError as error:
            raise InputError(f"tasks.{task} with {method}: {error}") from None
        together = Cost(*(len(same) * macs for macs in cost))
        precision = first.spec.recipe["precision"]
        found.append(Row(task, method, tags.get(task, ()), precision, len(same), steps, together))
    return found


def table(found: Sequence[Row], rates: Mapping[str, float]) -> str:
    """The rows, the sum per tag (a task of two tags is in both sums) and the sum of all, as text."""
    sums = [(f"tag {tag}", [row for row in found if tag in row.tags]) for tag in _tags(found)]
    lines = [(row.task, row.method, str(row.steps), [row]) for row in found]
    lines += [(name, "", "", part) for name, part in (*sums, ("all", found))]
    total = FLOPS_PER_MAC * sum(map(_macs, found))
    factor, unit = write.flop_unit(total)
    header = ("task", "method", "runs", "steps", *(f"{part} {unit}" for part in PARTS), "hours")
    cells = [header]
    for task, method, steps, part in lines:
        costs = [sum(row.cost[i] for row in part) for i in range(len(Cost._fields))]
        flops = [FLOPS_PER_MAC * macs / factor for macs in (*costs, sum(costs))]
        hours = sum(row.hours(rates) for row in part)
        cells.append(
            (task, method, str(sum(row.runs for row in part)), steps, *map(_number, (*flops, hours)))
        )
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    made = ["  ".join(_aligned(line, widths)).rstrip() for line in cells]
    rule = "-" * max(map(len, made))
    return "\n".join([made[0], rule, *made[1 : len(found) + 1], rule, *made[len(found) + 1 :]])


def report(config: str, only: str = "", rate: float | None = None, cores: int | None = None) -> str:
    """The plan of a scale's name or config file as text. Raises InputError for input that cannot be used.

    ``only``: terms of a selection; ``rate``: GFLOP/s of one worker, measured without one; ``cores``: of this machine.
    """
    content, terms = read_config(config), terms_of(only)
    runs = expand(content)
    tasks = {run.task for run in choose(runs, terms)}
    found = rows(select(runs, terms), [job for job in measurements(content) if job.task in tasks])
    threads = content.get("threads", 1)
    rates, said = _rates({row.precision for row in found} | {"float32"}, threads, rate)
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
            f"{_number(hours)} hours of one worker are {_number(hours / workers)} hours of {workers} workers "
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
    content = schema.read_yaml(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping with scale, seeds, tasks and methods")
    return {key: value for key, value in content.items() if key not in MACHINE}


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


def _rates(precisions: set[str], threads: int, rate: float | None) -> tuple[dict[str, float], str]:
    """GFLOP/s by precision, and what they are."""
    if rate is not None:
        if not 0 < rate < float("inf"):
            raise InputError(f"--rate must be a number of GFLOP/s above 0, got {rate}")
        return dict.fromkeys(precisions, rate), f"at {rate:g} GFLOP/s, as given"
    found = {name: measured_rate(name, threads) for name in sorted(precisions)}
    speeds = ", ".join(f"{value:.3g} GFLOP/s in {name}" for name, value in found.items())
    return found, f"at {speeds}: a {SIDE} × {SIDE} matrix product by {threads} threads here, just now"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _number(value: float) -> str:
    """Three significant digits; 0 for nothing."""
    return write.number(value, write.decimals_for(value)) if value else "0"


def _macs(row: Row) -> int:
    return sum(row.cost)


def _tags(found: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(tag for row in found for tag in row.tags))


def _aligned(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Texts to the left, numbers to the right."""
    return [
        cell.ljust(width) if place < 2 else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]
