"""Figure: what a kernel estimator costs, and how far its ranking of modules agrees with the reference's."""

from __future__ import annotations

import common
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MultipleLocator
from styles import BLACK, BLUE, GREEN, INDIGO, ORANGE, PURPLE, SKY, VERMILION

from mat.evidence.runs.pooled import Tables
from mat.evidence.tables.estimator_choice import tau
from mat.evidence.tables.estimator_price import at_end
from mat.evidence.tables.price_list import best
from mat.evidence.text import words

FIGURE = {
    "title": "Cost and agreement of estimators",
    "about": "What a kernel estimator costs beside an epoch of training, and how far its ranking of modules agrees.",
    "reads": ("price_list",),
    "held": "Kendall's τ_b with the reference on other samples, at the end of training; executed ledger.",
    "place": 131,
}
MARKS = {
    "sum_of_logits": (VERMILION, "o"),
    "loss": (PURPLE, "D"),
    "trace": (BLUE, "s"),
    "full": (BLACK, "p"),
    "step": (INDIGO, "*"),
}
PROJECTED = ((GREEN, "^"), (GREEN, "v"), (GREEN, "<"), (GREEN, ">"), (SKY, "P"), (SKY, "X"))  # by directions
COSTS = {"macs_share": "multiply-adds", "seconds_share": "CPU seconds"}
CHOSEN = {"is_default": ("o", BLACK, "the default"), "is_picked": ("s", ORANGE, "what the rule picks")}


def draw(tables: Tables) -> Figure:
    """Columns: families. Rows: multiply-adds, CPU seconds. Every estimator, and the frontier."""
    table = tables.made.get("price_list")
    if table is None or table.empty:
        return common.nothing(tables, "No estimators were compared at this scale.")
    families, marks = tables.families_of("price_list"), marks_of(table)
    figure, axes = plt.subplots(2, len(families), figsize=(common.WIDTH, 5.4), squeeze=False, sharey=True)
    for column, family in enumerate(families):
        rows = at_end(table, family)
        for ax, cost in zip(axes[:, column], COSTS, strict=True):
            panel(ax, rows, cost, marks)
        first = table[table["family"] == family].iloc[0]
        reference = f"{shown(first['reference'])}\nn = {first['reference_n']}" if first["reference"] else "none"
        axes[0][column].set_title(f"{words.family(family, first['task'])}\nreference: {reference}", fontsize=7.5)
        axes[1][column].set_xlabel("a probe, % of an epoch")
    low = table.loc[table["share"] == 1, "tau_mean"].min()
    axes[0][0].set_ylim(min(0.0, low if np.isfinite(low) else 0.0) - 0.08, 1.06)
    axes[0][0].yaxis.set_major_locator(MultipleLocator(0.2))
    for ax, said in zip(axes[:, 0], COSTS.values(), strict=True):
        ax.set_ylabel(r"$\tau_b$ with the reference" + f"\nagainst {said}")
    handles = legend(table, marks)
    figure.legend(handles=handles, loc="outside upper center", ncols=5, handlelength=2)
    common.footer(
        figure,
        f"scale {tables.scope}  ·  end of training, other samples  ·  n = {int(table['n_seeds'].max())} seeds: "
        "means, 95 % t interval on the frontier",
        "larger marks: more samples  ·  hollow: logits at some positions alone  ·  line: what no other beats in both",
        "band: the reference with itself on other samples  ·  multiply-adds: executed ledger",
        f"dotted: {table['reach'].iloc[0]:g}, asked of the lower bound",
    )
    return figure


def shown(name: str) -> str:
    """The estimator as printed: projected_8 is ``projected, r = 8``."""
    kind, _, rounds = name.rpartition("_")
    return f"{kind}, r\u00a0=\u00a0{rounds}" if kind == "projected" else name.replace("_", " ")


def marks_of(table: pd.DataFrame) -> dict[tuple[str, int], tuple[str, str]]:
    """Colour and marker of every estimator and number of directions measured, fixed order first."""
    found = set(zip(table["estimator"], table["directions"], strict=True))
    marks = {(name, 0): mark for name, mark in MARKS.items() if (name, 0) in found}
    projected = sorted(key for key in found if key[0] == "projected")
    return marks | {key: PROJECTED[place % len(PROJECTED)] for place, key in enumerate(projected)}


def size(n: float, table: pd.DataFrame) -> float:
    """A marker's size in points: 2.5 for the fewest samples, 6.5 for the most."""
    low, high = np.log2([table["n"].min(), table["n"].max()])
    return 2.5 + 4 * (np.log2(n) - low) / max(high - low, 1)


def panel(ax: Axes, rows: pd.DataFrame, cost: str, marks: dict[tuple[str, int], tuple[str, str]]) -> None:
    ax.set_xscale("log")
    ax.grid(True)
    ax.axhline(rows["reach"].max(), color="0.35", linewidth=0.8, linestyle=":", zorder=1)
    for _, row in rows[rows["is_reference"]].iterrows():
        ax.axhspan(row["tau_low"], row["tau_high"], color="0.85", linewidth=0, zorder=0)
    for _, row in rows.iterrows():
        colour, marker = marks[row["estimator"], row["directions"]]
        face = "white" if row["positions"] else colour
        ax.plot(
            100 * row[cost], row["tau_mean"], marker=marker, color=colour, markerfacecolor=face, alpha=0.75,
            markersize=size(row["n"], rows), markeredgewidth=0.7, linestyle="none", zorder=3,
        )  # fmt: skip
    frontier = best(rows[rows["tau_mean"].notna()], cost, "tau_mean")
    ax.plot(100 * frontier[cost], frontier["tau_mean"], color="0.4", linewidth=0.9, zorder=2, drawstyle="steps-post")
    for _, row in frontier.iterrows():
        ax.errorbar(
            100 * row[cost], row["tau_mean"], yerr=common.bars(tau(row)), color="0.4", linewidth=0.8, capsize=1.5,
            zorder=2,
        )  # fmt: skip
    for name, (marker, colour, _) in CHOSEN.items():
        for _, row in rows[rows[name]].iterrows():
            ax.plot(
                100 * row[cost], row["tau_mean"], marker=marker, color=colour, markersize=11, fillstyle="none",
                markeredgewidth=1.3, linestyle="none", zorder=4,
            )  # fmt: skip
    if rows.empty or rows[cost].isna().all():
        ax.text(0.5, 0.5, "not measured", transform=ax.transAxes, ha="center", va="center")
    else:
        common.decades(ax.xaxis)


def legend(table: pd.DataFrame, marks: dict[tuple[str, int], tuple[str, str]]) -> list[Line2D]:
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="none", label=shown(f"{name}_{r}" if r else name))
        for (name, r), (colour, marker) in marks.items()
    ]
    handles += [
        Line2D([], [], color=colour, marker=marker, linestyle="none", fillstyle="none", markersize=9, label=said)
        for name, (marker, colour, said) in CHOSEN.items()
        if table[name].any()
    ]
    return handles


if __name__ == "__main__":
    common.main(draw, __file__)
