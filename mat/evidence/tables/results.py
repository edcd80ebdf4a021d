"""The results table: one row per task and method, every number with its interval over seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mat.evidence.measures.curves import Convergence
from mat.evidence.measures.over_seeds import (
    SHARES,
    convergence_macs,
    equal_compute_advantage,
    gap_closed_percent,
    macs_to_reference_best,
    probe_share_percent,
    still_improving,
    wall_clock,
)
from mat.evidence.runs import method_groups, metrics
from mat.evidence.runs.pooled import REFERENCE, Tables
from mat.evidence.stats.intervals import CONFIDENCE, mean_interval, paired_ratio, saving_percent
from mat.evidence.tables.columns import count, counts, read, spread_out
from mat.evidence.tables.record import Table, Traced
from mat.evidence.text import format, words
from mat.records.costs import FLOPS_PER_MAC, LEDGERS, flop_unit


def results(tables: Tables, rule: Convergence) -> pd.DataFrame:
    """One row per task × method, tasks by name and methods in their fixed order.

    Column names end in their unit, those of losses excepted, which are in ``loss_unit``. An interval is the columns
    ``…_mean``, ``…_low``, ``…_high``. All means are over finished seeds; what is compared with vanilla is paired by
    seed.
    """
    rows = [result_row(tables, task, method, rule) for task in tables.tasks for method in tables.methods(task)]
    return pd.DataFrame(rows)


def result_row(tables: Tables, task: str, method: str, rule: Convergence) -> dict[str, Any]:
    """The table's row for one task and method."""
    runs, done = tables.of(task, method), tables.finished(task, method)
    first = runs.iloc[0]
    row: dict[str, Any] = {
        "scale": tables.scale, "task": task, "method": method, "mode": first["mode"],
        "n_finished": len(done), "n_diverged": int((runs["status"] == "diverged").sum()),
        "seeds_finished": " ".join(str(seed) for seed in done["seed"]),
        "metric": first["metric"], "higher_is_better": bool(first["higher_is_better"]),
        "loss_unit": first["loss_unit"],
    }  # fmt: skip
    limits = metrics.shown(first["metric"], first["loss_unit"])
    row |= spread_out("test_metric", mean_interval(done["test_metric"]).cut(limits.low, limits.high))
    row |= spread_out("test_loss", mean_interval(done["test_loss"]))
    row |= spread_out("best_validation_loss", mean_interval(done["best_val_loss"]))
    row |= spread_out("bound_gap_closed_percent", gap_closed_percent(done))
    for ledger in LEDGERS:
        row |= compute_columns(tables, task, method, ledger, rule)
    row["n_still_improving_at_end"] = still_improving(tables, task, method, rule)
    gain = equal_compute_advantage(tables, task, method, REFERENCE, "executed")
    row |= spread_out("loss_advantage_at_equal_compute_executed", gain, counted=True)
    for name, measure in SHARES.items():
        row |= spread_out(name, mean_interval(measure(tables, task, method)).cut(0, 100))
    seconds, base = (wall_clock(tables, task, name) for name in (method, REFERENCE))
    row |= spread_out("train_and_probe_seconds", mean_interval(seconds))
    return row | spread_out("train_and_probe_seconds_ratio_to_vanilla", paired_ratio(seconds, base))


def compute_columns(tables: Tables, task: str, method: str, ledger: str, rule: Convergence) -> dict[str, Any]:
    """Compute to convergence, its saving, compute to reach vanilla's best, and probe share in one ledger."""
    macs = convergence_macs(tables, task, method, ledger, rule)
    reach = macs_to_reference_best(tables, task, method, ledger, rule)
    share = probe_share_percent(tables, task, method, ledger)
    reference = convergence_macs(tables, task, REFERENCE, ledger, rule)
    row = spread_out(f"compute_to_convergence_{ledger}_mac", mean_interval(macs))
    row |= spread_out(f"compute_to_convergence_{ledger}_flop", mean_interval(macs).scaled(FLOPS_PER_MAC))
    row |= spread_out(f"saving_{ledger}_percent", saving_percent(macs, reference), counted=True)
    row |= spread_out(f"compute_to_vanilla_best_{ledger}_flop", mean_interval(reach).scaled(FLOPS_PER_MAC))
    row |= spread_out(f"saving_at_vanilla_best_{ledger}_percent", saving_percent(reach, reference), counted=True)
    row[f"n_reached_vanilla_best_{ledger}"] = int(np.isfinite(reach).sum())
    row[f"n_with_vanilla_{ledger}"] = len(reach)
    return row | spread_out(f"probe_share_{ledger}_percent", mean_interval(share).cut(0, 100))


LOSS = "test loss, {loss}"
HEADER = (
    "method", "n", "test {metric}", LOSS, "compute to convergence, {unit}", "… nominal ledger, {unit}",
    "saving, %", "saving nominal, %", "to vanilla's best, {unit}", "loss advantage at equal compute, {loss}",
    "active, %", "reached, %", "probes, %", "train + probe, s", "time / vanilla",
)  # fmt: skip


def markdown(frame: pd.DataFrame, tables: Tables, rule: Convergence) -> str:
    """The whole page: one section per task, then the notes that hold for all."""
    parts = [f"# Results at scale {tables.scope}", f"Made by `{tables.command}` from the runs listed in `runs.csv`."]
    for task in tables.tasks:
        rows = main_rows(frame, task)
        header, cells = compact(rows)
        parts += [f"## {words.heading(task)}", caption(rows, tables), format.markdown_table(header, cells)]
        parts.append(format.bullets([*task_notes(rows, tables), *elsewhere(frame, task)]))
    return "\n\n".join([*parts, format.how_to_read(notes(tables, rule))])


def latex(frame: pd.DataFrame, tables: Tables) -> str:
    """One ``table*`` per task."""
    scale = tables.scale
    blocks = ["% Needs the packages booktabs and graphicx.", f"% Made by: {tables.command}"]
    for task in tables.tasks:
        rows = main_rows(frame, task)
        header, cells = compact(rows)
        about = f"{words.task(task)}. " + caption(rows, tables) + f" Made by: {tables.command}"
        blocks.append(format.latex_table(header, cells, about, f"tab:{scale}-{task}"))
    return "\n\n".join(blocks)


TABLE_OF = {
    "rivals": "rivals",
    "controls": "controls",
    "twins": "twins",
    "learning rates": "learning_rate",
    "sensitivity": "sensitivity",
}


def main_rows(frame: pd.DataFrame, task: str) -> pd.DataFrame:
    """A task's rows of the methods that its table shows; all of them where none is."""
    rows = frame[frame["task"] == task]
    shown = rows[[method_groups.group(method) in method_groups.MAIN for method in rows["method"]]]
    return shown if len(shown) else rows


def elsewhere(frame: pd.DataFrame, task: str) -> list[str]:
    """Which table shows the methods that the task's own leaves out; all of them are in ``results.csv``."""
    rows, shown = frame[frame["task"] == task], main_rows(frame, task)
    left = [method for method in rows["method"] if method not in set(shown["method"])]
    texts = [
        f"{', '.join(map(words.method, found))} in `{name}.md`"
        for group, name in TABLE_OF.items()
        if (found := method_groups.of_groups(left, [group]))
    ]
    return [f"Elsewhere, and in `results.csv`: {'; '.join(texts)}."] if texts else []


def caption(rows: pd.DataFrame, tables: Tables) -> str:
    """One sentence: scale, n, ledger, unit, interval."""
    return (
        f"Scale {tables.scope}; mean [{100 * CONFIDENCE:.0f} % t interval] over {counts(rows)} finished seeds; compute "
        f"in {_unit(rows)[1]} (1 MAC = 2 FLOP), executed ledger unless named, charged probes included."
    )


def compact(rows: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Header and cells of one task's table."""
    factor, unit = _unit(rows)
    metric, loss = rows["metric"].iloc[0], rows["loss_unit"].iloc[0]
    header = [name.format(metric=metrics.title(metric, loss), unit=unit, loss=loss) for name in HEADER]
    digits = format.decimals_for(rows["compute_to_convergence_executed_flop_mean"].max() / factor)
    cells = [_cells(row, factor, digits, metrics.shown(metric, loss).factor) for _, row in rows.iterrows()]
    if metric == "log_perplexity":  # the test loss by another name
        keep = [index for index, name in enumerate(HEADER) if name != LOSS]
        header, cells = [header[index] for index in keep], [[line[index] for index in keep] for line in cells]
    return header, cells


def _cells(row: pd.Series, factor: float, digits: int, metric_factor: float) -> list[str]:
    def compared(name: str, decimals: int) -> str:
        return format.MISSING if row["method"] == REFERENCE else format.interval(read(row, name), decimals)

    reached = f"{format.number(row['compute_to_vanilla_best_executed_flop_mean'] / factor, digits)} "
    reached += f"({row['n_reached_vanilla_best_executed']} of {row['n_with_vanilla_executed']})"
    return [
        words.method(row["method"]),
        count(row),
        format.interval(read(row, "test_metric").scaled(metric_factor), 2 if metric_factor > 1 else 4),
        format.interval(read(row, "test_loss"), 4),
        format.interval(read(row, "compute_to_convergence_executed_flop").scaled(1 / factor), digits),
        format.number(row["compute_to_convergence_nominal_flop_mean"] / factor, digits),
        compared("saving_executed_percent", 1),
        compared("saving_nominal_percent", 1),
        reached,
        compared("loss_advantage_at_equal_compute_executed", 4),
        *(format.interval(read(row, name), 1) for name in SHARES),
        format.interval(read(row, "probe_share_executed_percent"), 2),
        format.number(row["train_and_probe_seconds_mean"], 1),
        compared("train_and_probe_seconds_ratio_to_vanilla", 2),
    ]


def task_notes(rows: pd.DataFrame, tables: Tables) -> list[str]:
    """Bounds of the task and gap closed; runs that the budget ended; runs that diverged."""
    lines = []
    task, unit = rows["task"].iloc[0], rows["loss_unit"].iloc[0]
    bounds = tables.bounds(task, "test")
    if {"floor", "unigram"} <= set(bounds):
        gaps = {row["method"]: read(row, "bound_gap_closed_percent") for _, row in rows.iterrows()}
        closed = ", ".join(f"{words.method(method)} {format.interval(value, 1)} %" for method, value in gaps.items())
        lines.append(
            f"Bounds of the test loss: best possible {bounds['floor']:.4f} {unit}, unigram "
            f"{bounds['unigram']:.4f} {unit}. Share of that gap closed: {closed}."
        )
    elif "unigram" in bounds:
        lines.append(
            f"Test loss of the unigram model: {bounds['unigram']:.4f} {unit}; the best possible loss is not known."
        )
    late = [
        f"{words.method(row['method'])} {row['n_still_improving_at_end']} of {row['n_finished']}"
        for _, row in rows.iterrows()
    ]
    lines.append(
        "Runs still improving when their budget ended, so that the budget sets their compute to "
        f"convergence: {', '.join(late)}."
    )
    return lines


def notes(tables: Tables, rule: Convergence) -> list[str]:
    """What holds for every task's table."""
    lines = [
        "Compute to convergence: training plus charged probes and eigen-solves, at the first evaluation whose smoothed "
        f"validation loss (trailing mean of {rule.window}) is within {100 * rule.epsilon:g} % of that run's own best. "
        "Evaluations are not charged.",
        "Saving: 1 − geometric mean ratio to vanilla, paired by seed; its interval is of the log ratios.",
        "Intervals of metrics and shares are cut to the values that these can take.",
        f"To vanilla's best: mean compute until {1 + rule.epsilon:g} × vanilla's best smoothed loss of the same seed, "
        "over the seeds that reached it (k of the n paired ones); a mean over fewer seeds than n is a mean over the "
        "better ones.",
        "Loss advantage at equal compute: vanilla's validation loss minus the method's, at the smaller of the two "
        "final computes; positive means the method is better. Vanilla is then read before its learning-rate schedule "
        "has ended, which favours the cheaper method.",
        "Active: share of the modules that the method selected, over all steps. Reached: of all modules, those that "
        "were active and that a gradient reached in the step that ran; others do not train, selected as they may be. "
        f"{format.MISSING} where runs were recorded without it.",
        "Wall-clock: training and charged probes, the wait for batches included (seconds_data in `runs.csv`), "
        "without evaluation and without the counting of FLOPs (a counted step is taken to last as long as the next "
        "plain one); it depends on the machine and on what else ran there.",
    ]
    machines = tables.runs[["cpu", "cores", "device", "threads"]].drop_duplicates()
    names = "; ".join(
        f"{format.plain(f'{row.device}, {row.cpu}')}, {row.cores} cores, {row.threads} threads per run"
        for row in machines.itertuples()
    )
    codes = tables.runs["code_hash"].unique()
    code = f"Code {codes[0][:12]}" if len(codes) == 1 else "The code of every run is in `runs.csv`"
    return [*lines, f"Hardware: {names}. {code}."]


def _unit(rows: pd.DataFrame) -> tuple[float, str]:
    return flop_unit(rows["compute_to_convergence_executed_flop_mean"].max())


TABLE = Table(
    "results",
    "Quality, compute and saving",
    lambda given: results(given.tables, given.rules["claims"].convergence),
    lambda frame, given: markdown(frame, given.tables, given.rules["claims"].convergence),
    lambda frame, given: latex(frame, given.tables),
    reads=("runs", "claims"),
    traced=Traced(),
    place=20,
)
