"""Figure: is it λ_max? Best validation loss of every control against random modules at MAT's number of active ones."""

from __future__ import annotations

from collections.abc import Sequence

import common
import looks
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mat.evidence import labels, results, write
from mat.evidence.statistics import mean_interval
from mat.evidence.tables import Tables

AGAINST = "random"
CHOSEN = ("mat", *labels.GROUPS["controls"])  # equal active share
WHOLE = ("vanilla", *labels.GROUPS["learning rates"])  # other shares: is it the learning rate?
ROW = 0.155  # inches per method
FAR = 150.0  # percent; a panel with values beyond it gets an axis that is logarithmic from 10 on
LINE = looks.Look(looks.BLACK, "-", "D")


def draw(tables: Tables) -> Figure:
    """One panel per task, a row per method in a fixed order, positive where it is better than ``random``."""
    shown = [task for task in tables.tasks if len(tables.finished(task, AGAINST))]
    rows = [name for name in (*CHOSEN, *WHOLE) if any(len(tables.finished(task, name)) for task in shown)]
    if not shown or not rows:
        return common.nothing(tables, f"No finished run of {AGAINST} and of a control.")
    figure, axes = common.panels(len(shown), above=0.35, height=common.DECORATION + ROW * len(rows))
    for ax, task in zip(axes, shown, strict=True):
        panel(ax, tables, task, rows, names=ax.get_subplotspec().is_first_col())
    common.footer(
        figure,
        [
            f"scale {tables.scope}",
            f"{common.seeds_text(tables, rows)}, paired: dots; mean with 95 % interval: diamond",
            "best validation loss of a run; no ledger",
        ],
        [
            f"above the line: as many active modules as MAT in every probe interval, {AGAINST} too",
            "right: mean active share",
        ],
    )
    return figure


def panel(ax: Axes, tables: Tables, task: str, rows: list[str], names: bool) -> None:
    """Dots per seed and the mean with its interval of every method, the zero line, active shares at the right."""
    ax.axvline(0, color="0.35", linewidth=0.9, zorder=1)
    largest = 0.0
    for place, method in enumerate(rows):
        values = results.best_loss_advantages_percent(tables, task, method, AGAINST).dropna()
        share = mean_interval(results.active_share_percent(tables, task, method)).mean
        text = f"{write.number(share, 0)} %" if len(tables.finished(task, method)) else "not run"
        ax.annotate(
            text,
            (1.0, place),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="center",
            fontsize=7,
            color="0.4",
        )
        if values.empty:
            continue
        value = mean_interval(values)
        largest = max(largest, *(abs(end) for end in (*values, value.low, value.high) if np.isfinite(end)))
        ax.scatter(values, [place + 0.3] * len(values), s=6, color=looks.SKY, linewidths=0, zorder=2)
        colour = looks.VERMILION if method == "mat" else looks.BLACK
        ax.errorbar(
            value.mean, place, xerr=common.bars(value), color=colour, marker="s" if method == "mat" else "D",
            markersize=3.5, linewidth=1, capsize=2, zorder=3,
        )  # fmt: skip
    first = next((place for place, name in enumerate(rows) if name in WHOLE), None)
    if first:
        ax.axhline(first - 0.5, color="0.6", linewidth=0.6, linestyle=(0, (4, 2)))
    if largest > FAR:
        ax.set_xscale("symlog", linthresh=10)
    low, high = ax.get_xlim()
    ax.set_xlim(low, high + 0.35 * (high - low) if largest <= FAR else high * 30)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_yticks(range(len(rows)), [looks.method_name(name) for name in rows] if names else [""] * len(rows))
    ax.tick_params(axis="y", length=0)
    common.task_title(ax, task)
    ax.set_xlabel(f"loss below {AGAINST}'s, %")
    ax.grid(True, axis="x")


def main(arguments: Sequence[str] | None = None) -> None:
    common.main(draw, "controls", __doc__, arguments)


if __name__ == "__main__":
    main()
