"""Figure: what MAT gives and what it costs, against vanilla, on every task of the scale, with random beside it."""

from __future__ import annotations

from collections.abc import Collection

import common
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import styles
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mat.evidence.runs import metrics
from mat.evidence.runs.pooled import REFERENCE, Tables
from mat.evidence.stats.intervals import Interval, mean_interval, paired_difference
from mat.evidence.tables.columns import read
from mat.evidence.text import words

FIGURE = {
    "title": "Quality and saving, task by task",
    "about": (
        "Difference to vanilla in the test metric, and saving in compute to convergence, with random selection beside."
    ),
    "reads": ("results",),
    "needs": (("vanilla",), ("mat",)),
    "place": 10,
}

METHODS = ("mat", "random")
LEDGER = "executed"
ROW = 0.42  # inches per task
POINTS = "points (× 100)"
CUT = 1.2  # an interval may reach so many times beyond the means before it is cut
ZERO = {"color": "0.25", "linewidth": 0.9, "zorder": 1}


def draw(tables: Tables) -> Figure:
    """Left: difference in the test metric, a panel per unit. Right: saving in compute to convergence. A row per task,
    positive is better than vanilla in both."""
    table = tables.made.get("results")
    shown = [task for task in tables.tasks if any(gain(tables, task, name).n for name in METHODS)]
    if table is None or not shown:
        return common.nothing(tables, f"No results table, or no seed finished by {REFERENCE} and {METHODS[0]}.")
    units: dict[str, list[str]] = {}
    for task in shown:
        units.setdefault(unit_of(tables, task)[1], []).append(task)
    figure, axes = rows_of(units)
    savings = {(task, name): saving(table, task, name) for task in shown for name in METHODS}
    ends = limits(list(savings.values()))
    for (left, right), (unit, tasks) in zip(axes, units.items(), strict=True):
        names(left, tables, tasks)
        gains = {(task, name): gain(tables, task, name) for task in tasks for name in METHODS}
        panel(left, gains, tasks, limits(list(gains.values())))
        stalled = {key for key in savings if reaching(table, *key)[0] == 0}
        panel(right, {key: value for key, value in savings.items() if key[0] in tasks}, tasks, ends, stalled)
        reached(right, table, tasks)
        left.set_xlabel(f"gain over {REFERENCE}, {unit}")
    axes[0][0].set_title("quality")
    axes[0][1].set_title("compute to convergence")
    axes[-1][1].set_xlabel(f"saving against {REFERENCE}, %")
    figure.legend(handles=styles.method_handles(METHODS, tables.labels), loc="outside upper center", ncols=len(METHODS))
    common.footer(
        figure,
        f"scale {tables.scope}  ·  {common.seeds_text(tables, [REFERENCE, *METHODS])}, paired: mean with 95 % "
        "interval; arrow: it is cut",
        f"{LEDGER} ledger, charged probes included  ·  each run converges to its own best loss",
        f"better to the right in every panel  ·  right: seeds that reached {REFERENCE}'s best loss; hollow: none did, "
        "so unequal losses are compared",
    )
    return figure


def rows_of(units: dict[str, list[str]]) -> tuple[Figure, np.ndarray]:
    """A row of two panels per unit, as tall as its tasks need."""
    counts = [len(tasks) for tasks in units.values()]
    row = min(ROW, (common.PAGE - 1.0 - 0.45 * len(counts)) / sum(counts))
    figure, axes = plt.subplots(
        len(counts), 2, squeeze=False, figsize=(common.WIDTH, 1.0 + row * sum(counts) + 0.45 * len(counts)),
        height_ratios=[count + 0.25 for count in counts], width_ratios=(1, 1),
    )  # fmt: skip
    return figure, axes


def unit_of(tables: Tables, task: str) -> tuple[float, str]:
    """Factor and unit in which a difference of the task's metric is shown; negative where lower is better."""
    metric, higher = next(iter(tables.metrics(task).items()))
    shown = metrics.shown(metric, tables.loss_unit(task))
    unit = POINTS if shown.factor == 100 else shown.unit or "its own unit"
    return (1 if higher else -1) * shown.factor, unit


def gain(tables: Tables, task: str, method: str) -> Interval:
    """Test metric of ``method`` minus vanilla's, paired by seed, positive where it is better."""
    factor, _ = unit_of(tables, task)
    pair = (tables.finished(task, name).set_index("seed")["test_metric"] for name in (method, REFERENCE))
    return paired_difference(*(factor * metric for metric in pair))


def saving(table: pd.DataFrame, task: str, method: str) -> Interval:
    """Saving in compute to convergence, of the results table."""
    row, name = row_of(table, task, method), f"saving_{LEDGER}_percent"
    return mean_interval([]) if row is None else read(row, name, f"{name}_n")


def row_of(table: pd.DataFrame, task: str, method: str) -> pd.Series | None:
    rows = table[(table["task"] == task) & (table["method"] == method)]
    return None if rows.empty else rows.iloc[0]


def panel(
    ax: Axes, values: dict[tuple[str, str], Interval], tasks: list[str], ends: tuple[float, float],
    hollow: Collection[tuple[str, str]] = (),
) -> None:  # fmt: skip
    """Every value with its interval, and zero, on an axis from end to end; an interval beyond it ends in an arrow."""
    for (task, method), value in values.items():
        if not np.isfinite(value.mean):
            continue
        style, place = styles.STYLES[method], place_of(tasks.index(task), method)
        filling = {"markerfacecolor": "white"} if (task, method) in hollow else {}
        ax.errorbar(
            value.mean, place, xerr=common.bars(value), elinewidth=1.1, capsize=2, markersize=5, zorder=3,
            linestyle="none", **(style.marked | filling),
        )  # fmt: skip
        for end, beyond, marker in ((ends[0], value.low < ends[0], "<"), (ends[1], value.high > ends[1], ">")):
            if beyond:
                ax.plot(end, place, marker=marker, color=style.colour, markersize=4, clip_on=False, zorder=4)
    ax.axvline(0, **ZERO)
    ax.set_xlim(*ends)
    ax.set_ylim(len(tasks) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.set_yticks([])
    ax.grid(True, axis="x")


def limits(values: list[Interval]) -> tuple[float, float]:
    """All means and zero; of the intervals what lies within ``CUT`` spans of these."""
    means = [0.0, *(value.mean for value in values if np.isfinite(value.mean))]
    span = max(max(means) - min(means), 1e-6)
    low = max(min([*means, *(v.low for v in values if np.isfinite(v.low))]), min(means) - CUT * span)
    high = min(max([*means, *(v.high for v in values if np.isfinite(v.high))]), max(means) + CUT * span)
    return low - 0.06 * (high - low), high + 0.06 * (high - low)


def place_of(row: int, method: str) -> float:
    """The methods of a task stand below each other."""
    return row + 0.36 * (METHODS.index(method) - (len(METHODS) - 1) / 2)


def names(ax: Axes, tables: Tables, tasks: list[str]) -> None:
    """Task and metric at the left of its row."""
    for row, task in enumerate(tasks):
        metric = next(iter(tables.metrics(task))).replace("_", " ")
        ax.annotate(
            f"{words.task(task)}\n{metric}", (0, row), xycoords=("axes fraction", "data"), xytext=(-4, 0),
            textcoords="offset points", ha="right", va="center", fontsize=7.5,
        )  # fmt: skip


def reaching(table: pd.DataFrame, task: str, method: str) -> tuple[int, int]:
    """Seeds that reached vanilla's best loss, and of how many."""
    row = row_of(table, task, method)
    if row is None:
        return 0, 0
    return int(row[f"n_reached_vanilla_best_{LEDGER}"]), int(row[f"n_with_vanilla_{LEDGER}"])


def reached(ax: Axes, table: pd.DataFrame, tasks: list[str]) -> None:
    """At the right, in how many seeds each method reached vanilla's best loss at all."""
    for row, task in enumerate(tasks):
        for method in METHODS:
            count, of = reaching(table, task, method)
            if of:
                ax.annotate(
                    f"{count} of {of}", (1.0, place_of(row, method)), xycoords=("axes fraction", "data"),
                    xytext=(6, 0), textcoords="offset points", ha="left", va="center", fontsize=7,
                    color=styles.STYLES[method].colour,
                )  # fmt: skip


if __name__ == "__main__":
    common.main(draw, __file__)
