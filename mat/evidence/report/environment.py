"""What stands behind the numbers: seeds, hours, machines, versions, code, and the cards of the methods."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pandas as pd

from mat.evidence.runs.pooled import REFERENCE, Tables
from mat.evidence.tables.columns import read
from mat.evidence.text import format, words
from mat.records.costs import flop_unit

SPENT = ("seconds_train", "seconds_probe", "seconds_eval")  # the wait for batches is part of training
MOST_RUNS, MOST_SEEDS = 240, 24  # that a page lists one by one: it does not grow with the number of runs


def hours(tables: Tables) -> float:
    """Hours of training, probes and evaluation, over all runs."""
    return float(tables.runs[list(SPENT)].sum().sum()) / 3600


def scope(tables: Tables) -> str:
    """How many runs of what, over which seeds, in one sentence."""
    runs = tables.runs
    diverged = int((runs["status"] == "diverged").sum())
    return (
        f"{_count(len(runs), 'run')} of {_count(runs['task'].nunique(), 'task')} and "
        f"{_count(runs['method'].nunique(), 'method')}, seeds {seeds(runs, ', ')}; {diverged} diverged; "
        f"{hours(tables):.2f} hours of training, probes and evaluation."
    )


def spent(tables: Tables) -> str:
    """Runs, seeds and hours by task and method."""
    rows = []
    for (task, method), runs in tables.runs.groupby(["task", "method"], sort=True):
        parts = runs[list(SPENT)].sum() / 3600
        rows.append(
            (task, method, seeds(runs, " "), str((runs["status"] == "diverged").sum()),
             *(f"{value:.3f}" for value in parts), f"{parts.sum():.3f}")
        )  # fmt: skip
    total = tables.runs[list(SPENT)].sum() / 3600
    diverged = str((tables.runs["status"] == "diverged").sum())
    rows.append(("all", "", "", diverged, *(f"{value:.3f}" for value in total), f"{total.sum():.3f}"))
    header = ("task", "method", "seeds", "diverged", "training, h", "probes, h", "evaluation, h", "sum, h")
    return format.markdown_table(header, rows)


def machines(tables: Tables) -> str:
    """Which hardware the runs saw, and the versions of what computed."""
    runs = tables.runs
    seen = runs.groupby(["device", "cpu", "cores", "threads"], dropna=False).size().reset_index(name="runs")
    rows = [(r.device, r.cpu, f"{r.cores:g}", str(r.threads), str(r.runs)) for r in seen.itertuples()]
    table = format.markdown_table(("device", "processor", "cores", "threads per run", "runs"), rows)
    versions = [
        (name.removeprefix("version_"), ", ".join(sorted(set(map(str, runs[name].dropna())))))
        for name in runs.columns[runs.columns.str.startswith("version_")]
    ]
    return "\n\n".join([table, format.markdown_table(("package", "version"), versions)])


def listing(tables: Tables) -> str:
    """The first ``MOST_RUNS`` runs in a few columns; all of them, and all columns, are in ``runs.csv``."""
    rows = []
    for run in tables.runs.head(MOST_RUNS).itertuples():
        rows.append(
            (run.run, run.task, run.method, str(run.seed), run.status,
             f"{run.metric} {run.test_metric:.4g}",
             f"{run.test_loss:.4g} {run.loss_unit}", str(run.steps),
             f"{run.seconds_train + run.seconds_probe + run.seconds_eval:.1f}", run.spec_hash)
        )  # fmt: skip
    header = ("run", "task", "method", "seed", "status", "test metric", "test loss", "steps", "seconds")
    table, more = format.markdown_table((*header, "specification"), rows), len(tables.runs) - len(rows)
    return f"{table}\n\nAnd {more} more, in `runs.csv`." if more else table


def in_short(results: pd.DataFrame) -> str:
    """The results table in its few columns that answer most questions; those it does not have are left out."""
    compute = "compute_to_convergence_executed_flop"
    factor, unit = flop_unit(results[f"{compute}_mean"].max() if f"{compute}_mean" in results.columns else 1)
    shown = {
        "test metric": ("test_metric", 4), f"compute to convergence, {unit}": (compute, 3),
        "saving, %": ("saving_executed_percent", 1), "to vanilla's best": None,
        "modules active, %": ("active_share_percent", 1), "reached, %": ("reached_share_percent", 1),
        "probes, %": ("probe_share_executed_percent", 1),
        "time / vanilla": ("train_and_probe_seconds_ratio_to_vanilla", 2),
    }  # fmt: skip
    shown = {name: how for name, how in shown.items() if how is None or f"{how[0]}_mean" in results.columns}
    header = ("task", "method", "n", "metric", *shown)
    rows = []
    for _, row in results.iterrows():
        cells = [_reached(row) if how is None else _shown(row, *how, factor) for how in shown.values()]
        metric = str(row["metric"]).replace("_", " ")
        named = words.task(row["task"]), words.method(row["method"])
        rows.append((*named, str(row["n_finished"]), metric, *cells))
    return format.markdown_table(header, rows)


def method_cards(folder: Path) -> list[tuple[str, str, str]]:
    """(file name, first sentence, the rest) of the card of every method: the docstring of a file that has a ``METHOD``,
    read, not run."""
    cards = []
    for path in sorted(folder.glob("*.py")):
        file = ast.parse(path.read_text(encoding="utf-8"))
        card = ast.get_docstring(file)
        named = {getattr(name, "id", "") for node in file.body if isinstance(node, ast.Assign) for name in node.targets}
        if card and "METHOD" in named:
            first, _, rest = inspect.cleandoc(card).partition("\n\n")
            cards.append((path.stem, " ".join(first.split()), rest))
    return cards


def _shown(row: pd.Series, name: str, decimals: int, factor: float) -> str:
    value = read(row, name)
    if name.endswith("_flop"):
        value = value.scaled(1 / factor)
        decimals = format.decimals_for(value.mean)
    if row["method"] == REFERENCE and ("saving" in name or "ratio" in name):
        return format.MISSING
    return format.interval(value, decimals)


def _reached(row: pd.Series) -> str:
    if "n_reached_vanilla_best_executed" not in row.index:
        return format.MISSING
    return f"{row['n_reached_vanilla_best_executed']} of {row['n_with_vanilla_executed']}"


def seeds(runs: pd.DataFrame, separator: str) -> str:
    """The seeds one by one, or the least and the largest of many."""
    seeds = sorted(runs["seed"].unique())
    if len(seeds) > MOST_SEEDS:
        return f"{seeds[0]} to {seeds[-1]} ({len(seeds)} of them)"
    return separator.join(map(str, seeds))


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
