"""Figure: is it λ_max? Best validation loss of every control against random modules at MAT's number of active ones."""

from __future__ import annotations

import common
import numpy as np
import styles
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mat.evidence.measures import over_seeds
from mat.evidence.runs import method_groups
from mat.evidence.runs.pooled import Tables
from mat.evidence.stats.intervals import mean_interval
from mat.evidence.tables.controls import random_label
from mat.evidence.text import format

FIGURE = {
    "title": "Controls",
    "about": "Modules chosen otherwise than by the largest λ_max, at an equal active share.",
    "needs": (("random", "random_exact"), ("controls", "learning rates")),
    "place": 50,
}

RANDOM = ("random_exact", "random")
CHOSEN = ("mat_exact", *(name for name in method_groups.GROUPS["controls"] if name not in RANDOM))
OTHERS = ("mat", "vanilla", *method_groups.GROUPS["learning rates"])  # is it the mode, or the learning rate?
ROW = 0.155  # inches per method
FAR = 150.0  # percent; a panel with values beyond it gets an axis that is logarithmic from 10 on


def draw(tables: Tables) -> Figure:
    """One panel per task, a row per method in a fixed order, positive where it is better than random modules."""
    shown = [task for task in tables.tasks if len(tables.finished(task, random_label(tables, task)))]
    rows = [name for name in (*CHOSEN, *OTHERS) if any(len(tables.finished(task, name)) for task in shown)]
    if not set(rows) & {*CHOSEN, *method_groups.GROUPS["learning rates"]}:
        return common.nothing(tables, "No finished run of random modules and of a control.")
    figure, axes = common.panels(len(shown), above=0.35, height=common.DECORATION + ROW * len(rows))
    for ax, task in zip(axes, shown, strict=True):
        panel(ax, tables, task, rows, names=ax.get_subplotspec().is_first_col())
    common.footer(
        figure,
        f"scale {tables.scope}  ·  {common.seeds_text(tables, rows)}, paired: dots; their mean with 95 % interval  ·  "
        "best validation loss of a run; no ledger",
        "above the line: as many active modules as MAT in every probe interval  ·  right: mean active share",
        "hollow: another backward mode than that of random",
    )
    return figure


def panel(ax: Axes, tables: Tables, task: str, rows: list[str], names: bool) -> None:
    """Dots per seed and the mean with its interval of every method, the zero line, active shares at the right."""
    against = random_label(tables, task)
    mode = tables.of(task, against)["mode"].iloc[0]
    ax.axvline(0, color="0.35", linewidth=0.9, zorder=1)
    largest = 0.0
    for place, method in enumerate(rows):
        values = over_seeds.best_loss_advantages_percent(tables, task, method, against).dropna()
        share = mean_interval(over_seeds.active_share_percent(tables, task, method)).mean
        text = f"{format.number(share, 0)} %" if len(tables.finished(task, method)) else "not run"
        ax.annotate(
            text, (1.0, place), xycoords=("axes fraction", "data"), ha="right", va="center", fontsize=7, color="0.4"
        )
        if values.empty:
            continue
        value = mean_interval(values)
        largest = max(largest, *(abs(end) for end in (*values, value.low, value.high) if np.isfinite(end)))
        ax.scatter(values, [place + 0.3] * len(values), s=6, color=styles.SKY, linewidths=0, zorder=2)
        ours = method in ("mat", "mat_exact")
        same = tables.of(task, method)["mode"].iloc[0] == mode
        colour = styles.VERMILION if ours else styles.BLACK
        ax.errorbar(
            value.mean, place, xerr=common.bars(value), color=colour, marker="s" if ours else "D",
            markersize=3.5, linewidth=1, capsize=2, zorder=3,
            markerfacecolor=colour if same else "white",
        )  # fmt: skip
    first = next((place for place, name in enumerate(rows) if name in OTHERS), None)
    if first:
        ax.axhline(first - 0.5, color="0.6", linewidth=0.6, linestyle=(0, (4, 2)))
    if largest > FAR:
        ax.set_xscale("symlog", linthresh=10)
    low, high = ax.get_xlim()
    ax.set_xlim(low, high + 0.35 * (high - low) if largest <= FAR else high * 30)
    common.rows(ax, [styles.method_name(name) if names else "" for name in rows])
    common.task_title(ax, task)
    ax.set_xlabel(f"loss below that of {styles.method_name(against)}, %")
    ax.grid(True, axis="x")


if __name__ == "__main__":
    common.main(draw, __file__)
