"""The twin study: do the measures hold still? The same runs with one weight moved a little (nudge), beside seeds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mat.evidence.measures import levels, over_seeds
from mat.evidence.measures.curves import Convergence
from mat.evidence.runs import method_groups, metrics
from mat.evidence.runs.pooled import Tables
from mat.evidence.stats.intervals import pairs
from mat.evidence.tables.columns import EXECUTED, LEDGER
from mat.evidence.tables.record import Given, Labels, Table, Traced
from mat.evidence.tables.sections import Page, Section, both, by_task
from mat.evidence.text import format, words

TWIN = "_twin"


class Measure(NamedTuple):
    """What is compared: ``of`` a label by seed; relative spreads, in percent, are those of the logarithm."""

    name: str
    unit: str
    of: Any


def twins(tables: Tables, rule: Convergence) -> pd.DataFrame:
    """One row per task × method with a twin × measure. ``twins``: standard deviation of a run around the mean of itself
    and its twin, √(Σ d²/2n) over ``n_twins`` pairs of one seed; ``seeds``: that of the method's ``n_seeds`` runs;
    ``ratio`` of both. ``n_…`` count runs that have the measure: not every run reaches every level."""
    rows = [
        _row(tables, task, label, measure)
        for task in tables.tasks
        for label in _with_twin(tables, task)
        for measure in _measures(tables, task, rule)
    ]
    return pd.DataFrame(rows, columns=None if rows else ["scale", "task", "method"])


def _with_twin(tables: Tables, task: str) -> list[str]:
    names = [label.removesuffix(TWIN) for label in method_groups.of_groups(tables.methods(task), ["twins"])]
    return [label for label in names if label in tables.methods(task)]


def _measures(tables: Tables, task: str, rule: Convergence) -> Iterator[Measure]:
    def logs(measure: Any, *how: Any) -> Any:
        return lambda label: 100 * np.log(measure(tables, task, label, *how))

    yield Measure("compute to convergence", "%", logs(over_seeds.convergence_macs, LEDGER, rule))
    for part, level in levels.log_levels(tables, task).items():
        yield Measure(f"compute to {100 * part:g} % of vanilla's way", "%", logs(levels.to_level, level, LEDGER))
    yield Measure("best validation loss", "%", logs(over_seeds.best_losses))
    metric = tables.first(task)["metric"]
    shown = metrics.shown(metric, tables.loss_unit(task))
    yield Measure(
        f"test {metric.replace('_', ' ')}",
        "points" if shown.factor > 1 else shown.unit,
        lambda label: shown.factor * tables.finished(task, label).set_index("seed")["test_metric"],
    )
    yield Measure("active modules", "points", lambda label: over_seeds.active_share_percent(tables, task, label))


def _row(tables: Tables, task: str, label: str, measure: Measure) -> dict[str, Any]:
    own, both = measure.of(label).dropna(), pairs(measure.of(label), measure.of(label + TWIN))
    apart = both["first"] - both["second"]
    between = float(np.sqrt((apart**2).mean() / 2)) if len(both) else np.nan
    seeds = float(own.std(ddof=1)) if len(own) > 1 else np.nan
    return {
        "scale": tables.scale, "task": task, "method": label, "ledger": LEDGER, "measure": measure.name,
        "unit": measure.unit, "n_twins": len(both), "n_seeds": len(own), "twins": between, "seeds": seeds,
        "ratio": between / seeds if seeds > 0 else np.nan,
    }  # fmt: skip


def page(frame: pd.DataFrame, tables: Tables) -> Page:
    """The table to read."""
    return Page(
        "twins",
        "Do the measures hold still?",
        "Standard deviations between twins, one of whose initial weights differs by the recipe's nudge, and between "
        "seeds.",
        by_task(frame, _section, "No twins were run at this scale."),
        [
            "Between twins: √(Σ d²/2n) over the n pairs of one seed. What differs between them is rounding that grew: "
            "no cause that a claim asks for. 1 in the last column: seeds differ by no more than that.",
            "Computes and losses are compared as logarithms, so percent of themselves. A run that does not reach a "
            "level has no compute to it, and is left out there.",
        ],
    )


def _section(task: str, rows: pd.DataFrame) -> Section:
    header = ("method", "measure", "unit", "between twins (pairs)", "between seeds (n)", "twins / seeds")
    cells = [
        (words.method(row.method), row.measure, row.unit, f"{format.number(row.twins, 3)} ({row.n_twins})",
         f"{format.number(row.seeds, 3)} ({row.n_seeds})", format.number(row.ratio, 2))
        for row in rows.itertuples()
    ]  # fmt: skip
    return Section(task, f"Compute: {EXECUTED}.", header, cells)


def _behind(given: Given, row: pd.Series, _: str) -> Labels:
    """The method's runs and their twins."""
    return {(row["task"], row["method"]), (row["task"], row["method"] + TWIN)}


TABLE = Table(
    "twins",
    "Twins: the same runs with one weight moved",
    lambda given: twins(given.tables, given.rules["claims"].convergence),
    **both(lambda frame, given: page(frame, given.tables)),
    reads=("runs", "claims"),
    traced=Traced(_behind, lambda row, column: ""),
    place=26,
)
