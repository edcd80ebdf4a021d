"""Figure: λ_max and effective rank of every head, or filter group, over training, task by task."""

from __future__ import annotations

from collections.abc import Sequence

import common
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from mat.evidence.spectra import has_spectra, kind_present
from mat.evidence.tables import Tables

KINDS = ["head", "filters"]
SOURCES = ["vanilla", "mat"]
QUANTITIES = (("lambda_max", r"$\lambda_{\max}$", "log"), ("effective_rank", "effective rank", "linear"))
STYLES = ("-", "--", "-.", ":")
PLURAL = {"head": "heads", "filters": "filter groups"}


def draw(tables: Tables) -> Figure:
    """A pair of panels per task with spectra: λ_max above, effective rank below; a line per module."""
    sources = {task: found for task in tables.tasks if (found := source(tables, task)) is not None}
    if not sources:
        figure, ax = plt.subplots(figsize=(common.WIDTH, 1.2))
        ax.text(0.5, 0.5, "No finished run recorded spectra.", ha="center", va="center")
        ax.set_axis_off()
        common.footer(figure, [f"scale {tables.scope}"])
        return figure
    figure, places = common.pairs(len(sources), above=0.3, height=4.3, hspace=0.04)
    columns = min(common.COLUMNS, len(sources))
    for (task, (run, probes, kind)), (grid, row, column) in zip(sources.items(), places, strict=True):
        upper = figure.add_subplot(grid[row, column])
        lower = figure.add_subplot(grid[row + 1, column], sharex=upper)
        upper.tick_params(labelbottom=False)
        for ax, (quantity, label, scale) in zip((upper, lower), QUANTITIES, strict=True):
            lines(ax, probes, quantity)
            ax.set_yscale(scale)
            ax.set_ylabel(label)
            ax.grid(True)
        modules = probes["module"].nunique()
        upper.set_title(
            f"{task}: {modules} {PLURAL.get(kind, kind)}\n{common.method_name(run['method'])}, "
            f"seed {run['seed']}, probe n = {run['probe_n']}"
        )
        lower.set_xlabel("epoch")
        handles = layer_handles(probes)
        lower.legend(
            handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=min(14 // columns, len(handles)),
            columnspacing=1.0, handlelength=1.8, title="layer", title_fontsize=7,
        )  # fmt: skip
    estimators = sorted({str(run["estimator"]) for run, _, _ in sources.values()} - {""})
    common.footer(
        figure,
        [
            f"scale {tables.scope}",
            "n = 1 run per task, named above its panels",
            f"estimator {', '.join(estimators) or 'as in run.json'}",
            "no ledger: the horizontal axis is epochs",
        ],
    )
    return figure


def source(tables: Tables, task: str) -> tuple[pd.Series, pd.DataFrame, str] | None:
    """The run shown: the lowest finished seed of the first method with spectra; with its probes and kind."""
    others = [method for method in tables.methods(task) if method not in SOURCES]
    for method in [*SOURCES, *others]:
        for _, run in tables.finished(task, method).iterrows():
            probes = tables.probes_of(run["run"])
            kind = kind_present(probes, KINDS)
            if kind is not None and has_spectra(probes):
                return run, probes[probes["kind"] == kind], kind
    return None


def lines(ax: plt.Axes, probes: pd.DataFrame, quantity: str) -> None:
    """One line per module; a zero or missing value leaves a gap."""
    looks = layer_looks(probes)
    for (layer, _), rows in probes.groupby(["layer", "module"], sort=True):
        colour, style = looks[layer]
        values = rows[quantity].where(rows[quantity] > 0)
        few = len(rows) < 3
        ax.plot(
            rows["epoch"],
            values,
            color=colour,
            linestyle=style,
            linewidth=0.8,
            alpha=0.9,
            marker="." if few else None,
        )


def layer_looks(probes: pd.DataFrame) -> dict[int, tuple[str, str]]:
    """Colour (dark at the input, light at the output) and line style of every layer."""
    layers = sorted(probes["layer"].unique())
    colours = (
        plt.get_cmap("viridis")(np.linspace(0, 0.88, len(layers))) if len(layers) > 1 else [(0, 0, 0, 1)]
    )
    return {layer: (to_hex(colours[i]), STYLES[i % len(STYLES)]) for i, layer in enumerate(layers)}


def layer_handles(probes: pd.DataFrame) -> list[plt.Line2D]:
    """Legend entries of the layers."""
    looks = layer_looks(probes).items()
    return [
        plt.Line2D([], [], color=colour, linestyle=style, label=str(layer))
        for layer, (colour, style) in looks
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    common.main(draw, "dynamics", __doc__, arguments)


if __name__ == "__main__":
    main()
