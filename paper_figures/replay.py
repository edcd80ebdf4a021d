"""Figure: the active share that other readings of MAT's threshold would select, over α, replayed from recorded runs."""

from __future__ import annotations

from itertools import product
from typing import Any

import common
import pandas as pd
import styles
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mat.evidence.runs.pooled import Tables
from mat.evidence.tables.replay import LANDS, OF_SPECTRUM, SAID, SCOPES
from mat.evidence.text import words

FIGURE = {
    "title": "What other readings would select",
    "about": "The active share over α, by threshold and scope, replayed from recorded spectra; nothing is trained.",
    "reads": ("replay",),
    "held": "{seeds}; no ledger: nothing was trained.",
    "counted": "replay",
    "place": 75,
}

COLOURS = dict(zip(SCOPES, (styles.BLACK, styles.VERMILION, styles.BLUE), strict=True))
LINES = dict(zip(OF_SPECTRUM, (("-", "o"), ("--", "s")), strict=True))  # the others select α of what they compare


def draw(tables: Tables) -> Figure:
    """One panel per task: a line per scope and threshold; shades from the first to the last third of training."""
    if "replay" not in tables.made:
        return common.nothing(tables, "No run has its spectra recorded.")
    frame = tables.made["replay"]
    tasks = list(dict.fromkeys(frame["task"]))
    figure, axes = common.panels(len(tasks), above=0.75, height=2.0)
    for scope, threshold in product([name for name in SCOPES if name in set(frame["scope"])], LINES):
        axes[0].plot([], [], **look(scope, threshold))  # the legend's order
    for ax, task in zip(axes, tasks, strict=True):
        rows = frame[frame["task"] == task]
        panel(ax, rows)
        common.task_title(
            ax, common.title(words.task(task), f"{styles.method_name(rows['trajectory'].iloc[0])}'s spectra")
        )
        if ax.get_subplotspec().is_first_col():
            ax.set_ylabel("active modules, %")
    common.legend(figure, ncols=3, handlelength=2.4)
    least, most = frame["n"].min(), frame["n"].max()
    n = f"n = {least}" if least == most else f"n = {least} to {most}"
    common.footer(
        figure,
        f"scale {tables.scope}  ·  {n}, mean over seeds  ·  no ledger: nothing was trained",
        "modular policy on the spectra of the run that is named, mean over its steps",
        f"coloured: from the first to the last third of its steps (rank)  ·  dotted: {LANDS[0]:g} and {LANDS[1]:g} %",
    )
    return figure


def look(scope: str, threshold: str) -> dict[str, Any]:
    """Keywords of ``plot`` for one line."""
    line, marker = LINES[threshold]
    drawn = {"color": COLOURS[scope], "linestyle": line, "marker": marker, "markersize": 2.5, "linewidth": 1}
    return {**drawn, "label": f"{SAID[scope]}, {threshold}"}


def panel(ax: Axes, rows: pd.DataFrame) -> None:
    """The lines of one task."""
    for level in LANDS:
        ax.axhline(level, color="0.5", linewidth=0.7, linestyle=(0, (1, 2)), zorder=0)
    for (scope, threshold), own in rows.groupby(["scope", "threshold"], sort=False):
        if threshold not in LINES:
            continue
        own = own.sort_values("alpha")
        if threshold == "rank":
            ends = own["active_percent_first"], own["active_percent_last"]
            ax.fill_between(own["alpha"], *ends, color=COLOURS[scope], alpha=0.15, linewidth=0)
        ax.plot(own["alpha"], own["active_percent"], **look(scope, threshold))
    ax.set(xscale="log", xlabel="α", ylim=(-3, 103))
    common.decades(ax.xaxis)


if __name__ == "__main__":
    common.main(draw, __file__)
