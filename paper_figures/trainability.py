"""Figure: does a module with a large λ_max train better (C2), and is it λ_max or the gradient's size?"""

from __future__ import annotations

import common
import matplotlib.pyplot as plt
import pandas as pd
import styles
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mat.evidence.runs.pooled import Tables
from mat.evidence.stats.intervals import Interval
from mat.evidence.tables.branches import interval_at
from mat.evidence.text import format, words

FIGURE = {
    "title": "Trainability",
    "about": "Decrease of the loss when one module trains alone, beside its λ_max.",
    "reads": ("trainability", "trainability_modules"),
    "held": "{seeds}; no ledger.",
    "counted": "trainability",
    "place": 90,
}

SAYS = {
    "lambda_max": styles.LAMBDA, "gradient_norm": "gradient norm", "trace": "trace", "effective_rank": "effective rank",
    "parameters": "parameters", "layer": "depth",
}  # fmt: skip
SHORT = {"lambda_max": styles.LAMBDA, "gradient_norm": "gradient", "parameters": "size"}
ROW = 1.9  # inches of a family
ABOVE = 0.85  # inches of the legend and the footer


def draw(tables: Tables) -> Figure:
    """Rows: families. Columns: loss decrease over λ_max at every checkpoint; the correlations, the partial ones too."""
    table, modules = tables.made.get("trainability"), tables.made.get("trainability_modules")
    if table is None or modules is None or table.empty or modules.empty:
        return common.nothing(tables, "No module was trained alone at this scale.")
    families = sorted(set(table["family"]))
    checkpoints = sorted(set(modules["checkpoint"]), key=float)
    cells = list(dict.fromkeys(zip(table["quantity"], table["given"], strict=True)))
    height = common.row_height(len(families), ABOVE, ROW)
    figure, axes = plt.subplots(
        len(families), len(checkpoints) + 1, squeeze=False, figsize=(common.WIDTH, ABOVE + height * len(families))
    )
    for ours, family in zip(axes, families, strict=True):
        own, rows = table[table["family"] == family], modules[modules["family"] == family]
        last = family == families[-1]
        for ax, checkpoint in zip(ours, checkpoints, strict=False):
            at = rows[rows["checkpoint"] == checkpoint]
            scatter(ax, at, rho(own, checkpoint, "lambda_max", ""), checkpoint, last)
        first = own.iloc[0]
        ours[0].set_ylabel(f"loss decrease, {first['loss_unit']}")
        ours[0].set_title(f"{words.family(family, first['task'])}\n{ours[0].get_title()}", fontsize=7.5)
        correlations(ours[-1], own, cells, last)
    kinds = styles.kinds(modules["kind"])
    handles = [styles.handle(*styles.kind_style(kind, kinds), markersize=4) for kind in kinds]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(kinds))
    common.footer(
        figure,
        f"scale {tables.scope}  ·  n = {int(table['n'].max())} seeds; points: modules of all seeds; ρ: Spearman over "
        "a run's modules  ·  no ledger",
        f"each module alone for {int(table['branch_steps'].max())} steps; loss decrease: of the training loss, beyond "
        "a branch that trains nothing",
        "right: each seed's mean over checkpoints, mean and 95 % interval; x | y: partial, of x given y",
    )
    return figure


def rho(table: pd.DataFrame, checkpoint: str, quantity: str, given: str) -> Interval:
    """The table's ρ of one family; unknown where there is none."""
    return interval_at(table, {"checkpoint": checkpoint, "quantity": quantity, "given": given})


def scatter(ax: Axes, rows: pd.DataFrame, value: Interval, checkpoint: str, last: bool) -> None:
    """Loss decrease over λ_max of every module and seed, by kind."""
    kinds = styles.kinds(rows["kind"])
    for kind in kinds:
        own, (_, style) = (rows[(rows["kind"] == kind) & (rows["lambda_max"] > 0)], styles.kind_style(kind, kinds))
        ax.scatter(
            own["lambda_max"], own["loss_decrease"], s=10, marker=style.marker, color=style.colour, alpha=0.75,
            linewidths=0.3, edgecolors="black",
        )  # fmt: skip
    ax.axhline(0, color="0.5", linewidth=0.7, linestyle=":", zorder=1)
    ax.set_xscale("log")
    common.decades(ax.xaxis)
    if last:
        ax.set_xlabel(styles.LAMBDA)
    ax.set_title(f"at {100 * float(checkpoint):g} % of training\nρ = {format.interval(value, 2)}", fontsize=7.5)
    ax.grid(True)


def correlations(ax: Axes, table: pd.DataFrame, cells: list[tuple[str, str]], last: bool) -> None:
    """ρ of every quantity with the loss decrease; a line separates the partial ones."""
    for place, (quantity, given) in enumerate(cells):
        value = rho(table, format.ALL, quantity, given)
        ours = quantity == "lambda_max"
        ax.errorbar(
            value.mean, place, xerr=common.bars(value), color=styles.VERMILION if ours else styles.BLACK,
            marker="s" if ours else "o", markersize=3.5, linewidth=1, capsize=2,
        )  # fmt: skip
    partial = [place for place, (_, given) in enumerate(cells) if given]
    if partial and partial[0]:
        ax.axhline(partial[0] - 0.5, color="0.6", linewidth=0.6, linestyle=(0, (4, 2)))
    ax.axvline(0, color="0.35", linewidth=0.9, zorder=1)
    ax.set_xlim(-1.05, 1.05)
    common.rows(ax, [cell_name(*cell) for cell in cells])
    if last:
        ax.set_xlabel("ρ with the loss decrease")
    ax.grid(True, axis="x")


def cell_name(quantity: str, given: str) -> str:
    """ "λ_max | gradient, size"."""
    if not given:
        return SAYS.get(quantity, quantity)
    return f"{SHORT.get(quantity, quantity)} | {', '.join(SHORT.get(name, name) for name in given.split())}"


if __name__ == "__main__":
    common.main(draw, __file__)
