"""Figure: λ_max and effective rank of every head, or filter group, over training, task by task."""

from __future__ import annotations

from collections.abc import Sequence

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
        handles = [*layer_handles(probes), *kind_handles(probes)]
        lower.legend(
            handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=min(12 // columns, len(handles)),
            columnspacing=1.0, handlelength=1.8, title="layer, kind", title_fontsize=7,
        )  # fmt: skip
    common.footer(
        figure,
        [
            f"scale {tables.scope}",
            "n = 1 run per task, named above its panels",
            f"estimator {common.estimators(sources.values())}",
            "no ledger: the horizontal axis is epochs",
        ],
    )
    return figure


def counts(probes: pd.DataFrame) -> str:
    """How many modules of each kind: "8 heads, 2 FFN"."""
    found = probes.groupby("kind")["module"].nunique()
    return ", ".join(
        f"{found[kind]} {styles.kind_style(kind, found.index)[0]}" for kind in styles.kinds(probes["kind"])
    )


def lines(ax: plt.Axes, probes: pd.DataFrame, quantity: str) -> None:
    """One line per module, with the marker of its kind where a task has several; a zero or missing value leaves a
    gap."""
    layers, found = layer_styles(probes), styles.kinds(probes["kind"])
    for (layer, kind, _), rows in probes.groupby(["layer", "kind", "module"], sort=True):
        colour, style = layers[layer]
        values = rows[quantity].where(rows[quantity] > 0)
        few = len(rows) < 3
        ax.plot(
            rows["epoch"],
            values,
            color=colour,
            linestyle=style,
            linewidth=0.8,
            alpha=0.9,
            marker=styles.kind_style(kind, found)[1].marker if kind != found[0] else "." if few else None,
            markersize=3,
        )


def layer_styles(probes: pd.DataFrame) -> dict[int, tuple[str, str]]:
    """Colour (dark at the input, light at the output) and line style of every layer."""
    layers = sorted(probes["layer"].unique())
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.88, len(layers))) if len(layers) > 1 else [(0, 0, 0, 1)]
    return {layer: (to_hex(colours[i]), STYLES[i % len(STYLES)]) for i, layer in enumerate(layers)}


def layer_handles(probes: pd.DataFrame) -> list[plt.Line2D]:
    """Legend entries of the layers."""
    return [
        plt.Line2D([], [], color=colour, linestyle=style, label=str(layer))
        for layer, (colour, style) in layer_styles(probes).items()
    ]


def kind_handles(probes: pd.DataFrame) -> list[plt.Line2D]:
    """Legend entries of the kinds, where there are several; the first has no marker."""
    found = styles.kinds(probes["kind"])
    named = [(number, *styles.kind_style(kind, found)) for number, kind in enumerate(found)]
    return (
        [
            plt.Line2D(
                [], [], color="0.35", linewidth=0.8, markersize=3, label=name, marker=style.marker if number else None
            )
            for number, name, style in named
        ]
        if len(found) > 1
        else []
    )


def main(arguments: Sequence[str] | None = None) -> None:
    common.main(draw, "dynamics", __doc__, arguments)


if __name__ == "__main__":
    main()
