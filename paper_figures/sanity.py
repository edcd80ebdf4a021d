"""Figure: has vanilla learned, and has it converged? Its losses and metric over epochs on every task, beside the level
and what is known."""

from __future__ import annotations

import common
import numpy as np
import pandas as pd
import styles
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from mat.evidence.measures.curves import LAST, minimum_row
from mat.evidence.runs import metrics
from mat.evidence.runs.pooled import REFERENCE, Tables
from mat.evidence.tables.sanity import DIRECTIONS, SMOOTHED, baselines
from mat.evidence.text import words

FIGURE = {
    "title": "What vanilla learned",
    "about": (
        "Vanilla's training and validation loss and its metric over epochs, beside the level stated and what else is "
        "known; where the validation loss was lowest, and the last fifth of the steps, which decides whether it has "
        "converged."
    ),
    "reads": ("sanity",),
    "held": "{seeds}; no ledger.",
    "place": 150,
}

LOSSES = {"train_loss": ("training", styles.ORANGE, "--"), "val_loss": ("validation", styles.BLACK, "-")}
LEVEL = {"color": styles.VERMILION, "linewidth": 1.1, "zorder": 1}
FIFTH = {"color": "0.92", "linewidth": 0, "zorder": 0}
MINIMUM = {"color": styles.BLUE, "marker": "v", "markersize": 4, "linestyle": "none", "label": "lowest validation loss"}
KNOWN = {"color": "0.4", "linewidth": 0.9, "linestyle": ":", "zorder": 1}
ON_A_PAGE = 9  # tasks


def draw(tables: Tables) -> list[Figure]:
    """One pair of panels per task: losses above, the metric below; the loss alone where the metric is a loss."""
    return [page(tables, tasks) for tasks in common.pages(tables.tasks, ON_A_PAGE)]


def page(tables: Tables, tasks: list[str]) -> Figure:
    """The pairs of some tasks, with one legend."""
    figure, places = common.pairs(len(tasks), above=0.45, height=3.0)
    for task, (grid, row, column) in zip(tasks, places, strict=True):
        stated = level(tables, task)
        if shown_metric(tables, task) in metrics.LOSSES:
            axes = [figure.add_subplot(grid[row : row + 2, column])]
        else:
            axes = [figure.add_subplot(grid[row, column])]
            axes.append(figure.add_subplot(grid[row + 1, column], sharex=axes[0]))
            axes[0].tick_params(labelbottom=False)
            metric_panel(axes[1], tables, task, stated)
        loss_panel(axes[0], tables, task, stated)
        end(axes[0], tables, task)
        axes[0].set_title(f"{words.task(task)}\n{said(stated, tables.converged(task))}".strip(), fontsize=7.5)
        axes[-1].set_xlabel("epoch")
    common.legend(figure, ncols=4, handlelength=2.5)
    common.footer(
        figure,
        f"scale {tables.scope}  ·  {styles.method_name(REFERENCE)}, {common.seeds_text(tables, [REFERENCE])}: mean, "
        "and band from the lowest to the highest seed",
        "level: of the test split, as workflows/sanity.yaml fixes it  ·  dotted: known values of the validation split",
        "grey: the last fifth of the steps",
    )
    return figure


def said(stated: pd.Series | None, converged: str) -> str:
    """Whether the level was reached, and whether training converged."""
    return ", ".join(filter(None, ["" if stated is None else stated["verdict"], converged]))


def level(tables: Tables, task: str) -> pd.Series | None:
    """The task's row of the sanity table; None where there is none."""
    if "sanity" not in tables.made:
        return None
    rows = tables.made["sanity"].query("task == @task")
    return None if rows.empty else rows.iloc[0]


def shown_metric(tables: Tables, task: str) -> str:
    """The metric of the lower panel: that of the level where it is over training, else the one judged by."""
    stated = level(tables, task)
    known = tables.metrics(task)
    return stated["metric"] if stated is not None and stated["metric"] in known else next(iter(known))


def loss_panel(ax: Axes, tables: Tables, task: str, stated: pd.Series | None) -> None:
    """Training and validation loss, known losses, and the level if it is one of the loss."""
    for column, (label, colour, style) in LOSSES.items():
        curve(ax, tables, task, column, 1.0, colour, style, f"{label} loss")
    for one in baselines(tables, task, "validation"):
        if one.metric in metrics.LOSSES:
            line(ax, one.value, one.label, KNOWN)
    value = loss_level(tables, task, stated)
    if value is not None:
        line(ax, value, f"level {DIRECTIONS['at_most']} {value:.3g}", LEVEL)
    ax.set_ylabel(f"loss, {tables.loss_unit(task)}")
    ax.grid(True)


def end(ax: Axes, tables: Tables, task: str) -> None:
    """The last fifth of the steps, and where each seed's smoothed validation loss was lowest."""
    for run in tables.finished_runs(task, REFERENCE):
        rows = tables.curve(run["run"])
        ax.axvspan((1 - LAST) * rows["epoch"].iloc[-1], rows["epoch"].iloc[-1], **FIFTH)
        if (lowest := minimum_row(rows, SMOOTHED)) is not None:
            ax.plot(rows["epoch"].iloc[lowest], rows["val_loss"].iloc[lowest], **MINIMUM)


def loss_level(tables: Tables, task: str, stated: pd.Series | None) -> float | None:
    """The level as a loss: itself, or the loss that closes that share of the gap unigram → floor of the test split."""
    if stated is None or not np.isfinite(stated["level"]):
        return None
    if stated["metric"] == metrics.GAP_CLOSED:
        known = tables.bounds(task, "test")
        return known["unigram"] - stated["level"] / 100 * (known["unigram"] - known["floor"])
    return float(stated["level"]) if stated["metric"] in metrics.LOSSES else None


def metric_panel(ax: Axes, tables: Tables, task: str, stated: pd.Series | None) -> None:
    """The validation split's metric, known values of it, and the level."""
    metric, unit = shown_metric(tables, task), tables.loss_unit(task)
    factor = metrics.shown(metric, unit).factor
    curve(ax, tables, task, f"val_{metric}", factor, styles.BLUE, "-", "validation metric")
    for one in baselines(tables, task, "validation"):
        if one.metric == metric:
            line(ax, one.value * factor, one.label, KNOWN)
    if stated is not None and stated["metric"] == metric and np.isfinite(stated["level"]):
        line(ax, stated["level"], f"level {DIRECTIONS[stated['direction']]} {stated['level']:g}", LEVEL)
    ax.set_ylabel(metrics.title(metric, unit).replace("× ", "×\u00a0"))  # the factor stays whole
    ax.grid(True)


def curve(ax: Axes, tables: Tables, task: str, column: str, factor: float, colour: str, style: str, label: str) -> None:
    """Mean of a column of the curves over vanilla's finished seeds, and the band between the lowest and the highest."""
    found = []
    for run in tables.finished_runs(task, REFERENCE):
        rows = tables.curve(run["run"])[["epoch", column]].dropna()
        if len(rows):
            found.append((rows["epoch"].to_numpy(float), factor * rows[column].to_numpy(float)))
    if not found:
        ax.text(0.5, 0.5, "no finished run", ha="center", va="center", transform=ax.transAxes, fontsize=7)
        return
    band = common.band(found)
    ax.fill_between(band["x"], band["low"], band["high"], color=colour, alpha=0.18, linewidth=0)
    ax.plot(band["x"], band["mean"], color=colour, linestyle=style, label=label)


def line(ax: Axes, value: float, label: str, style: dict[str, object]) -> None:
    """A level or known value with its name at the right end."""
    ax.axhline(value, **style)
    ax.annotate(
        label, (1.0, value), xycoords=("axes fraction", "data"), xytext=(0, 1.5), textcoords="offset points",
        ha="right", va="bottom", fontsize=7, color=style["color"], zorder=4,
        path_effects=[withStroke(linewidth=2, foreground="white")],
    )  # fmt: skip


if __name__ == "__main__":
    common.main(draw, __file__)
