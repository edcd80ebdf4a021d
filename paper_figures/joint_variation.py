"""Figure: λ_max and effective rank of every module vary jointly over training (the paper's Fig. 1a), task by task."""

from __future__ import annotations

from collections.abc import Sequence

import common
import looks
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from mat.evidence import write
from mat.evidence.spectra import rank_correlation
from mat.evidence.tables import Tables

PALEST = 0.15  # opacity of the first probe; the last has 1


def draw(tables: Tables) -> Figure:
    """One panel per task with spectra: a path per module, pale at the first probe and dark at the last."""
    sources = {task: found for task in tables.tasks if (found := common.source(tables, task)) is not None}
    if not sources:
        return common.nothing(tables, "No finished run recorded spectra.")
    figure, axes = common.panels(len(sources), above=0.6, height=2.9)
    for ax, (task, (run, probes)) in zip(axes, sources.items(), strict=True):
        for kind in looks.kinds(probes["kind"]):
            paths(ax, probes[probes["kind"] == kind], looks.kind_look(kind, set(probes["kind"])))
        ax.set_xscale("log")
        ax.margins(y=0.08)
        common.decades(ax.xaxis)
        rho = [correlation(probes, kind) for kind in looks.kinds(probes["kind"])]
        ax.set_xlabel("\n".join([looks.LAMBDA, *rho]))
        if ax.get_subplotspec().is_first_col():
            ax.set_ylabel("effective rank")
        ax.grid(True)
        ax.set_title(
            f"{task}\n{looks.method_name(run['method'])}, seed {run['seed']}, probe n = {run['probe_n']}"
        )
    found = set().union(*(probes["kind"] for _, probes in sources.values()))
    figure.legend(
        handles=[looks.handle(*looks.kind_look(kind, found)) for kind in looks.kinds(found)],
        loc="outside upper center", ncols=6,
    )  # fmt: skip
    common.footer(
        figure,
        [
            f"scale {tables.scope}",
            "n = 1 run per task",
            f"estimator {common.estimators(sources.values())}",
            "no ledger: no axis is compute",
        ],
        [
            "a path per module; from pale (first probe) to dark (last probe, large)",
            "ρ: Spearman over the modules of a kind, mean over probes",
        ],
    )
    return figure


def paths(ax: Axes, probes: pd.DataFrame, named: tuple[str, looks.Look]) -> None:
    """Every module's way through the plane; values that are not positive have no place on it."""
    _, look = named
    last = max(1, int(probes["interval"].max()))
    for _, rows in probes.groupby("module", sort=True):
        rows = rows[(rows["lambda_max"] > 0) & (rows["effective_rank"] > 0)]
        ax.plot(rows["lambda_max"], rows["effective_rank"], color=look.colour, linewidth=0.4, alpha=0.35)
        colours = [
            to_rgba(look.colour, PALEST + (1 - PALEST) * (number / last) ** 1.5)
            for number in rows["interval"]
        ]
        ax.scatter(
            rows["lambda_max"],
            rows["effective_rank"],
            c=colours,
            marker=look.marker,
            s=9,
            linewidths=0,
            zorder=2,
        )
        ax.scatter(
            rows["lambda_max"].iloc[-1:], rows["effective_rank"].iloc[-1:], color=look.colour, marker=look.marker,
            s=20, edgecolors="black", linewidths=0.5, zorder=3,
        )  # fmt: skip


def correlation(probes: pd.DataFrame, kind: str) -> str:
    """ "heads: ρ = −0.53 (n = 8)"; the reason where there is no ρ."""
    modules = probes.loc[probes["kind"] == kind, "module"].nunique()
    rho = rank_correlation(probes, kind)
    name, _ = looks.kind_look(kind, set(probes["kind"]))
    if not np.isfinite(rho):
        return f"{name}: no ρ (n = {modules})"
    return f"{name}: ρ = {write.number(rho, 2)} (n = {modules})"


def main(arguments: Sequence[str] | None = None) -> None:
    common.main(draw, "joint_variation", __doc__, arguments)


if __name__ == "__main__":
    main()
