"""How long runs are."""

import pandas as pd

from mat.evidence.stats.intervals import mean_interval
from mat.evidence.tables.columns import spread_out
from mat.evidence.tables.record import Table, Traced


def lengths(tables):
    rows = []
    for task in tables.tasks:
        for method in tables.methods(task):
            row = {"task": task, "method": method, "n_finished": len(tables.finished(task, method))}
            rows.append(row | spread_out("length_steps", mean_interval(tables.finished(task, method)["steps"])))
    return pd.DataFrame(rows)


TABLE = Table(
    "lengths",
    "How long runs are",
    lambda given: lengths(given.tables),
    lambda frame, given: f"# Lengths\n\nThe longest takes {frame['length_steps_mean'].max():g} steps.",
    texts=("task", "method"),
    traced=Traced(),
    place=5,
)
