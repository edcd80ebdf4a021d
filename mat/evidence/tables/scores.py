"""The scores table: every metric of every task and method on the test split, and GLUE's average where there is one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from mat.errors import InputError
from mat.evidence.measures.glue_average import AVERAGED, mean_score
from mat.evidence.runs import metrics
from mat.evidence.runs.pooled import Tables
from mat.evidence.stats.intervals import CONFIDENCE, Interval, mean_interval
from mat.evidence.tables.record import MEAN, Given, Labels, Table, Traced
from mat.evidence.text import format, words

GLUE = "glue"  # the task's name, and the label of the average in the table
HEADER = ("task", "metric", "better", "method", f"mean [{100 * CONFIDENCE:.0f} % t interval]", "n")
UNITS = (
    "Accuracies and F1 in %; Matthews, Pearson and Spearman correlations and combined scores times 100, as GLUE gives "
    "them; the rest in the unit named."
)


def scores(tables: Tables) -> pd.DataFrame:
    """One row per task × metric × method, then one per method for the average over GLUE's tasks.

    ``mean``, ``low``, ``high`` are in ``unit`` ("× 100": times 100; "": a plain number), over the ``n`` finished seeds
    with a value. ``tasks`` and ``missing``: of an average over GLUE's tasks.
    """
    rows = [
        _row(tables, task, method, metric, higher)
        for task in tables.tasks
        for metric, higher in tables.metrics(task).items()
        for method in tables.methods(task)
    ]
    return pd.DataFrame(rows + _averages(tables))


def _row(tables: Tables, task: str, method: str, metric: str, higher: bool) -> dict[str, Any]:
    how = metrics.shown(metric, tables.loss_unit(task))
    value = mean_interval(tables.finished(task, method)[f"test_{metric}"]).cut(how.low, how.high)
    return _cells(tables, task, metric, higher, method, how.unit, value.scaled(how.factor))


def _cells(
    tables: Tables, task: str, metric: str, higher: bool, method: str, unit: str, value: Interval, **more: str
) -> dict[str, Any]:
    row = {
        "scale": tables.scale, "task": task, "metric": metric, "higher_is_better": higher, "method": method,
        "unit": unit, "mean": value.mean, "low": value.low, "high": value.high, "n": value.n,
    }  # fmt: skip
    return row | {"tasks": "", "missing": ""} | more


def glue_labels(tables: Tables) -> dict[str, list[str]]:
    """The task labels of every one of GLUE's tasks that was run: subset → labels."""
    found: dict[str, list[str]] = {}
    for task in tables.tasks:
        first = tables.first(task)
        if first["task_name"] == GLUE and first["subset"] in AVERAGED:
            found.setdefault(first["subset"], []).append(task)
    return found


def counted_labels(labels: dict[str, list[str]]) -> dict[str, str] | None:
    """The one label of every subset that counts: its only one, or of several the one that is called like the subset
    itself; None where several are there and none is: then there is no one score of it."""
    found = {subset: subset if subset in tasks else tasks[0] for subset, tasks in labels.items()}
    clear = all(len(tasks) == 1 or subset in tasks for subset, tasks in labels.items())
    return found if clear else None


def _averages(tables: Tables) -> list[dict[str, Any]]:
    """A row per method with the average over those of GLUE's tasks that it has runs of: the mean of each task's mean
    metric, by seeds that finished all of them. Only the average over all nine is called GLUE's score.

    None where it is not clear which label of a task counts (``counted_labels``).
    """
    labels = counted_labels(glue_labels(tables))
    if labels is None:
        return []
    rows = []
    for method in _methods(tables, labels.values()):
        runs = {
            subset: tables.finished(labels[subset], method).set_index("seed")
            for subset in AVERAGED
            if subset in labels and method in tables.methods(labels[subset])
        }
        seeds = sorted(set.intersection(*(set(found.index) for found in runs.values())))
        averages = [
            mean_score({subset: _official(subset, found.loc[seed]) for subset, found in runs.items()}) for seed in seeds
        ]
        missing = [subset for subset in AVERAGED if subset not in runs]
        name = f"average over {len(runs)} of {len(AVERAGED)} tasks" if missing else "GLUE score"
        value = mean_interval(averages).cut(-1, 1).scaled(100)
        more = {"tasks": " ".join(runs), "missing": " ".join(missing)}
        rows.append(_cells(tables, GLUE, name, True, method, "× 100", value, **more))
    return rows


def _official(subset: str, run: pd.Series) -> dict[str, float]:
    """The metrics of a run that count. Raises InputError where the task does not report one."""
    absent = [name for name in AVERAGED[subset] if f"test_{name}" not in run]
    if absent:
        raise InputError(
            f"GLUE's task {subset} is scored by {', '.join(AVERAGED[subset])}; {run['run']} does not report {absent[0]}"
        )
    return {name: float(run[f"test_{name}"]) for name in AVERAGED[subset]}


def _methods(tables: Tables, tasks: Iterable[str]) -> list[str]:
    """Methods with runs on any of the tasks, in their fixed order."""
    return list(dict.fromkeys(method for task in tasks for method in tables.methods(task)))


def markdown(frame: pd.DataFrame, tables: Tables) -> str:
    """The page: all scores, then GLUE's average and what it lacks."""
    own, averages = frame[frame["tasks"] == ""], frame[frame["tasks"] != ""]
    parts = [
        f"# Scores at scale {tables.scope}",
        f"Made by `{tables.command}` from the runs listed in `runs.csv`. Test split, at the end of the run. {UNITS}",
        format.markdown_table(HEADER, _lines(own, tables)),
    ]
    labels = glue_labels(tables)
    if labels:
        parts += ["## GLUE", _glue_text(labels)]
    if len(averages):
        parts.append(format.markdown_table(HEADER, _lines(averages, tables)))
        parts += _missing(averages)
    return "\n\n".join(parts)


def _missing(averages: pd.DataFrame) -> list[str]:
    """One list of what the averages lack, methods that lack the same together; none where nothing is missing."""
    lines = [
        f"- Not run by {', '.join(rows['method'])}: {missing.replace(' ', ', ')}."
        for missing, rows in averages.groupby("missing", sort=False)
        if missing
    ]
    return ["\n".join(lines)] if lines else []


def _glue_text(labels: dict[str, list[str]]) -> str:
    twice = [f"{subset} ({', '.join(tasks)})" for subset, tasks in labels.items() if len(tasks) > 1]
    if counted_labels(labels) is None:
        return f"No average: more than one label trains {'; '.join(twice)}, and none is called like the task."
    left = f" Of {'; '.join(twice)} the label that is called like the task counts." if twice else ""
    return (
        "Mean over tasks of each task's mean of its official metrics, on the test splits of the tasks here; GLUE's own "
        "score is over all nine tasks, on test labels that are not public. Over seeds that finished every task." + left
    )


def latex(frame: pd.DataFrame, tables: Tables) -> str:
    """One ``table*`` of all scores."""
    about = f"Scores on the test split. Scale {tables.scope}. {UNITS} Made by: {tables.command}"
    table = format.latex_table(HEADER, _lines(frame, tables), about, f"tab:{tables.scale}-scores")
    return f"% Needs the packages booktabs and graphicx.\n% Made by: {tables.command}\n\n{table}"


def _lines(frame: pd.DataFrame, tables: Tables) -> list[tuple[str, ...]]:
    lines = []
    for row in frame.itertuples():
        value = Interval(row.mean, row.low, row.high, row.n)
        digits = 2 if row.unit in ("%", "× 100") else 4
        better = "higher" if row.higher_is_better else "lower"
        title = metrics.named(row.metric, row.unit)
        lines.append(
            (words.task(row.task), title, better, words.method(row.method), format.interval(value, digits), str(row.n))
        )
    return lines


def _behind(given: Given, row: pd.Series, _: str) -> Labels:
    """The method's runs of the task, or of every task that an average is over."""
    if row["task"] in given.tables.tasks and not row["tasks"]:
        return {(row["task"], row["method"])}
    labels = counted_labels(glue_labels(given.tables)) or {}
    return {(labels[subset], row["method"]) for subset in row["tasks"].split() if subset in labels}


TABLE = Table(
    "scores",
    "Every metric on the test split",
    lambda given: scores(given.tables),
    lambda frame, given: markdown(frame, given.tables),
    lambda frame, given: latex(frame, given.tables),
    traced=Traced(_behind, lambda _, column: MEAN if column == "mean" else "", "mean"),
    place=30,
)
