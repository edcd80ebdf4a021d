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
ABOVE = 0.7  # inches of the legend and the footer
KEPT = {"facecolor": "0.8", "edgecolor": "0.35", "linewidth": 0.5}
CHANGED = {"facecolor": styles.ORANGE, "edgecolor": styles.BLACK, "linewidth": 0.6, "hatch": "////"}
DEFAULT = {"color": styles.VERMILION, "linewidth": 1.2}
WHISKER = {"color": styles.BLACK, "linewidth": 0.8}


def draw(tables: Tables) -> list[Figure]:
    """One panel per task and measure; a bar per alternative from the default's effect to its own, the largest change
    on top. As many pages as they need."""
    table = tables.made.get("sensitivity")
    if table is None or table.empty:
        return [common.nothing(tables, "No alternative of the ambiguity register was run at this scale.")]
    parts = [(*key, ordered(rows)) for key, rows in table.groupby(["task", "claim"], sort=True)]
    found: list[list[tuple[float, list]]] = [[]]
    for line in common.pages(parts, COLUMNS):
        high = common.DECORATION + 0.1 + ROW * max(len(rows) for *_, rows in line)
        if found[-1] and ABOVE + high + sum(inches for inches, _ in found[-1]) > common.PAGE:
            found.append([])
        found[-1].append((high, line))
    return [page(tables, table, lines) for lines in found]


def page(tables: Tables, table: pd.DataFrame, lines: list[tuple[float, list]]) -> Figure:
    """Lines of panels (inches, and task, claim and rows of each), with one legend."""
    inches = [high for high, _ in lines]
    figure, grid = plt.subplots(
        len(lines), COLUMNS, squeeze=False, figsize=(common.WIDTH, ABOVE + sum(inches)), height_ratios=inches
    )
    for axes, (_, line) in zip(grid, lines, strict=True):
        for ax in axes[len(line) :]:
            ax.set_axis_off()
        for ax, (task, claim, rows) in zip(axes, line, strict=False):
            panel(ax, rows)
            ax.set_ylim(max(len(rows) for *_, rows in line) - 0.5, -0.5)  # bars as thick as beside it
            measure = rows["measure"].iloc[0]
            ax.set_title(common.title(words.task(task), f"{measure} ({claim})"))
            ax.set_xlabel(rows["unit"].iloc[0])
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
    ax.use_sticky_edges = False  # the default's line keeps off the panel's edge
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
