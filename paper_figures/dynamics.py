"""Figure: λ_max and effective rank of every head, or filter group, over training, task by task."""

from __future__ import annotations

import common
import matplotlib.pyplot as plt
import pandas as pd
import styles
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from mat.evidence.measures.over_seeds import Row
from mat.evidence.runs.pooled import Tables
from mat.evidence.text import words

FIGURE = {
    "title": "Dynamics of λ_max and effective rank",
    "about": "Both, for every module, over training.",
    "held": "n = 1 run per task, named above its panels; no ledger.",
    "place": 60,
}

QUANTITIES = (("lambda_max", styles.LAMBDA, "log"), ("effective_rank", "effective rank", "linear"))
ON_A_PAGE = 6  # tasks


def draw(tables: Tables) -> list[Figure]:
    """A pair of panels per task with spectra: λ_max above, effective rank below; a line per module. As many pages as
    they need."""
    sources = {task: found for task in tables.tasks if (found := common.source(tables, task)) is not None}
    if not sources:
        return [common.nothing(tables, "No finished run recorded spectra.")]
    return [page(tables, dict(shown)) for shown in common.pages(sources.items(), ON_A_PAGE)]


def page(tables: Tables, sources: dict[str, tuple[Row, pd.DataFrame]]) -> Figure:
    """The pairs of some tasks, with one legend."""
    several = [probes["kind"] for _, probes in sources.values() if probes["kind"].nunique() > 1]
    kinds = styles.kinds(kind for found in several for kind in found)
    figure, places = common.pairs(len(sources), above=0.5, height=3.6, hspace=0.04)
    for (task, (run, probes)), (grid, row, column) in zip(sources.items(), places, strict=True):
        upper = figure.add_subplot(grid[row, column])
        lower = figure.add_subplot(grid[row + 1, column], sharex=upper)
        upper.tick_params(labelbottom=False)
        for ax, (quantity, label, scale) in zip((upper, lower), QUANTITIES, strict=True):
            lines(ax, probes, quantity, kinds)
            ax.set_yscale(scale)
            if scale == "log":
                common.decades(ax.yaxis)
            ax.set_ylabel(label)
            ax.grid(True)
        said = f"{styles.method_name(run['method'])}, seed {run['seed']}, n = {run['probe_n']}"
        upper.set_title(f"{words.task(task)}\n{counts(probes)}\n{said}", fontsize=7)
        lower.set_xlabel("epoch")
    handles = legend_handles(kinds)
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), handlelength=2.2)
    common.footer(
        figure,
        f"scale {tables.scope}  ·  n = 1 run per task, named above its panels with the n of its probes",
        f"estimator {common.estimators(sources.values())}  ·  no ledger: the horizontal axis is epochs",
    )
    return figure


def counts(probes: pd.DataFrame) -> str:
    """How many modules of each kind: "8 heads, 2 FFN"."""
    found = probes.groupby("kind")["module"].nunique()
    return ", ".join(f"{found[kind]} {styles.kind_style(kind, found.index)[0]}" for kind in styles.kinds(found.index))


def lines(ax: plt.Axes, probes: pd.DataFrame, quantity: str, kinds: list[str]) -> None:
    """One line per module, with the marker of its kind where a task has several, unless it is the first of ``kinds``; a
    zero or missing value leaves a gap."""
    colours, plain = layer_colours(probes), {*kinds[:1], *([] if probes["kind"].nunique() > 1 else probes["kind"])}
    for (layer, kind, _), rows in probes.groupby(["layer", "kind", "module"], sort=True):
        values = rows[quantity].where(rows[quantity] > 0)
        marker = ("." if len(rows) < 3 else None) if kind in plain else styles.kind_style(kind, kinds)[1].marker
        ax.plot(rows["epoch"], values, color=colours[layer], linewidth=0.8, alpha=0.9, marker=marker, markersize=3)


def layer_colours(probes: pd.DataFrame) -> dict[int, str]:
    """A colour for every layer by how deep it lies: dark at the input, light at the output."""
    layers = sorted(probes["layer"].unique())
    return {layer: depth_colour(place / max(len(layers) - 1, 1)) for place, layer in enumerate(layers)}


def depth_colour(depth: float) -> str:
    """The colour of a depth between 0, at the input, and 1."""
    return to_hex(plt.get_cmap("viridis")(0.88 * depth))


def legend_handles(kinds: list[str]) -> list[plt.Line2D]:
    """Legend entries of three depths and of the kinds, of which the first has no marker."""
    depths = (("layers: first", 0), ("middle", 0.5), ("last", 1))
    named = [(*styles.kind_style(kind, kinds), kind != kinds[0]) for kind in kinds]
    grey = {"color": "0.35", "linewidth": 0.8, "markersize": 3}
    return [
        *(plt.Line2D([], [], color=depth_colour(depth), label=name) for name, depth in depths),
        *(
            plt.Line2D([], [], **grey, label=name, marker=look.marker if marked else None)
            for name, look, marked in named
        ),
    ]


if __name__ == "__main__":
    common.main(draw, __file__)
