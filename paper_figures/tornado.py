"""Figure: which open choices of the ambiguity register change an effect, and which change a verdict, task by task."""

from __future__ import annotations

import common
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import styles
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mat.evidence.runs.pooled import Tables
from mat.evidence.text import words

FIGURE = {
    "title": "Open choices",
    "about": "How far the alternatives of every open choice move the headline number.",
    "reads": ("sensitivity",),
    "needs": (("sensitivity",),),
    "place": 140,
}

COLUMNS = 2
ROW = 0.15  # inches per alternative
KEPT = {"facecolor": "0.8", "edgecolor": "0.35", "linewidth": 0.5}
CHANGED = {"facecolor": styles.ORANGE, "edgecolor": styles.BLACK, "linewidth": 0.6, "hatch": "////"}
DEFAULT = {"color": styles.VERMILION, "linewidth": 1.2}
WHISKER = {"color": styles.BLACK, "linewidth": 0.8}


def draw(tables: Tables) -> Figure:
    """One panel per task and measure; a bar per alternative from the default's effect to its own, the largest change
    on top."""
    table = tables.made.get("sensitivity")
    if table is None or table.empty:
        return common.nothing(tables, "No alternative of the ambiguity register was run at this scale.")
    parts = {key: ordered(rows) for key, rows in table.groupby(["task", "claim"], sort=True)}
    heights = [len(rows) for rows in parts.values()]
    pairs = [max(heights[start : start + COLUMNS]) for start in range(0, len(heights), COLUMNS)]
    inches = [common.DECORATION + 0.2 + ROW * count for count in pairs]
    figure, grid = plt.subplots(
        len(pairs), COLUMNS, squeeze=False, figsize=(common.WIDTH, 0.6 + sum(inches)), height_ratios=inches
    )
    for ax in grid.flat[len(parts) :]:
        ax.set_axis_off()
    for ax, ((task, claim), rows) in zip(grid.flat, parts.items(), strict=False):
        panel(ax, rows)
        measure = rows["measure"].iloc[0]
        ax.set_title(common.title(words.task(task), f"{measure} ({claim})"))
        ax.set_xlabel(f"{measure},\n{rows['unit'].iloc[0]}")
    figure.legend(
        handles=[
            Line2D([], [], label="default choice", **DEFAULT),
            Patch(label="alternative, same verdict", **KEPT),
            Patch(label="alternative, other verdict", **CHANGED),
        ],
        loc="outside upper center", ncols=3,
    )  # fmt: skip
    least, largest = int(table["n"].min()), int(table["n"].max())
    common.footer(
        figure,
        f"scale {tables.scope}  ·  n = {largest if least == largest else f'{least} to {largest}'} seeds, paired: "
        "mean, and 95 % interval of the alternative",
        "executed ledger but where an alternative names another, charged probes included  ·  sorted by the change",
        "more is better but for the validation loss  ·  verdicts on the claim in brackets, by the rules of "
        "workflows/claims.yaml",
    )
    return figure


def ordered(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of one task, the largest change of the effect first, unknown ones last."""
    change = (rows["effect_alternative"] - rows["effect_default"]).abs()
    return rows.assign(change=change).sort_values(
        ["change", "id", "alternative"], ascending=[False, True, True], na_position="last", ignore_index=True
    )


def panel(ax: Axes, rows: pd.DataFrame) -> None:
    """Bars and whiskers; hatched, and with a bold name, where the verdict changes."""
    default = float(rows["effect_default"].iloc[0])
    for place, row in rows.iterrows():
        value = row["effect_alternative"]
        if not np.isfinite(value):
            ax.annotate(
                "no value", (default, place), xytext=(3, 0), textcoords="offset points", va="center", fontsize=7
            )
            continue
        ax.barh(place, value - row["effect_default"], left=row["effect_default"], height=0.66, zorder=2,
                **(CHANGED if row["changes"] else KEPT))  # fmt: skip
        if np.isfinite(row["low"]) and np.isfinite(row["high"]):
            ax.hlines(place, row["low"], row["high"], zorder=3, **WHISKER)
        ax.plot(value, place, marker="D", markersize=2.5, color=styles.BLACK, zorder=4)
    ax.axvline(0, color="0.5", linewidth=0.7, linestyle=":", zorder=1)
    ax.axvline(default, zorder=5, **DEFAULT)
    common.rows(ax, [label(row) for _, row in rows.iterrows()])
    for text, changes in zip(ax.get_yticklabels(), rows["changes"], strict=True):
        text.set_fontweight("bold" if changes else "normal")
    ax.grid(True, axis="x")


def label(row: pd.Series) -> str:
    """ "A1 threshold top": the register's entry and the alternative, without what all alternatives are of."""
    return f"{row['id']} {row['alternative'].removeprefix('mat_').replace('_', ' ')}"


if __name__ == "__main__":
    common.main(draw, __file__)
