"""Figure: how probable it is that a run of a method is better than one of vanilla's, in three senses of better."""

from __future__ import annotations

import common
import matplotlib.pyplot as plt
import pandas as pd
import styles
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mat.evidence.runs import method_groups
from mat.evidence.runs.pooled import REFERENCE, Tables
from mat.evidence.stats.intervals import Interval
from mat.evidence.tables.rivals import OVER_TASKS

FIGURE = {
    "title": "Probability of improvement",
    "about": ("How probable it is that a run of a method is better than one of vanilla's, in three senses of better."),
    "reads": ("rivals",),
    "needs": (("rivals",),),
    "place": 40,
}

SENSES = {
    "equal_compute": "lower loss\nat equal compute",
    "equal_loss": "less compute\nto equal loss",
    "convergence": "better test metric\nat the end",
}
ROW = 0.17  # inches per method
MEAN = {"color": styles.BLACK, "marker": "D", "markersize": 3.5, "linewidth": 1, "capsize": 2, "zorder": 3}


def draw(tables: Tables) -> Figure:
    """Columns: senses of better. Rows: methods. A dot per task, a diamond for their mean with its interval."""
    table = tables.made.get("rivals")
    if table is None or not (table["task"] == OVER_TASKS).any():
        return common.nothing(tables, f"No method was compared with {REFERENCE} at this scale.")
    methods = method_groups.ordered(table.loc[table["task"] == OVER_TASKS, "method"])
    figure, axes = plt.subplots(1, len(SENSES), sharey=True, figsize=(common.WIDTH, 1.3 + ROW * len(methods)))
    for ax, (kind, name) in zip(axes, SENSES.items(), strict=True):
        panel(ax, table, methods, f"better_{kind}")
        ax.set_title(name)
    common.rows(axes[0], [styles.method_name(name) for name in methods])
    tasks = table.loc[table["task"] != OVER_TASKS, "task"].nunique()
    common.footer(
        figure,
        f"scale {tables.scope}  ·  {common.seeds_text(tables, [REFERENCE, *methods])}; diamond: mean over {tasks} "
        f"task{'s' * (tasks > 1)}, 95 % interval by bootstrap over seeds",
        f"dots: single tasks  ·  over all pairs of a run and one of {REFERENCE}'s; a tie counts one half  ·  executed "
        "ledger, probes included",
    )
    return figure


def panel(ax: Axes, table: pd.DataFrame, methods: list[str], column: str) -> None:
    """One sense of better; at one half a method is no better than vanilla."""
    for place, method in enumerate(methods):
        rows = table[table["method"] == method].set_index("task")
        mean = rows.loc[OVER_TASKS]
        single = rows.drop(index=OVER_TASKS)[column].dropna()
        ax.scatter(single, [place + 0.28] * len(single), s=7, color=styles.SKY, linewidths=0, zorder=2)
        value = Interval(*(mean[f"{column}{end}"] for end in ("", "_low", "_high")), len(single))
        own = {"color": styles.VERMILION, "marker": "s"} if method == "mat" else {}
        ax.errorbar(value.mean, place, xerr=common.bars(value), **(MEAN | own))
    ax.axvline(0.5, color="0.35", linewidth=0.9, zorder=1)
    ax.set_xlim(-0.04, 1.04)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "¼", "½", "¾", "1"])
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(f"probability against {REFERENCE}")
    ax.grid(True, axis="x")


if __name__ == "__main__":
    common.main(draw, __file__)
