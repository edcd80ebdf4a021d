"""The sanity table: has vanilla learned each task at all, beside what is known of it, and has it converged?

The levels are in ``workflows/sanity.yaml``: per scale and task label ``metric`` (one of the task's, ``loss`` or
``gap_closed``), ``direction`` (``at_least`` or ``at_most``), ``level`` in the metric's own unit (shares, not
percent; null where nothing supports a level) and ``source``, a citation or the reason. Beside the scales the file has
two such levels for curves: of all tasks ``converged``, whose metric is ``late_improvement``, and of masked language
modelling ``left_plateau``, whose metric is ``gap_closed``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from mat.errors import InputError
from mat.evidence.measures import over_seeds
from mat.evidence.measures.curves import Convergence
from mat.evidence.runs import metrics
from mat.evidence.runs.pooled import REFERENCE, Tables
from mat.evidence.stats.intervals import CONFIDENCE, Interval, mean_interval
from mat.evidence.tables import columns
from mat.evidence.tables.columns import spread_out
from mat.evidence.tables.record import Given, RuleFile, Table
from mat.evidence.text import format, words
from mat.settings.strict import read
from mat.settings.yaml_file import read_yaml

REACHED, NOT_REACHED, NO_LEVEL, NO_RUNS = "reached", "not reached", "no level stated", "no vanilla runs"
CONVERGED, IMPROVING, PLATEAU = "converged", "still improving", "on the plateau of the unigram loss"
LATE, SMOOTHED = "late_improvement", Convergence()  # smoothed as register entry A11 has it
CURVES = {"converged": (LATE, "at_most"), "left_plateau": (metrics.GAP_CLOSED, "at_least")}
CAUSAL = "causal_lm"  # the objective that is language modelling and not masked
DIRECTIONS = {"at_least": "≥", "at_most": "≤"}


@dataclass(frozen=True)
class Level:
    """What a vanilla run must reach, in the metric's own unit; None: nothing supports a level, ``source`` says why."""

    metric: str
    direction: Literal[tuple(DIRECTIONS)]
    level: float | None
    source: str

    def holds(self, value: float) -> bool:
        """Whether ``value`` reaches the level."""
        return value >= self.level if self.direction == "at_least" else value <= self.level


class Baseline(NamedTuple):
    """A known reference value: what it is, of which metric ("loss" for losses), its value in the metric's own unit."""

    label: str
    metric: str
    value: float


class Levels(NamedTuple):
    """The file: what the curves of every task must do, and those of masked language modelling, and the levels by scale
    and task label."""

    converged: Level
    left_plateau: Level
    scales: Mapping[str, Mapping[str, Level]]


def load_levels(path: Path) -> Levels:
    """The levels. Raises InputError at the first thing that is wrong."""
    content = read_yaml(path)
    if not isinstance(content, dict) or not all(isinstance(tasks, dict) for tasks in content.values()):
        raise InputError(
            f"{path.name}: expected a mapping from scales to task labels with their levels, and the levels "
            f"{', '.join(CURVES)}"
        )
    curves = [_of_curves(path, name, content.pop(name, None)) for name in CURVES]
    scales = {
        scale: {task: _level(f"{path.name}: {scale}.{task}", entry) for task, entry in tasks.items()}
        for scale, tasks in content.items()
    }
    return Levels(*curves, scales)


def _of_curves(path: Path, name: str, entry: Any) -> Level:
    metric, direction = CURVES[name]
    if entry is None:
        raise InputError(f"{path.name}: '{name}' is missing, the level of {metric}")
    level = _level(f"{path.name}: {name}", entry)
    if (level.metric, level.direction) != CURVES[name] or level.level is None:
        raise InputError(f"{path.name}: {name}: expected metric {metric}, direction {direction} and a number as level")
    return level


def _level(where: str, entry: Any) -> Level:
    level = read(Level, entry, where)
    if not level.source.strip():
        raise InputError(f"{where}.source: expected a citation or the reason, got nothing")
    return level


def levels_of(path: Path, scale: str, tasks: Iterable[str]) -> dict[str, Level] | None:
    """The levels of ``scale``, whose config has these task labels; None without an entry.

    Raises InputError for a label that the config does not have.
    """
    found, tasks = load_levels(path).scales.get(scale), list(tasks)
    unknown = [label for label in found or {} if label not in tasks]
    if unknown:
        raise InputError(
            f"{path.name}: {scale}.{unknown[0]} is no task of that scale's config; expected one of {', '.join(tasks)}"
        )
    return found


def _stated(given: Given) -> Mapping[str, Level]:
    """The levels of the scale. Raises InputError when the file has no entry for it."""
    scale = given.tables.scale
    if scale not in given.rules["levels"].scales:
        raise InputError(f"{FILE.path} has no entry for the scale {scale}; add one")
    return given.rules["levels"].scales[scale]


def sanity(tables: Tables, stated: Mapping[str, Level], levels: Levels) -> pd.DataFrame:
    """One row per task: what its vanilla runs reached on the test split at the end, and the level.

    ``reached_…`` and ``level`` are in ``unit``; ``steps``, ``epochs``, ``minutes`` and ``cpu_minutes`` (of training
    steps) are means of the ``n`` finished runs; a level is not reached where one diverged. ``late_improvement_…``:
    percent of itself by which their smoothed validation loss fell from its best before the last fifth of the steps to
    the end, below 0 where it had passed its minimum, which lies at ``minimum`` percent of the steps; ``lowest_loss``,
    ``end_loss``: not smoothed. ``gap_closed``, of masked language modelling: percent of the gap from the unigram loss
    to the best possible one, 0 where that is not known, which the lowest closes. ``converged``: whether the loss hardly
    falls by the level ``converged`` and, where there is a gap, has closed the level ``left_plateau`` of it. Raises
    InputError for a metric that the task does not have.
    """
    return pd.DataFrame(_row(tables, task, stated.get(task)) | _end(tables, task, levels) for task in tables.tasks)


def _row(tables: Tables, task: str, stated: Level | None) -> dict[str, Any]:
    done, all_runs = tables.finished(task, REFERENCE), tables.of(task, REFERENCE)
    if stated is None:
        first, higher = next(iter(tables.metrics(task).items()))
        stated = Level(first, "at_least" if higher else "at_most", None, "")
    how, value = metrics.shown(stated.metric, tables.loss_unit(task)), reached(tables, task, stated.metric)
    verdict = NO_LEVEL if stated.level is None else _judged(tables, task, stated, value, REACHED, NOT_REACHED)
    value = value.scaled(how.factor)
    return {
        "scale": tables.scale, "task": task, "metric": stated.metric, "direction": stated.direction,
        "unit": how.unit, **spread_out("reached", value),
        "n": len(done), "n_diverged": len(all_runs) - len(done),
        "level": np.nan if stated.level is None else stated.level * how.factor, "verdict": verdict,
        "baselines": "; ".join(_say(one, tables, task) for one in baselines(tables, task, "test")),
        "steps": done["steps"].mean(), "epochs": done["epochs"].mean(),
        "minutes": done["seconds_train"].mean() / 60,
        "cpu_minutes": over_seeds.cpu_seconds(tables, task, REFERENCE).mean() / 60, "source": stated.source,
    }  # fmt: skip


def _judged(tables: Tables, task: str, level: Level, value: Interval, kept: str, missed: str) -> str:
    """Whether vanilla's runs, none of which may have diverged, keep a level in the mean."""
    done, all_runs = tables.finished(task, REFERENCE), tables.of(task, REFERENCE)
    if all_runs.empty:
        return NO_RUNS
    return kept if len(done) == len(all_runs) and level.holds(value.mean) else missed


def _end(tables: Tables, task: str, levels: Levels) -> dict[str, Any]:
    """What the curves of vanilla's finished runs on the task do at their end, beside the levels."""
    fell = mean_interval(over_seeds.late_improvement(tables, task, REFERENCE, SMOOTHED))
    lowest = over_seeds.best_losses(tables, task, REFERENCE).mean()
    end = over_seeds.final_losses(tables, task, REFERENCE).mean()
    closed = _gap_closed(tables, task, lowest)
    verdict = _judged(tables, task, levels.converged, fell, CONVERGED, IMPROVING)
    if verdict == CONVERGED and not (np.isnan(closed) or levels.left_plateau.holds(closed)):
        verdict = PLATEAU
    return {
        **spread_out("late_improvement", fell.scaled(100)),
        "minimum": over_seeds.minimum_percent(tables, task, REFERENCE, SMOOTHED).mean(),
        "lowest_loss": lowest, "end_loss": end, "gap_closed": 100 * closed, "converged": verdict,
    }  # fmt: skip


def _gap_closed(tables: Tables, task: str, loss: float) -> float:
    """Of the gap from the unigram loss to the best possible one the share that a validation loss closes; NaN for what
    is not masked language modelling. Runs recorded without their objective count as masked."""
    known = tables.bounds(task, "validation")
    if "unigram" not in known or tables.first(task).get("objective") == CAUSAL:
        return np.nan
    return (known["unigram"] - loss) / (known["unigram"] - known.get("floor", 0.0))


def reached(tables: Tables, task: str, metric: str) -> Interval:
    """The metric's mean over finished vanilla runs on the test split, in its own unit."""
    done = tables.finished(task, REFERENCE)
    if metric == metrics.GAP_CLOSED:
        if not {"floor", "unigram"} <= set(tables.bounds(task, "test")):
            raise InputError(f"{metric} needs the losses unigram and floor of {task}, which has not both; use loss")
        return over_seeds.gap_closed_percent(done).scaled(0.01)
    if metric == "loss":
        return mean_interval(done["test_loss"])
    if metric not in tables.metrics(task):
        known = ", ".join((*tables.metrics(task), "loss", metrics.GAP_CLOSED))
        raise InputError(
            f"the task {task} has no metric {metric!r}: its level must be in one of {known}; change sanity.yaml"
        )
    how = metrics.shown(metric, "")
    return mean_interval(done[f"test_{metric}"]).cut(how.low, how.high)


def baselines(tables: Tables, task: str, split: str) -> list[Baseline]:
    """What is known of the task's losses and metrics on ``split``, such as the accuracy of the largest class."""
    known = sorted(tables.bounds(task, split).items())
    return [Baseline(*metrics.of_bound(name), value) for name, value in known]


def _say(one: Baseline, tables: Tables, task: str) -> str:
    how = metrics.shown(one.metric, tables.loss_unit(task))
    digits = 1 if how.factor == 100 else 4
    return f"{one.label} {one.metric.replace('_', ' ')} {one.value * how.factor:.{digits}f} {how.unit}".rstrip()


def markdown(frame: pd.DataFrame, tables: Tables, levels: Levels) -> str:
    """The page: one row per task, what stands behind the levels, then how the curves end."""
    head = (
        "task", "metric", f"reached [{100 * CONFIDENCE:.0f} % t interval]", "n", "level", "verdict",
        "known baselines (test)", "steps", "epochs", "training, minutes", "core-minutes",
    )  # fmt: skip
    parts = [
        f"# Has vanilla learned? Scale {tables.scope}",
        f"Made by `{tables.command}`. Test split at the end of the run, mean over vanilla's finished seeds, beside the "
        "level that `workflows/sanity.yaml` fixes. A level says that a recipe works, nothing of the paper's claims.",
        format.markdown_table(head, [_cells(row) for _, row in frame.iterrows()]),
    ]
    known = [row for row in frame.itertuples() if row.source]
    if known:
        parts.append("\n".join(f"- {format.bold(words.task(row.task))}: {row.source}" for row in known))
    head = (
        "task", "lowest validation loss", "smoothed, at % of the steps", "loss at the end", "fell in the last fifth, %",
        "of the unigram loss closed, %", "verdict",
    )  # fmt: skip
    parts += [
        "## Has it converged?",
        f"{CONVERGED.capitalize()} where the validation loss, smoothed as A11 has it, falls from its best before the "
        f"last fifth of the steps to the end by at most {100 * levels.converged.level:g} % of itself (below 0: it had "
        "passed its minimum), and in masked language modelling its lowest closes at least "
        f"{100 * levels.left_plateau.level:g} % of the gap from the unigram loss to the best possible one (to 0 where "
        "that is not known); mean over vanilla's seeds, none of which may diverge. Claims about convergence whose "
        "entry says so are not tested where it has not.",
        format.markdown_table(head, [_end_cells(row) for _, row in frame.iterrows()]),
        levels.converged.source.strip(),
        levels.left_plateau.source.strip(),
        f"Trained {_machines(tables)}.",
    ]
    return "\n\n".join(parts)


def _machines(tables: Tables) -> str:
    """What computed vanilla's runs, in words."""
    runs = tables.runs[tables.runs["method"] == REFERENCE]
    seen = runs.groupby(["cpu", "cores", "device", "threads"], dropna=False).size().reset_index()
    where = [f"on {r.cpu}, {r.cores:g} cores ({r.device}), {r.threads} threads a run" for r in seen.itertuples()]
    return f"{format.listed(where)}, with torch {format.listed(sorted(set(runs['version_torch'])))}"


def _end_cells(row: pd.Series) -> tuple[str, ...]:
    fell = columns.read(row, "late_improvement", "n")
    return (
        words.task(row["task"]), format.number(row["lowest_loss"], 4), format.number(row["minimum"], 0),
        format.number(row["end_loss"], 4), format.interval(fell, 2), format.number(row["gap_closed"], 1),
        format.bold(row["converged"]),
    )  # fmt: skip


def _cells(row: pd.Series) -> tuple[str, ...]:
    digits = 2 if row["unit"] in ("%", "× 100") else 4
    diverged = f" (+{row['n_diverged']} diverged)" if row["n_diverged"] else ""
    level = format.MISSING
    if np.isfinite(row["level"]):
        level = f"{DIRECTIONS[row['direction']]} {format.number(row['level'], digits)}"
    return (
        words.task(row["task"]), metrics.named(row["metric"], row["unit"]),
        format.interval(columns.read(row, "reached", "n"), digits),
        f"{row['n']}{diverged}", level, format.bold(row["verdict"]), row["baselines"] or format.MISSING,
        format.number(row["steps"], 0), format.number(row["epochs"], 1), format.number(row["minutes"], 2),
        format.number(row["cpu_minutes"], 2),
    )  # fmt: skip


FILE = RuleFile("levels", "workflows/sanity.yaml", load_levels)
TABLE = Table(
    "sanity",
    "What vanilla reached, beside its levels",
    lambda given: sanity(given.tables, _stated(given), given.rules["levels"]),
    lambda frame, given: markdown(frame, given.tables, given.rules["levels"]),
    reads=("runs", "levels"),
    needs="levels",
    place=40,
)
