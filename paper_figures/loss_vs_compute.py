"""Figure: validation loss against cumulative total compute of every method, two panels per task."""

from __future__ import annotations

from collections.abc import Sequence

import common
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from mat.evidence.measures import FLOPS_PER_MAC, total_macs
from mat.evidence.tables import Tables
from mat.evidence.write import flop_unit

Bound = tuple[float, str, bool]  # value, label, label below the line

LEDGER = "executed"
GRID = 200
LOG_FROM = 5.0  # a panel whose losses span more than this ratio gets a logarithmic axis


def draw(tables: Tables) -> Figure:
    """A pair of panels per task. Top: whole runs. Bottom: the same near the end, where methods differ least."""
    tasks = tables.tasks
    figure, places = common.pairs(len(tasks), above=0.8, height=4.2)
    for task, (grid, row, column) in zip(tasks, places, strict=True):
        whole = figure.add_subplot(grid[row, column])
        ending = figure.add_subplot(grid[row + 1, column], sharex=whole)
        whole.tick_params(labelbottom=False)
        bands = {
            name: found for name in tables.methods(task) if (found := band(tables, task, name)) is not None
        }
        for ax, near_end in ((whole, False), (ending, True)):
            panel(ax, tables, bands, bounds(tables, task), near_end)
            ax.set_ylabel(f"validation loss, {tables.loss_unit(task)}")
        whole.set_title(task)
    common.legend(figure, ncols=6, handlelength=3)
    common.footer(
        figure,
        [
            f"scale {tables.scope}",
            f"{common.seeds_text(tables)}: mean, and band from the lowest to the highest seed",
        ],
        [
            f"{LEDGER} ledger, charged probes included",
            "1 MAC = 2 FLOP",
            "large marker: end of the method's runs",
        ],
        ["bottom: the same curves, enlarged around the losses at their ends"],
    )
    return figure


def panel(
    ax: Axes, tables: Tables, bands: dict[str, pd.DataFrame], lines: list[Bound], near_end: bool
) -> None:
    """Every method's mean and band, and the known bounds; with ``near_end`` only the losses at the ends."""
    largest = max((found["flop"].iloc[-1] for found in bands.values()), default=1.0)
    factor, unit = flop_unit(largest)
    for number, (method, found) in enumerate(bands.items()):
        look, x = common.look(method, tables), found["flop"] / factor
        ax.fill_between(x, found["low"], found["high"], color=look.colour, alpha=0.18, linewidth=0)
        ax.plot(
            x, found["mean"], color=look.colour, linestyle=look.line, marker=look.marker, markersize=3.5,
            markevery=list(range(10 + 5 * number, GRID - 12, 40)), label=common.method_name(method),
        )  # fmt: skip
        ax.plot(
            x.iloc[-1:],
            found["mean"].iloc[-1:],
            color=look.colour,
            marker=look.marker,
            markersize=6,
            zorder=5,
        )
    ax.set_xlim(0, 1.03 * largest / factor)
    ax.grid(True)
    if bands:
        low, high = limits(ax, bands, [value for value, _, _ in lines], near_end)
        lines = [line for line in lines if low <= line[0] <= high]
    for value, label, below in lines:
        below = below and ax.get_yscale() == "linear"  # on a logarithmic axis the lowest line is at its end
        ax.axhline(value, color="0.35", linewidth=0.9, linestyle=(0, (6, 2)), zorder=1)
        ax.annotate(
            label, (1.0, value), xycoords=("axes fraction", "data"), xytext=(0, -2 if below else 2),
            textcoords="offset points", ha="right", va="top" if below else "bottom", fontsize=7, color="0.25",
        )  # fmt: skip
    if near_end:
        ax.set_xlabel(f"cumulative compute, {unit}")


def limits(
    ax: Axes, bands: dict[str, pd.DataFrame], lines: list[float], near_end: bool
) -> tuple[float, float]:
    """Set the vertical axis and return its ends: all losses and bounds, or the losses at the runs' ends."""
    low = min(found["low"].min() for found in bands.values())
    high = max(found["high"].max() for found in bands.values())
    if near_end:
        last = max(found["high"].iloc[-1] for found in bands.values())
        span = max(last - low, 0.01 * (high - low))
        ends = low - 0.15 * span, last + 0.5 * span
    elif high / max(low, 1e-12) > LOG_FROM:
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ends = min([low, *lines]) / 1.15, max([high, *lines]) * 1.15
    else:
        low, high = min([low, *lines]), max([high, *lines])
        ends = low - 0.12 * (high - low), high + 0.07 * (high - low)
    ax.set_ylim(*ends)
    return ends


def band(tables: Tables, task: str, method: str) -> pd.DataFrame | None:
    """Mean, lowest and highest validation loss of the finished seeds on a grid of compute; None without one.

    The grid, in FLOP, runs from the latest start to the earliest end among the seeds, so that every point
    stands on all of them; between evaluations the loss is linear.
    """
    curves = []
    for _, run in tables.finished(task, method).iterrows():
        curve = tables.curve(run["run"])
        macs = total_macs(curve, LEDGER, bool(run["charges_probe"])).to_numpy(dtype=float)
        curves.append((FLOPS_PER_MAC * macs, curve["val_loss"].to_numpy(dtype=float)))
    if not curves:
        return None
    grid = np.linspace(max(flop[0] for flop, _ in curves), min(flop[-1] for flop, _ in curves), GRID)
    values = np.array([np.interp(grid, flop, loss) for flop, loss in curves])
    return pd.DataFrame(
        {"flop": grid, "mean": values.mean(axis=0), "low": values.min(axis=0), "high": values.max(axis=0)}
    )


def bounds(tables: Tables, task: str) -> list[Bound]:
    """Known reference losses of the validation split."""
    known = tables.bounds(task, "validation")
    texts = {"floor": ("best possible: no method can cross", True), "unigram": ("unigram", False)}
    return [(known[name], *text) for name, text in texts.items() if name in known]


def main(arguments: Sequence[str] | None = None) -> None:
    common.main(draw, "loss_vs_compute", __doc__, arguments)


if __name__ == "__main__":
    main()
