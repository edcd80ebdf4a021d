"""Figure: λ_max and effective rank of every head, or filter group, over training, task by task."""

from __future__ import annotations

import common
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import styles
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from mat.evidence.runs.pooled import Tables

FIGURE = {
    "title": "Dynamics of λ_max and effective rank",
    "about": "Both, for every module, over training.",
    "held": "n = 1 run per task, named above its panels; no ledger.",
    "place": 60,
}

QUANTITIES = (("lambda_max", styles.LAMBDA, "log"), ("effective_rank", "effective rank", "linear"))
STYLES = ("-", "--", "-.", ":")


def draw(tables: Tables) -> Figure:
    """A pair of panels per task with spectra: λ_max above, effective rank below; a line per module."""
    sources = {task: found for task in tables.tasks if (found := common.source(tables, task)) is not None}
    if not sources:
        return common.nothing(tables, "No finished run recorded spectra.")
    figure, places = common.pairs(len(sources), above=0.3, height=4.3, hspace=0.04)
    columns = min(common.COLUMNS, len(sources))
    for (task, (run, probes)), (grid, row, column) in zip(sources.items(), places, strict=True):
        upper = figure.add_subplot(grid[row, column])
        lower = figure.add_subplot(grid[row + 1, column], sharex=upper)
        upper.tick_params(labelbottom=False)
        for ax, (quantity, label, scale) in zip((upper, lower), QUANTITIES, strict=True):
            lines(ax, probes, quantity)
            ax.set_yscale(scale)
            if scale == "log":
                common.decades(ax.yaxis)
            ax.set_ylabel(label)
            ax.grid(True)
        upper.set_title(
            f"{task}: {counts(probes)}\n{styles.method_name(run['method'])}, "
            f"seed {run['seed']}, probe n = {run['probe_n']}"
        )
        lower.set_xlabel("epoch")
        handles = legend_handles(probes)
        lower.legend(
            handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=min(12 // columns, len(handles)),
            columnspacing=1.0, handlelength=1.8, title="layer, kind", title_fontsize=7,
        )  # fmt: skip
    common.footer(
        figure,
        f"scale {tables.scope}  ·  n = 1 run per task, named above its panels  ·  estimator "
        f"{common.estimators(sources.values())}  ·  no ledger: the horizontal axis is epochs",
    )
    return figure


def counts(probes: pd.DataFrame) -> str:
    """How many modules of each kind: "8 heads, 2 FFN"."""
    found = probes.groupby("kind")["module"].nunique()
    return ", ".join(f"{found[kind]} {styles.kind_style(kind, found.index)[0]}" for kind in styles.kinds(found.index))


def lines(ax: plt.Axes, probes: pd.DataFrame, quantity: str) -> None:
    """One line per module, with the marker of its kind where a task has several; a zero or missing value leaves a
    gap."""
    layers, found = layer_styles(probes), styles.kinds(probes["kind"])
    for (layer, kind, _), rows in probes.groupby(["layer", "kind", "module"], sort=True):
        colour, style = layers[layer]
        values = rows[quantity].where(rows[quantity] > 0)
        first = "." if len(rows) < 3 else None
        marker = first if kind == found[0] else styles.kind_style(kind, found)[1].marker
        ax.plot(
            rows["epoch"], values, color=colour, linestyle=style, linewidth=0.8, alpha=0.9, marker=marker, markersize=3
        )


def layer_styles(probes: pd.DataFrame) -> dict[int, tuple[str, str]]:
    """Colour (dark at the input, light at the output) and line style of every layer."""
    layers = sorted(probes["layer"].unique())
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.88, len(layers))) if len(layers) > 1 else [(0, 0, 0, 1)]
    return {layer: (to_hex(colours[i]), STYLES[i % len(STYLES)]) for i, layer in enumerate(layers)}


def legend_handles(probes: pd.DataFrame) -> list[plt.Line2D]:
    """Legend entries of the layers and, where there are several, of the kinds, of which the first has no marker."""
    found = styles.kinds(probes["kind"])
    named = [(styles.kind_style(kind, found), kind != found[0]) for kind in found] if len(found) > 1 else []
    grey = {"color": "0.35", "linewidth": 0.8, "markersize": 3}
    return [
        *(plt.Line2D([], [], color=c, linestyle=s, label=str(n)) for n, (c, s) in layer_styles(probes).items()),
        *(plt.Line2D([], [], **grey, label=n, marker=s.marker if marked else None) for (n, s), marked in named),
    ]


if __name__ == "__main__":
    common.main(draw, __file__)
