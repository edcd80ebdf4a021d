"""Figure: the verdict on every claim over all tasks and on each, a letter and a colour for each."""

from __future__ import annotations

import common
import matplotlib.pyplot as plt
import styles
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mat.evidence.claims.verdict import INCONCLUSIVE, INVALID, NOT_SUPPORTED, PARTLY, SUPPORTED
from mat.evidence.report import matrix
from mat.evidence.runs.pooled import Tables
from mat.evidence.text import words

FIGURE = {
    "title": "Verdicts by claim and task",
    "about": "Every claim that was tested, over all tasks and on each; letters say what colours say.",
    "reads": ("verdicts",),
    "held": "{seeds}; each claim's ledger is beside its numbers.",
    "place": 15,
}

# fill and letter; no two fills are of one lightness in grey
LOOKS = {
    SUPPORTED: (styles.GREEN, "white"), PARTLY: ("#BFE3D3", "black"), NOT_SUPPORTED: ("#9E3A00", "white"),
    INCONCLUSIVE: ("#F0F0F0", "0.3"), INVALID: (styles.YELLOW, "black"),
}  # fmt: skip
CELL = 0.24  # inches
NAMES = 1.75  # inches of the tasks' names above, turned
FEW = 4  # columns whose names have room as they are, each in two lines


def draw(tables: Tables) -> Figure:
    """Rows: claims. Columns: over all, then tasks and families."""
    frame = tables.made.get("verdicts")
    found = None if frame is None else matrix.grid(frame)
    if found is None or found.empty:
        return common.nothing(tables, "No claim is tested.")
    few = len(found.columns) <= FEW
    above = 0.35 if few else NAMES
    cell = min(CELL, (common.PAGE - above - 0.3) / len(found))
    figure, ax = plt.subplots(figsize=(common.WIDTH, above + 0.3 + cell * len(found)))
    for row, (_, verdicts) in enumerate(found.iterrows()):
        for column, verdict in enumerate(verdicts):
            mark(ax, column, row, verdict)
    common.rows(ax, list(found.index))
    ax.set_xlim(-0.5, len(found.columns) - 0.5)
    names = [words.place(name).replace(", ", ",\n") if few else words.place(name) for name in found.columns]
    ax.set_xticks(range(len(names)), names, rotation=0 if few else 90)
    ax.xaxis.tick_top()
    ax.tick_params(axis="x", length=0)
    ax.axvline(0.5, color="0.25", linewidth=0.9)
    ax.spines[:].set_visible(False)
    common.footer(
        figure,
        f"scale {tables.scope}  ·  {common.seeds_text(tables)}  ·  no ledger: each claim's is beside its numbers",
        matrix.legend(found),
    )
    return figure


def mark(ax: Axes, column: int, row: int, verdict: str) -> None:
    """One cell; "" is not asked, and has none."""
    if not verdict:
        return
    fill, ink = LOOKS.get(verdict, ("white", "0.5"))
    ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=fill, edgecolor="white", linewidth=1.2))
    ax.text(column, row, matrix.LETTERS[verdict], ha="center", va="center", color=ink, fontweight="bold")


if __name__ == "__main__":
    common.main(draw, __file__)
