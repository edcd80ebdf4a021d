"""Figure: λ_max and effective rank of every module vary jointly over training (the paper's Fig. 1a), task by task."""

from __future__ import annotations

import common
import numpy as np
import pandas as pd
import styles
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from mat.evidence.measures.spectra import rank_correlation
from mat.evidence.runs.pooled import Tables
from mat.evidence.text import format

FIGURE = {
    "title": "Joint variation",
    "about": "λ_max beside effective rank, module by module.",
    "held": "{seeds}; no ledger.",
    "place": 70,
}

PALEST = 0.15  # opacity of the first probe; the last has 1


def draw(tables: Tables) -> Figure:
    """One panel per task with spectra: a path per module, pale at the first probe and dark at the last."""
    sources = {task: found for task in tables.tasks if (found := common.source(tables, task)) is not None}
    if not sources:
        return common.nothing(tables, "No finished run recorded spectra.")
    runs = {task: run_text(run) for task, (run, _) in sources.items()}
    same = len(set(runs.values())) == 1
    lines = max(len(correlations(probes)) for _, probes in sources.values()) + (not same)
    figure, axes = common.panels(len(sources), above=0.6, height=2.4 + 0.14 * lines)
    for ax, (task, (_, probes)) in zip(axes, sources.items(), strict=True):
        for kind in styles.kinds(probes["kind"]):
            paths(ax, probes[probes["kind"] == kind], styles.kind_style(kind, set(probes["kind"])))
        ax.set_xscale("log")
        ax.margins(y=0.08)
        common.decades(ax.xaxis)
        ax.set_xlabel("\n".join([styles.LAMBDA, *correlations(probes)]), fontsize=7)
        if ax.get_subplotspec().is_first_col():
            ax.set_ylabel("effective rank")
        ax.grid(True)
        common.task_title(ax, task if same else f"{task}\n{runs[task]}")
    found = set().union(*(probes["kind"] for _, probes in sources.values()))
    handles = [styles.handle(*styles.kind_style(kind, found)) for kind in styles.kinds(found)]
    figure.legend(handles=handles, loc="outside upper center", ncols=6)
    common.footer(
        figure,
        f"scale {tables.scope}  ·  n = 1 run per task{f' ({next(iter(runs.values()))})' if same else ''}  ·  "
        f"estimator {common.estimators(sources.values())}  ·  no ledger: no axis is compute",
        "a path per module; from pale (first probe) to dark (last probe, large)  ·  ρ: Spearman over the n modules "
        "of a kind, mean over probes",
    )
    return figure


def paths(ax: Axes, probes: pd.DataFrame, named: tuple[str, styles.Style]) -> None:
    """Every module's way through the plane; values that are not positive have no place on it."""
    _, style = named
    last = max(1, int(probes["interval"].max()))
    for _, rows in probes.groupby("module", sort=True):
        rows = rows[(rows["lambda_max"] > 0) & (rows["effective_rank"] > 0)]
        ax.plot(rows["lambda_max"], rows["effective_rank"], color=style.colour, linewidth=0.4, alpha=0.35)
        colours = [to_rgba(style.colour, PALEST + (1 - PALEST) * (number / last) ** 1.5) for number in rows["interval"]]
        ax.scatter(
            rows["lambda_max"], rows["effective_rank"], c=colours, marker=style.marker, s=9, linewidths=0, zorder=2
        )
        ax.scatter(
            rows["lambda_max"].iloc[-1:], rows["effective_rank"].iloc[-1:], color=style.colour, marker=style.marker,
            s=20, edgecolors="black", linewidths=0.5, zorder=3,
        )  # fmt: skip


def run_text(run: pd.Series) -> str:
    """Which run is shown."""
    return f"{styles.method_name(run['method'])}, seed {run['seed']}, probe n = {run['probe_n']}"


def correlations(probes: pd.DataFrame) -> list[str]:
    """A line per kind, "heads ρ = −0.53, n = 8"; kinds of too few modules, or of one value, have no ρ."""
    found = []
    for kind in styles.kinds(probes["kind"]):
        rho = rank_correlation(probes, kind)
        if np.isfinite(rho):
            modules = probes.loc[probes["kind"] == kind, "module"].nunique()
            name, _ = styles.kind_style(kind, set(probes["kind"]))
            found.append(f"{name} ρ = {format.number(rho, 2)}, n = {modules}")
    return found or ["no ρ: fewer than 3 modules of a kind"]


if __name__ == "__main__":
    common.main(draw, __file__)
