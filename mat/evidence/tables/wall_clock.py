"""The wall-clock table (X2): what of a saving in FLOP is left in seconds."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mat.evidence.measures import over_seeds
from mat.evidence.measures.curves import Convergence
from mat.evidence.runs import method_groups
from mat.evidence.runs.pooled import REFERENCE, Tables
from mat.evidence.stats.intervals import mean_interval, paired_ratio, saving_percent
from mat.evidence.tables.columns import EXECUTED, LEDGER, count, read, spread_out, stands_on
from mat.evidence.tables.record import Table, Traced
from mat.evidence.tables.sections import Page, Section, both, by_task
from mat.evidence.text import format, words

GROUPS = ("MAT", "baselines", "rivals", method_groups.OTHERS)
SAVINGS = (
    *("flop_saving_whole_run", "reference_seconds_saving_whole_run", "cpu_seconds_saving_whole_run"),
    *("seconds_saving_whole_run", "flop_saving_to_convergence", "seconds_saving_to_convergence"),
)


def wall_clock(tables: Tables, rule: Convergence) -> pd.DataFrame:
    """One row per task × method of ``GROUPS``: savings against vanilla in percent, paired by seed, charged probes
    included in both; ``time_per_flop_ratio``: the method's seconds per FLOP of a whole run over vanilla's."""
    rows = [
        _row(tables, task, label, rule)
        for task in tables.tasks
        if REFERENCE in tables.methods(task)
        for label in method_groups.of_groups(tables.methods(task), GROUPS)
    ]
    return pd.DataFrame(rows, columns=None if rows else ["scale", "task", "method"])


def _row(tables: Tables, task: str, label: str, rule: Convergence) -> dict[str, Any]:
    runs, done = tables.of(task, label), tables.finished(task, label)
    pair = (label, REFERENCE)
    macs = [over_seeds.whole_run_macs(tables, task, name, LEDGER) for name in pair]
    seconds, cpu, reference = (
        [measure(tables, task, name) for name in pair]
        for measure in (over_seeds.wall_clock, over_seeds.cpu_seconds, over_seeds.reference_seconds)
    )
    to_macs = [over_seeds.convergence_macs(tables, task, name, LEDGER, rule) for name in pair]
    to_seconds = [over_seeds.wall_clock_to_convergence(tables, task, name, rule) for name in pair]
    row: dict[str, Any] = {
        "scale": tables.scale, "task": task, "method": label, "n_finished": len(done),
        "n_diverged": len(runs) - len(done), "ledger": LEDGER,
        "device": runs["device"].iloc[0], "threads": runs["threads"].iloc[0],
    }  # fmt: skip
    for name, values in zip(SAVINGS, (macs, reference, cpu, seconds, to_macs, to_seconds), strict=True):
        row |= spread_out(f"{name}_percent", saving_percent(*values), counted=True)
    row |= spread_out("seconds", mean_interval(seconds[0]))
    ratio = paired_ratio(seconds[0] / macs[0], seconds[1] / macs[1])
    return row | spread_out("time_per_flop_ratio", ratio, counted=True)


def page(frame: pd.DataFrame, tables: Tables) -> Page:
    """The table to read."""
    return Page(
        "wall_clock",
        "Do FLOP savings survive as wall-clock savings?",
        "Savings against vanilla, paired by seed; the verdict is X2's.",
        by_task(frame, _section, "No runs beside vanilla's at this scale."),
        [
            "Reference seconds follow by arithmetic from the times of steps at active shares, each taken in turn with "
            "dense ones (`step_times.md`); X2 is judged on them. None where no step times were measured.",
            "CPU seconds are of the run's process on all processors; runs recorded without them have none.",
            "Seconds on the clock: of training and charged probes, the wait for batches included, without evaluation "
            "and without the counting of FLOPs. They are of the machine that ran it, and of what else ran there.",
            "Time per FLOP: the method's seconds per executed FLOP over vanilla's; above 1, a FLOP saved saves less "
            "than its share of the time.",
            "To convergence: until the run's own convergence; a run that stalls early converges cheaply.",
        ],
    )


def _section(task: str, rows: pd.DataFrame) -> Section:
    header = (
        "method", "n", "FLOP saved, whole run, %", "reference seconds saved, %", "CPU seconds saved, %",
        "seconds on the clock saved, %", "FLOP saved to convergence, %", "seconds saved to convergence, %",
        "seconds, whole run", "time per FLOP / vanilla",
    )  # fmt: skip
    cells = [
        (words.method(row["method"]), count(row),
         *(format.interval(read(row, f"{name}_percent"), 1) for name in SAVINGS),
         format.interval(read(row, "seconds"), 1), format.interval(read(row, "time_per_flop_ratio"), 2))
        for _, row in rows.iterrows()
    ]  # fmt: skip
    return Section(task, stands_on(rows) + f" FLOP: {EXECUTED}.", header, cells)


TABLE = Table(
    "wall_clock",
    "Saved FLOPs and saved seconds",
    lambda given: wall_clock(given.tables, given.rules["claims"].convergence),
    **both(lambda frame, given: page(frame, given.tables)),
    reads=("runs", "step_times", "claims"),
    traced=Traced(),
    place=80,
)
