"""What tells modules apart in λ_max: their kind, their layer, or they themselves; and does their order last?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from mat.evidence.measures import spectra
from mat.evidence.runs.pooled import REFERENCE, Tables
from mat.evidence.stats.intervals import Interval, mean_interval
from mat.evidence.tables.record import MEAN, Given, Labels, Table, Traced
from mat.evidence.tables.sections import Page, Section, both
from mat.evidence.text import format, words

SHARE, TAU = "%", "Kendall τ_b"
LIMITS = {SHARE: (0, 100), TAU: (-1, 1)}  # which a t interval does not know
# a run's probes in, a number out; the parts of the variance are together 100 %
MEASURES: dict[str, tuple[str, Callable[[pd.DataFrame], float]]] = {
    "kind": (SHARE, lambda probes: 100 * spectra.variance_parts(probes)["kind"]),
    "layer": (SHARE, lambda probes: 100 * spectra.variance_parts(probes)["layer"]),
    "module": (SHARE, lambda probes: 100 * spectra.variance_parts(probes)["module"]),
    "order, from probe to probe": (TAU, lambda probes: spectra.order_kept(probes, step=1)),
    "order, first to last": (TAU, lambda probes: spectra.order_kept(probes, step=None)),
}


def lambda_max(tables: Tables) -> pd.DataFrame:
    """One row per task × measure, of the runs of vanilla, which observes all modules and trains them alike; without
    them of the first other method that measured λ_max. ``mean``, ``low``, ``high``: over ``n`` seeds."""
    rows = [
        {"scale": tables.scale, "task": task, "method": label, "measure": name, "unit": unit, **_numbers(value)}
        for task in tables.tasks
        if (label := _observed(tables, task))
        for name, (unit, measure) in MEASURES.items()
        for value in (mean_interval(_by_seed(tables, task, label, measure).values()).cut(*LIMITS[unit]),)
    ]
    return pd.DataFrame(rows, columns=None if rows else ["scale", "task", "method"])


def _observed(tables: Tables, task: str) -> str:
    """The method whose probes are read; "" where none measured λ_max."""
    labels = [REFERENCE, *(label for label in tables.methods(task) if label != REFERENCE)]
    return next((label for label in labels if _with_spectra(tables, task, label)), "")


def _with_spectra(tables: Tables, task: str, label: str) -> list[Any]:
    return [run for run in tables.finished_runs(task, label) if spectra.has_spectra(tables.probes_of(run["run"]))]


def _by_seed(tables: Tables, task: str, label: str, measure: Callable[[pd.DataFrame], float]) -> dict[int, float]:
    return {int(run["seed"]): measure(tables.probes_of(run["run"])) for run in _with_spectra(tables, task, label)}


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
    header = ("task", "method", "n", *(f"{name}, {unit}" for name, (unit, _) in MEASURES.items()))
    cells = []
    for task, rows in frame.groupby("task", sort=False):
        by_name = rows.set_index("measure")
        values = [
            format.interval(Interval(*by_name.loc[name, ["mean", "low", "high"]]), 1 if unit == SHARE else 2)
            for name, (unit, _) in MEASURES.items()
        ]
        method = words.method(rows["method"].iloc[0])
        cells.append((words.task(task), method, str(rows["n"].max()), *values))
    return Section("By task", "Mean [95 % t interval] over n seeds; no ledger.", header, cells)


def _behind(given: Given, row: pd.Series, _: str) -> Labels:
    return {(row["task"], row["method"])}


def _seeds(tables: Tables, row: pd.Series, _: str) -> dict[int, float]:
    return _by_seed(tables, row["task"], row["method"], MEASURES[row["measure"]][1])


TABLE = Table(
    "lambda_max",
    "What tells modules apart in λ_max",
    lambda given: lambda_max(given.tables),
    **both(lambda frame, given: page(frame, given.tables)),
    traced=Traced(_behind, lambda row, column: MEAN if column == "mean" else "", by_seed=_seeds),
    place=51,
)
