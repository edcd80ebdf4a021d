"""Figure: validation loss over the share of modules that train, chosen by the largest, shuffled or smallest λ_max."""

from __future__ import annotations

import common
import numpy as np
import styles
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from styles import BLACK, BLUE, ORANGE, VERMILION, Style

from mat.evidence.measures import over_seeds
from mat.evidence.runs import method_groups
from mat.evidence.runs.pooled import REFERENCE, Tables
from mat.evidence.stats.intervals import mean_interval

FIGURE = {
    "title": "Dose and response",
    "about": (
        "What is lost when a share of the modules trains, chosen by λ_max, by the same values shuffled, or against "
        "them; exact gradients, ends of schedules. Ordered lines favour λ_max, overlapping ones refute it."
    ),
    "needs": (("doses",),),
    "place": 51,
}
ORDERS = {
    "largest": Style(VERMILION, "-", "s"),
    "shuffled": Style(BLUE, "--", "^"),
    "smallest": Style(ORANGE, ":", "v"),
}
APART = 1.2  # percentage points of the axis between the orders' marks at one dose
FAR = 150.0  # percent; a panel with values beyond it gets an axis that is logarithmic from 10 on


def draw(tables: Tables) -> Figure:
    """One panel per task: a line per order, and vanilla, which trains all, as zero."""
    doses = {task: method_groups.of_groups(tables.methods(task), ("doses",)) for task in tables.tasks}
    shown = [
        task for task, labels in doses.items()
        if len(tables.finished(task, REFERENCE)) and any(len(tables.finished(task, label)) for label in labels)
    ]  # fmt: skip
    if not shown:
        return common.nothing(tables, "No finished run of a share of the modules, beside one of vanilla.")
    figure, axes = common.panels(len(shown), above=0.75, height=2.3)
    for ax, task in zip(axes, shown, strict=True):
        panel(ax, tables, task, doses[task])
    common.legend(figure, ncols=4, handlelength=3)
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
    for place, (order, style) in enumerate(ORDERS.items()):
        x, values = [], []
        for label in (label for label in labels if label.startswith(f"{order}_")):
            value = mean_interval(100 * (over_seeds.final_losses(tables, task, label) - full) / scale)
            if value.n:
                values.append(value)
                x.append(mean_interval(over_seeds.active_share_percent(tables, task, label)).mean + APART * (place - 1))
        means = [value.mean for value in values]
        ax.plot(x, means, linestyle=style.line, label=f"{order} {styles.LAMBDA}", **style.marked)
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


if __name__ == "__main__":
    common.main(draw, __file__)
