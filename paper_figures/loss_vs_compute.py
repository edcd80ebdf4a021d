"""Figure: validation loss against cumulative total compute of every method, two panels per task."""

from __future__ import annotations

import common
import pandas as pd
import styles
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from mat.evidence.measures.curves import totals
from mat.evidence.runs import method_groups
from mat.evidence.runs.pooled import Tables
from mat.evidence.text import words
from mat.records.costs import FLOPS_PER_MAC, flop_unit

FIGURE = {
    "title": "Validation loss against compute",
    "about": ("Validation loss against the compute really spent, probes included where the method pays for them."),
    "place": 20,
}

Bound = tuple[float, str]  # value, label

LEDGER = "executed"
MAIN = ("vanilla", "mat", "mat_exact", "random", "multirate")
BEST = 2  # rivals shown
PAIRED = 6  # tasks at most; more have one panel each
NCOLS = 4
LOG_FROM = 5.0  # a panel whose losses span more than this ratio gets a logarithmic axis


def draw(tables: Tables) -> Figure:
    """A pair of panels per task. Top: whole runs. Bottom: the same near the end, where methods differ least; that
    alone where a page has no room for pairs."""
    tasks, methods = tables.tasks, chosen(tables)
    shown = [name for name in tables.labels if any(name in of_task for of_task in methods.values())]
    above = common.legend_inches(len(shown), NCOLS) + 0.5
    paired = len(tasks) <= PAIRED
    if paired:
        figure, places = common.pairs(len(tasks), above=above, height=4.2)
    else:
        figure, single = common.panels(len(tasks), above=above, height=2.3, columns=common.COLUMNS)
    for number, task in enumerate(tasks):
        if paired:
            grid, row, column = places[number]
            whole = figure.add_subplot(grid[row, column])
            axes = [whole, figure.add_subplot(grid[row + 1, column], sharex=whole)]
            whole.tick_params(labelbottom=False)
        else:
            axes = [single[number]]
        bands = {name: found for name in methods[task] if (found := band(tables, task, name)) is not None}
        for ax in axes:
            panel(ax, tables, bands, bounds(tables, task), near_end=ax is axes[-1])
            ax.set_ylabel(f"validation loss, {tables.loss_unit(task)}")
        axes[0].set_title(words.task(task))
    common.legend(figure, ncols=NCOLS, handlelength=3)
    notes = [
        *(["bottom: the same curves, enlarged around the losses at their ends"] if paired else []),
        *(
            [f"of the rivals, the {BEST} of lowest mean rank by best validation loss"]
            if left_out(tables, shown)
            else []
        ),
        *([] if paired else ["enlarged around the losses at the curves' ends"]),
    ]
    common.footer(
        figure,
        f"scale {tables.scope}  ·  {common.seeds_text(tables, shown)}: mean, and band from the lowest to the highest "
        "seed",
        f"{LEDGER} ledger, charged probes included  ·  1 MAC = 2 FLOP  ·  large marker: end of the method's runs",
        "  ·  ".join(notes),
    )
    return figure


def chosen(tables: Tables) -> dict[str, list[str]]:
    """The methods shown of every task: the main ones, those that no group has, and the best rivals of the scale."""
    best = best_rivals(tables)
    return {
        task: [
            name for name in tables.methods(task)
            if name in MAIN or method_groups.group(name) == method_groups.OTHERS or name in best
        ]
        for task in tables.tasks
    }  # fmt: skip


def best_rivals(tables: Tables) -> list[str]:
    """The rivals of lowest mean rank, over tasks, by mean best validation loss of the finished seeds; a rival that a
    task lacks is last there. ``vanilla_cut`` is no candidate: its curve is the beginning of vanilla's."""
    losses = {
        task: {
            name: tables.finished(task, name)["best_val_loss"].mean()
            for name in method_groups.of_groups(tables.methods(task), ["rivals"])
            if name != "vanilla_cut" and len(tables.finished(task, name))
        }
        for task in tables.tasks
    }
    ranks = pd.DataFrame(losses).rank().fillna(len(method_groups.GROUPS["rivals"])).mean(axis=1)
    return method_groups.ordered(sorted(ranks.index, key=lambda name: (ranks[name], name))[:BEST])


def left_out(tables: Tables, shown: list[str]) -> bool:
    """Whether a rival has runs and is not shown."""
    return bool(set(method_groups.of_groups(tables.labels, ["rivals"])) - set(shown))


def panel(ax: Axes, tables: Tables, bands: dict[str, pd.DataFrame], lines: list[Bound], near_end: bool) -> None:
    """Every method's mean and band, and the known bounds; with ``near_end`` only the losses at the ends."""
    largest = max((found["x"].iloc[-1] for found in bands.values()), default=1.0)
    factor, unit = flop_unit(largest)
    for number, (method, found) in enumerate(bands.items()):
        style, x = styles.style(method, tables.labels), found["x"] / factor
        ax.fill_between(x, found["low"], found["high"], color=style.colour, alpha=0.18, linewidth=0)
        ax.plot(
            x, found["mean"], linestyle=style.line, markersize=3.5, **style.marked,
            markevery=list(range(10 + 5 * number, common.GRID - 12, 40)), label=styles.method_name(method),
        )  # fmt: skip
        ax.plot(x.iloc[-1:], found["mean"].iloc[-1:], markersize=6, zorder=5, **style.marked)
    ax.set_xlim(0, 1.03 * largest / factor)
    ax.grid(True)
    if bands:
        low, high = limits(ax, bands, [value for value, _ in lines], near_end)
        lines = [line for line in lines if low <= line[0] <= high]
    for value, label in lines:
        ax.axhline(value, color="0.35", linewidth=0.9, linestyle=(0, (6, 2)), zorder=1)
        ax.annotate(
            label, (1.0, value), xycoords=("axes fraction", "data"), xytext=(0, 2),
            textcoords="offset points", ha="right", va="bottom", fontsize=7, color="0.25",
        )  # fmt: skip
    if near_end:
        ax.set_xlabel(f"cumulative compute, {unit}")


def limits(ax: Axes, bands: dict[str, pd.DataFrame], lines: list[float], near_end: bool) -> tuple[float, float]:
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
    """Validation loss of the finished seeds over compute in FLOP, as ``common.band``; None without one."""
    curves = []
    for run in tables.finished_runs(task, method):
        curve = tables.curve(run["run"])
        macs = totals(curve, LEDGER, bool(run["charges_probe"]))
        curves.append((FLOPS_PER_MAC * macs, curve["val_loss"].to_numpy(dtype=float)))
    return common.band(curves) if curves else None


def bounds(tables: Tables, task: str) -> list[Bound]:
    """Known reference losses of the validation split."""
    known = tables.bounds(task, "validation")
    texts = {"floor": "best possible", "unigram": "unigram"}
    return [(known[name], text) for name, text in texts.items() if name in known]


if __name__ == "__main__":
    common.main(draw, __file__)
