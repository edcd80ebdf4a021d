"""The plan of a scale as text: what its runs would cost, and how long that takes here."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from mat.experiments.config.scale import ScaleConfig, read_scale
from mat.experiments.config.selection import choose, select, terms_of
from mat.experiments.config.spec import Spec
from mat.experiments.planning import speed
from mat.experiments.planning.rows import Row, rows, whole
from mat.experiments.planning.speed import Speed
from mat.experiments.training.cost import Shape
from mat.records.costs import FLOPS_PER_MAC, flop_unit

PARTS = ("train", "probe", "eval", "total")
SLOW = 1.5  # times float32, from which bfloat16 is worth a line


def report(config: str, only: str = "", rate: float | None = None, cores: int | None = None) -> str:
    """The plan of a scale's name or config file as text. Raises InputError for input that cannot be used.

    ``only``: terms of a selection; ``rate``: GFLOP/s of one worker, else each model is timed; ``cores``: of this
    machine.
    """
    content, terms = read_scale(config), terms_of(only)
    runs, jobs = whole(content)
    tasks = {run.task for run in choose(runs, terms)}
    found = rows(select(runs, terms), [job for job in jobs if job.task in tasks])
    threads = content.threads
    speeds, said = speeds_of(found, rate)
    workers = max(1, (cores or _cores()) // threads)
    hours = sum(map(hours_at(speeds), found))
    return "\n".join(
        [
            f"scale {content.scale}{', only ' if terms else ''}{','.join(terms)}: nothing has been run",
            "",
            table(found, hours_at(speeds)),
            *budgets(found),
            *left_out(content, tasks),
            *powered(content, tasks),
            "",
            "1 MAC = 2 FLOP; costs and hours are of all runs of a row, steps of one. Hours of one worker,",
            *said,
            f"{number(hours)} hours of one worker are {number(hours / workers)} hours of {workers} workers "
            f"({workers} × {threads} threads) if none slows another.",
            "Training is an upper bound for methods that skip work: every step is counted with all modules active.",
            "Probes are counted as passes; with the kernels' own products tiny inputs cost up to 2.5 times as much.",
        ]
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def table(found: Sequence[Row], hours_of: Callable[[Row], float]) -> str:
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
        hours = sum(map(hours_of, part))
        cells.append((task, method, str(sum(row.runs for row in part)), steps, *map(number, (*flops, hours))))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    aligned = [str.ljust, str.ljust, *[str.rjust] * (len(header) - 2)]  # texts to the left, numbers to the right
    made = ["  ".join(pad(*cell) for pad, *cell in zip(aligned, line, widths, strict=True)).rstrip() for line in cells]
    rule = "-" * max(map(len, made))
    return "\n".join([made[0], rule, *made[1 : len(found) + 1], rule, *made[len(found) + 1 :]])


def number(value: float) -> str:
    """Three significant digits, at most six decimals; 0 for nothing."""
    return f"{value:.{min(6, max(0, 2 - math.floor(math.log10(value))))}f}" if value else "0"


def speeds_of(found: Iterable[Row], rate: float | None) -> tuple[dict[str, Speed], list[str]]:
    """Speeds by what they depend on, and lines that say what they are."""
    specs = {speed.shapes(row.spec): row.spec for row in found}
    if rate is not None:
        one = Speed.of(rate)
        bound = (
            "The time is a lower bound: start-up, data, normalisation, small kernels, the optimizer are not counted."
        )
        return dict.fromkeys(specs, one), [f"at {rate:g} GFLOP/s, as given.", bound]
    start = speed.start_seconds(next(iter(specs.values())))  # not of each: they are forks of one
    timed = {key: speed.measured(spec) for key, spec in specs.items()}
    rates = sorted(one.training for one in timed.values())
    each = sorted(one.setup for one in timed.values())
    return timed, [
        f"timed here just now on {len(timed)} models of these shapes: {rates[0]:.3g} to {rates[-1]:.3g} GFLOP/s in",
        f"training, {each[0]:.2g} to {each[-1]:.2g} s a run to build and count, and once {start:.2g} s for the process",
        "that all of a workflow's runs share; data, tables, figures left out.",
        *_slow_precision(specs.values()),
    ]


def _slow_precision(specs: Iterable[Spec]) -> list[str]:
    """What to do where this processor multiplies bfloat16 slower than float32 and runs ask for it."""
    if all(spec.recipe.precision == "float32" for spec in specs) or (ratio := speed.bfloat16_ratio()) < SLOW:
        return []
    return [
        f"A product in bfloat16 takes {ratio:.2g} times as long here as in float32: the processor has no instructions",
        "for it. Recipes with precision: bfloat16 are faster here in float32, as runs of other names.",
    ]


def hours_at(speeds: Mapping[str, Speed]) -> Callable[[Row], float]:
    """The hours of a row's runs."""
    return lambda row: row.hours(speeds[speed.shapes(row.spec)])


def budgets(found: Iterable[Row]) -> list[str]:
    """A line for every task and budget: what is probed within it."""
    lines = []
    for row in found:
        budget, extent = row.spec.probe.budget, Shape(row.spec).extent
        if budget is not None:
            lines.append(
                f"{row.task}: probes of n = {extent.n} samples, {extent.directions} directions, every {extent.every} "
                f"steps, within {budget:.3g} of its training"
            )
    return ["", *dict.fromkeys(lines)] if lines else []


def left_out(config: ScaleConfig, tasks: Collection[str]) -> list[str]:
    """For each of ``tasks`` the methods that are not run, because nothing was tuned for them; how to tune them."""
    lines = [
        f"{task}: {', '.join(labels)} left out until tuned:\n  mat tune --config {config.path} --budget N --only "
        + ",".join([task, *sorted({config.methods[label].tuned for label in labels} - {None})])
        for task, labels in config.untuned().items()
        if task in tasks
    ]
    return ["", *lines] if lines else []


def powered(config: ScaleConfig, tasks: Iterable[str]) -> list[str]:
    """A line for each of ``tasks`` that the power plan has: its seeds, and the claims that they are too few for."""
    lines = []
    for task in sorted(set(tasks) & set(config.planned)):
        seeds = len(config.seeds_of_task(task))
        short = ", ".join(config.planned[task].too_few_for(seeds))
        said = f"; too few for {short}" if short else ""
        lines.append(f"{task}: {seeds} of {len(config.seeds)} seeds, by {config.power}{said}")
    return ["", *lines] if lines else []
