"""Figure: validation loss over the share of modules that train, chosen by the largest, shuffled or smallest λ_max."""

from __future__ import annotations

import common
import numpy as np
import styles
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from styles import BLACK, BLUE, GREEN, ORANGE, SKY, VERMILION, Style

from mat.evidence.measures import over_seeds
from mat.evidence.runs import method_groups
from mat.evidence.runs.pooled import REFERENCE, Tables
from mat.evidence.stats.intervals import mean_interval

FIGURE = {
    "title": "Dose and response",
    "about": (
        "What is lost when a share of the modules trains, chosen by λ_max, by the same values shuffled, or against "
        "them; exact gradients, ends of schedules. Ordered lines favour λ_max, overlapping ones refute it. Where "
        "values shuffled within kinds, or within kind and layer, do as well, these say what λ_max says."
    ),
    "needs": (("doses",),),
    "place": 51,
}
ORDERS = {
    "largest": ("largest {}", Style(VERMILION, "-", "s")),
    "shuffled_layer": ("{} shuffled within kind and layer", Style(GREEN, (0, (6, 1, 2, 1)), "D", "none")),
    "shuffled_kind": ("{} shuffled within kinds", Style(SKY, "-.", "^", "none")),
    "shuffled": ("{} shuffled", Style(BLUE, "--", "^")),
    "smallest": ("smallest {}", Style(ORANGE, ":", "v")),
}
APART = 0.8  # percentage points of the axis between the orders' marks at one dose
FAR = 150.0  # percent; a panel with values beyond it gets an axis that is logarithmic from 10 on


def draw(tables: Tables) -> Figure:
    """One panel per task: a line per order, and vanilla, which trains all, as zero."""
    doses = {task: method_groups.of_groups(tables.methods(task), ("doses", "within")) for task in tables.tasks}
    shown = [
        task for task, labels in doses.items()
        if len(tables.finished(task, REFERENCE)) and any(len(tables.finished(task, label)) for label in labels)
    ]  # fmt: skip
    if not shown:
        return common.nothing(tables, "No finished run of a share of the modules, beside one of vanilla.")
    figure, axes = common.panels(len(shown), above=0.75, height=2.3)
    for ax, task in zip(axes, shown, strict=True):
        panel(ax, tables, task, doses[task])
    common.legend(figure, ncols=3, handlelength=3)
    methods = [REFERENCE, *(label for labels in doses.values() for label in labels)]
    common.footer(
        figure,
        f"scale {tables.scope}  ·  {common.seeds_text(tables, methods)}, paired: means with 95 % interval, marks at a "
        "dose drawn apart",
        "validation loss at the end, in percent of vanilla's range: its loss at the start minus its best  ·  no ledger",
    )
    return figure


def panel(ax: Axes, tables: Tables, task: str, labels: list[str]) -> None:
    scale, full = over_seeds.dynamic_range(tables, task), over_seeds.final_losses(tables, task, REFERENCE)
    largest = 0.0
    there = [order for order in ORDERS if any(_order(label) == order for label in labels)]
    for place, order in enumerate(there):
        said, style = ORDERS[order]
        apart = APART * (place - (len(there) - 1) / 2)
        x, values = [], []
        for label in (label for label in labels if _order(label) == order):
            value = mean_interval(100 * (over_seeds.final_losses(tables, task, label) - full) / scale)
            if value.n:
                values.append(value)
                x.append(mean_interval(over_seeds.active_share_percent(tables, task, label)).mean + apart)
        means = [value.mean for value in values]
        ax.plot(x, means, linestyle=style.line, label=said.format(styles.LAMBDA), **style.marked)
        for at, value in zip(x, values, strict=True):
            ax.errorbar(at, value.mean, yerr=common.bars(value), color=style.colour, linewidth=1, capsize=2)
            largest = max(largest, *(abs(end) for end in (value.mean, value.low, value.high) if np.isfinite(end)))
    ax.axhline(0, color=BLACK, linewidth=1, zorder=1, label="vanilla: all modules")
    if largest > FAR:
        ax.set_yscale("symlog", linthresh=10)
    ax.set_xlim(0, 100)
    common.task_title(ax, task)
    ax.set_xlabel("modules that train, %")
    if ax.get_subplotspec().is_first_col():
        ax.set_ylabel("loss above vanilla's,\n% of its range")
    ax.grid(True)


def _order(label: str) -> str:
    """What chose: a label without its dose."""
    return label.rpartition("_s")[0]


if __name__ == "__main__":
    common.main(draw, __file__)
