"""The replay table: the share of modules that MAT's modular policy would select, over α, threshold and scope.

It is of recorded spectra, so readings can be chosen by it before any of them is trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from mat.evidence.measures.over_seeds import Row
from mat.evidence.measures.replay import Trajectory, selections, shares, trajectory
from mat.evidence.runs.pooled import REFERENCE, Tables
from mat.evidence.tables.record import RUNS, SPECTRA, Table
from mat.evidence.text import format, words
from mat.methods.mat import MAT

ALPHAS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.34, 0.5, 0.75)
OF_SPECTRUM = ("rank", "top")
THRESHOLDS = (*OF_SPECTRUM, "quantile", "share")
SCOPES = {"all": None, "kind": "kind", "layer": "layer"}
SAID = {"all": "all modules together", "kind": "each kind by itself", "layer": "whole layers"}
THIRDS = ("first", "middle", "last")
LANDS = (20.0, 50.0)  # percent of the modules
FIRST = (REFERENCE, "mat")  # trajectories, before any other method's
COLUMNS = (
    *("scale", "task", "trajectory", "n", "modules", "scope", "threshold", "alpha", "active_percent"),
    *(f"active_percent_{name}" for name in THIRDS),
    *("lands", "frozen_percent"),
)


def replay(tables: Tables) -> pd.DataFrame:
    """One row per task × scope × threshold × α: percent of the modules, mean over ``n`` seeds and over the run's steps,
    and over each third of them. ``lands``: whether the mean is within ``LANDS``. ``frozen_percent``: of the modules,
    those that the temporal policy by its default β has frozen at the end, whatever the threshold."""
    rows = [row for task in tables.tasks for row in _of_task(tables, task)]
    return pd.DataFrame(rows, columns=COLUMNS)


def trajectories(tables: Tables, task: str) -> tuple[str, list[Trajectory]]:
    """The method whose finished runs are replayed, and what they saw; none where no run has its spectra."""
    for method in (*FIRST, *(name for name in tables.methods(task) if name not in FIRST)):
        runs: list[Row] = list(tables.finished_runs(task, method))
        if found := [seen for run in runs if (seen := trajectory(tables, run)) is not None]:
            return method, found
    return "", []


def _of_task(tables: Tables, task: str) -> Iterator[dict[str, Any]]:
    method, seen = trajectories(tables, task)
    if not seen:
        return
    kinds = set(seen[0].kind.values())
    for scope in (name for name in SCOPES if name != "kind" or len(kinds) > 1):
        temporal = MAT(policy="temporal", scope=SCOPES[scope])
        frozen = [len(selections(one, temporal)[-1].frozen) / len(one.modules) for one in seen]
        for threshold, alpha in product(THRESHOLDS, ALPHAS):
            modular = MAT(alpha=alpha, policy="modular", threshold=threshold, scope=SCOPES[scope])
            thirds = 100 * np.mean([shares(one, selections(one, modular), len(THIRDS)) for one in seen], axis=0)
            active = float(thirds.mean())  # of equal parts
            yield {
                "scale": tables.scale, "task": task, "trajectory": method, "n": len(seen),
                "modules": len(seen[0].modules), "scope": scope, "threshold": threshold, "alpha": alpha,
                "active_percent": active,
                **{f"active_percent_{name}": value for name, value in zip(THIRDS, thirds, strict=True)},
                "lands": LANDS[0] <= active <= LANDS[1], "frozen_percent": 100 * float(np.mean(frozen)),
            }  # fmt: skip


def markdown(frame: pd.DataFrame, tables: Tables) -> str:
    """The page: a table per task, α from left to right; and what lands."""
    without = [task for task in tables.tasks if task not in set(frame["task"])]
    parts = [
        f"# Replay at scale {tables.scope}",
        f"Made by `{tables.command}` from the runs listed in `runs.csv` and the spectra of their probes. Percent of "
        "the modules that MAT's modular policy would select: the mean over the run's steps and, in brackets, over its "
        f"first, middle and last third; **bold** from {LANDS[0]:g} to {LANDS[1]:g}. Nothing was trained: modules "
        "are chosen by the kernels of the run that is named, which trained as it did and not as the replay would. "
        "No compute is counted.",
    ]
    if without:
        parts.append(
            f"Not in it, because no finished run has its spectra recorded: {format.listed(map(words.task, without))}."
        )
    return "\n\n".join([*parts, *(_section(task, rows) for task, rows in frame.groupby("task", sort=False))])


def _section(task: str, rows: pd.DataFrame) -> str:
    first, lines = rows.iloc[0], []
    for (scope, threshold), own in rows.groupby(["scope", "threshold"], sort=False):
        lines.append((SAID[scope], threshold, *(_cell(row) for row in own.sort_values("alpha").to_dict("records"))))
    header = ("compared", "threshold", *(f"α = {alpha:g}" for alpha in ALPHAS))
    frozen = rows.drop_duplicates("scope")
    by_scope = (f"{format.number(row['frozen_percent'], 0)} % ({SAID[row['scope']]})" for _, row in frozen.iterrows())
    landing = [
        f"{SAID[scope]}, {threshold}: α = {', '.join(f'{alpha:g}' for alpha in own.loc[own['lands'], 'alpha'])}"
        for (scope, threshold), own in rows.groupby(["scope", "threshold"], sort=False)
        if threshold in OF_SPECTRUM and own["lands"].any()
    ]
    return "\n\n".join(
        [
            f"## {words.heading(task)}",
            f"The trajectory is {format.plain(words.method(first['trajectory']))}'s, n = {first['n']}, "
            f"{first['modules']} modules. The temporal policy would have frozen by its end, β = {MAT().beta:g}: "
            f"{', '.join(by_scope)}.",
            format.markdown_table(header, lines),
            f"From {LANDS[0]:g} to {LANDS[1]:g} % active by a τ of the spectrum: {'; '.join(landing) or 'none'}. The "
            "other thresholds select α of what they compare, whatever its spectrum.",
        ]
    )


def _cell(row: dict[str, Any]) -> str:
    thirds = ", ".join(format.number(row[f"active_percent_{name}"], 0) for name in THIRDS)
    text = f"{format.number(row['active_percent'], 0)} ({thirds})"
    return format.bold(text) if row["lands"] else text


TABLE = Table(
    "replay",
    "What other readings would select",
    lambda given: replay(given.tables),
    lambda frame, given: markdown(frame, given.tables),
    about="The active share over α, threshold, scope and time, replayed from recorded spectra; nothing is trained.",
    reads=(RUNS, SPECTRA),
    place=145,
)
