"""What tells modules apart in λ_max: their kind, their layer, or they themselves; and does their order last?"""

from __future__ import annotations

import pandas as pd

from mat.evidence.measures import spectra
from mat.evidence.runs.pooled import REFERENCE, Tables
from mat.evidence.stats.intervals import Interval, mean_interval
from mat.evidence.tables.record import MEAN, Given, Labels, Table, Traced
from mat.evidence.tables.sections import Page, Section, both
from mat.evidence.text import format, words

SHARE, TAU = "%", "Kendall τ_b"
LIMITS = {SHARE: (0, 100), TAU: (-1, 1)}  # which a t interval does not know
UNITS = {"kind": SHARE, "layer": SHARE, "module": SHARE, "order, from probe to probe": TAU, "order, first to last": TAU}


def lambda_max(tables: Tables) -> pd.DataFrame:
    """One row per task × measure, of the runs of vanilla, which observes all modules and trains them alike; without
    them of the first other method that measured λ_max. ``mean``, ``low``, ``high``: over ``n`` seeds."""
    rows = [
        {"scale": tables.scale, "task": task, "method": label, "measure": name, "unit": unit, **_numbers(value)}
        for task in tables.tasks
        for label, seeds in (_observed(tables, task),)
        for name, unit in UNITS.items()
        if seeds
        for value in (mean_interval(seed[name] for seed in seeds.values()).cut(*LIMITS[unit]),)
    ]
    return pd.DataFrame(rows, columns=None if rows else ["scale", "task", "method"])


def _observed(tables: Tables, task: str) -> tuple[str, dict[int, dict[str, float]]]:
    """The method whose probes are read, and its measures by seed; none where no method measured λ_max."""
    for label in (REFERENCE, *(label for label in tables.methods(task) if label != REFERENCE)):
        if seeds := _by_seed(tables, task, label):
            return label, seeds
    return "", {}


def _by_seed(tables: Tables, task: str, label: str) -> dict[int, dict[str, float]]:
    """Of every run that measured λ_max."""
    probes = {int(run["seed"]): tables.probes_of(run["run"]) for run in tables.finished_runs(task, label)}
    return {seed: _measures(found) for seed, found in probes.items() if spectra.has_spectra(found)}


def _measures(probes: pd.DataFrame) -> dict[str, float]:
    """One run's ``UNITS``; the parts of the variance are together 100 %."""
    parts = (100 * part for part in spectra.variance_parts(probes).values())
    orders = (spectra.order_kept(probes, step) for step in (1, None))
    return dict(zip(UNITS, (*parts, *orders), strict=True))


def _numbers(value: Interval) -> dict[str, float]:
    return {"mean": value.mean, "low": value.low, "high": value.high, "n": value.n}


def page(frame: pd.DataFrame, tables: Tables) -> Page:
    """The table to read."""
    return Page(
        "lambda_max",
        "What tells modules apart in λ_max?",
        "How much of what modules differ by is known before anything is measured: their kind, and their layer.",
        [_section(frame) if len(frame) else Section("Not tested", "No run measured λ_max at this scale.")],
        [
            "Kind, layer, module: shares of the variance of log λ_max over the modules of one probe, mean over probes: "
            "between kinds, between layers within a kind, and within both. Together 100 %. A module whose λ_max is 0 "
            "is left out.",
            "Order: Kendall's τ_b between the λ_max of all modules at two probes; 1: the same order.",
            "X11 asks the same of training: is anything lost when λ_max is shuffled within kind and layer?",
        ],
    )


def _section(frame: pd.DataFrame) -> Section:
    header = ("task", "method", "n", *(f"{name}, {unit}" for name, unit in UNITS.items()))
    cells = []
    for task, rows in frame.groupby("task", sort=False):
        by_name = rows.set_index("measure")
        values = [
            format.interval(Interval(*by_name.loc[name, ["mean", "low", "high"]]), 1 if unit == SHARE else 2)
            for name, unit in UNITS.items()
        ]
        method = words.method(rows["method"].iloc[0])
        cells.append((words.task(task), method, str(rows["n"].max()), *values))
    return Section("By task", "Mean [95 % t interval] over n seeds; no ledger.", header, cells)


def _behind(given: Given, row: pd.Series, _: str) -> Labels:
    return {(row["task"], row["method"])}


def _seeds(tables: Tables, row: pd.Series, _: str) -> dict[int, float]:
    return {seed: found[row["measure"]] for seed, found in _by_seed(tables, row["task"], row["method"]).items()}


TABLE = Table(
    "lambda_max",
    "What tells modules apart in λ_max",
    lambda given: lambda_max(given.tables),
    **both(lambda frame, given: page(frame, given.tables)),
    traced=Traced(_behind, lambda row, column: MEAN if column == "mean" else "", by_seed=_seeds),
    place=51,
)
