"""Figure: quality against compute at the end of training, of MAT, the paper's baselines and today's rivals."""

from __future__ import annotations

import common
import styles
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mat.evidence.measures import over_seeds
from mat.evidence.runs import method_groups, metrics
from mat.evidence.runs.pooled import Tables
from mat.evidence.stats.intervals import Interval, mean_interval
from mat.evidence.text import words
from mat.records.costs import FLOPS_PER_MAC, flop_unit

FIGURE = {
    "title": "Quality against compute at the end",
    "about": ("Test metric and compute at the end of training, of MAT, the paper's baselines and rivals of today."),
    "needs": (("rivals",),),
    "place": 30,
}

LEDGER = "executed"
GROUPS = (*method_groups.MAIN, "rivals")
NCOLS = 5


def draw(tables: Tables) -> Figure:
    """One panel per task, one marker per method; in every panel up is better and left is cheaper."""
    shown = {task: found for task in tables.tasks if (found := points(tables, task))}
    if not shown:
        return common.nothing(tables, "No finished run.")
    methods = method_groups.ordered(set().union(*shown.values()))
    figure, axes = common.panels(
        len(shown), above=common.legend_inches(len(methods) + 1, NCOLS) + 0.4, height=2.45, columns=common.COLUMNS
    )
    for ax, (task, found) in zip(axes, shown.items(), strict=True):
        panel(ax, tables, task, found)
    handles = [*styles.method_handles(methods, tables.labels), front_handle()]
    figure.legend(handles=handles, loc="outside upper center", ncols=NCOLS, columnspacing=1.2, handletextpad=0.5)
    common.footer(
        figure,
        f"scale {tables.scope}  ·  {common.seeds_text(tables, methods)}: mean with 95 % intervals  ·  test split, "
        "weights at the end",
        f"{LEDGER} ledger, charged probes included  ·  1 MAC = 2 FLOP  ·  up is better in every panel: axes of losses "
        "are turned round",
        "Pareto front of the means: no method shown is better and cheaper  ·  intervals may end beyond a panel",
    )
    return figure


def points(tables: Tables, task: str) -> dict[str, tuple[Interval, Interval]]:
    """(compute in FLOP, test metric) with intervals, of every method with a finished run."""
    return {
        method: (
            mean_interval(FLOPS_PER_MAC * over_seeds.whole_run_macs(tables, task, method, LEDGER)),
            mean_interval(tables.finished(task, method)["test_metric"]),
        )
        for method in method_groups.of_groups(tables.methods(task), GROUPS)
        if len(tables.finished(task, method))
    }


def panel(ax: Axes, tables: Tables, task: str, found: dict[str, tuple[Interval, Interval]]) -> None:
    """Markers, intervals and the front of one task."""
    metric, higher = next(iter(tables.metrics(task).items()))
    unit = tables.loss_unit(task)
    shown = metrics.shown(metric, unit)
    scale, flop = flop_unit(max(compute.mean for compute, _ in found.values()))
    scaled = {
        name: (compute.scaled(1 / scale), quality.scaled(shown.factor)) for name, (compute, quality) in found.items()
    }
    for name, (compute, quality) in scaled.items():
        style = styles.style(name, tables.labels)
        ax.errorbar(
            compute.mean, quality.mean, xerr=common.bars(compute), yerr=common.bars(quality), linestyle="none",
            elinewidth=0.7, markersize=5, markeredgewidth=0.9, zorder=4 if name == "mat" else 3, label=name,
            **style.marked,
        )  # fmt: skip
    front = pareto({name: (compute.mean, quality.mean) for name, (compute, quality) in scaled.items()}, higher)
    ax.plot(
        [scaled[name][0].mean for name in front], [scaled[name][1].mean for name in front], color="0.6",
        linewidth=3.5, solid_capstyle="round", marker="o", markersize=10, alpha=0.45, markeredgewidth=0, zorder=1,
    )  # fmt: skip
    limit(ax, [value for _, value in scaled.values()], shown)
    ax.margins(x=0.08)
    ax.set_xlim(left=0)
    if not higher:
        ax.invert_yaxis()
    ax.set_title(words.task(task))
    ax.set_xlabel(f"compute at the end, {flop}")
    ax.set_ylabel(f"test {metrics.title(metric, unit)}")
    ax.grid(True)


def limit(ax: Axes, values: list[Interval], shown: metrics.Shown) -> None:
    """A t interval of two or three seeds can be wider than all means; the axis shows all means, at most twice their
    span of an interval beyond, and no value that the metric cannot take."""
    means = [value.mean for value in values]
    span = max(max(means) - min(means), 1e-3 * abs(max(means)) + 1e-9)
    low, high = ax.get_ylim()
    low, high = max(low, min(means) - span), min(high, max(means) + span)
    edge = 0.05 * span
    ax.set_ylim(max(low, shown.factor * shown.low - edge), min(high, shown.factor * shown.high + edge))


def pareto(means: dict[str, tuple[float, float]], higher: bool) -> list[str]:
    """Methods that no other beats in quality at no more compute, from the cheapest to the dearest."""
    sign, front, best = (1 if higher else -1), [], float("-inf")
    for name, (_, quality) in sorted(means.items(), key=lambda item: (item[1][0], -sign * item[1][1])):
        if sign * quality > best:
            front.append(name)
            best = sign * quality
    return front


def front_handle() -> object:
    return styles.handle(
        "Pareto front", styles.Style("0.6", "-", "o"), alpha=0.45, linestyle="-", linewidth=3.5, markersize=8,
        markeredgewidth=0,
    )  # fmt: skip


if __name__ == "__main__":
    common.main(draw, __file__)
