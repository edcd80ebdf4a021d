"""Figure: what training only the modules of large, or of small, λ_max does to held-out samples (C3)."""

from __future__ import annotations

import common
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import styles
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mat.evidence.runs.pooled import Tables
from mat.evidence.tables.branches import interval_at
from mat.evidence.text import format, words

FIGURE = {
    "title": "Generalisation",
    "about": "Training and held-out loss when only top or only bottom modules train.",
    "reads": ("generalisation",),
    "held": "{seeds}; no ledger.",
    "counted": "generalisation",
    "place": 100,
}

SETS = {
    "top": styles.Style(styles.VERMILION, "-", "^"),
    "bottom": styles.Style(styles.BLUE, "-", "v"),
    "random": styles.Style(styles.GREY, "-", "o"),
    "all": styles.Style(styles.BLACK, "-", "s"),
    "none": styles.Style(styles.BLACK, "-", "s", "none"),
}
MEASURES = {
    "train_loss_decrease": "decrease of the\ntraining loss",
    "val_loss_change": "change of the\nvalidation loss",
    "gap_change": "change of the\ngeneralisation gap",
    "memorised": "wrong labels\nmemorised",
}
ROW = 1.65  # inches of a family
ABOVE = 0.9  # inches of the legend and the footer


def draw(tables: Tables) -> Figure:
    """Rows: families. Columns: measures; a marker per set of modules, and the difference top − bottom in words."""
    table = tables.made.get("generalisation")
    if table is None or table.empty:
        return common.nothing(tables, "No set of modules was trained alone at this scale.")
    table = table[table["checkpoint"] == format.ALL]
    families = sorted(set(table["family"]))
    known = table[np.isfinite(table["mean"])]
    measures = [name for name in MEASURES if name in set(known["measure"])]
    if not measures:
        return common.nothing(tables, "No branch has a result: every one of them diverged.")
    height = common.row_height(len(families), ABOVE, ROW)
    figure, axes = plt.subplots(
        len(families), len(measures), squeeze=False, figsize=(common.WIDTH, ABOVE + height * len(families))
    )
    for ours, family in zip(axes, families, strict=True):
        own = known[known["family"] == family]
        shown = set(own["measure"])
        for ax, measure in zip(ours, measures, strict=True):
            if measure not in shown:
                ax.set_axis_off()
                continue
            last = known.loc[known["measure"] == measure, "family"].max()
            panel(ax, own[own["measure"] == measure], last=family == last)
            points = ", points" if measure == "memorised" else ""
            ax.set_ylabel(f"{MEASURES[measure]}{points}", fontsize=7)
        first = table[table["family"] == family].iloc[0]
        none = "" if shown else "\nevery branch diverged"
        ours[0].set_title(
            f"{words.family(family, first['task'])}, {first['loss_unit']}{none}\n{ours[0].get_title()}".strip(),
            fontsize=7,
        )
    figure.legend(
        handles=[styles.handle(name, style, markersize=4.5) for name, style in SETS.items()],
        loc="outside upper center", ncols=len(SETS), title=f"modules trained, by {styles.LAMBDA}", title_fontsize=7,
    )  # fmt: skip
    first = table.iloc[0]
    common.footer(
        figure,
        f"scale {tables.scope}  ·  n = {int(table['n'].max())} seeds: each seed's mean over checkpoints, mean and 95 "
        "% interval  ·  no ledger",
        f"top, bottom, random: {100 * first['set_share']:g} % of the modules, each set with the remainder, "
        f"{int(first['branch_steps'])} steps  ·  gap: validation − training loss",
    )
    return figure


def panel(ax: Axes, rows: pd.DataFrame, last: bool) -> None:
    """One measure of one family, a column per set."""
    for place, (name, style) in enumerate(SETS.items()):
        value = interval_at(rows, {"set": name, "minus": ""})
        ax.errorbar(
            place, value.mean, yerr=common.bars(value), linestyle="none", markersize=4.5, elinewidth=1, capsize=2,
            zorder=3, **style.marked,
        )  # fmt: skip
    ax.axhline(0, color="0.35", linewidth=0.8, zorder=1)
    ax.set_xlim(-0.6, len(SETS) - 0.4)
    ax.set_xticks(range(len(SETS)), list(SETS) if last else [""] * len(SETS), rotation=60 if last else 0)
    difference = interval_at(rows, {"set": "top", "minus": "bottom"})
    largest = max(abs(end) for end in (difference.mean, difference.low, difference.high))
    text = format.interval(difference, format.decimals_for(largest, 2)).replace(", ", ",\u00a0")
    ax.set_title(f"top − bottom:\n{text}", fontsize=7, pad=3)
    ax.grid(True, axis="y")


if __name__ == "__main__":
    common.main(draw, __file__)
