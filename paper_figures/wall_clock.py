"""Figure: do FLOP savings survive as wall-clock savings (X2)? Both against vanilla, over whole runs, task by task."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import common
import numpy as np
import pandas as pd
import styles
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mat.evidence.measures import over_seeds
from mat.evidence.runs import method_groups
from mat.evidence.runs.pooled import REFERENCE, Tables
from mat.evidence.stats.intervals import Interval, saving_percent

FIGURE = {
    "title": "Seconds beside FLOPs",
    "about": "Saved FLOPs beside saved seconds.",
    "needs": (("vanilla",), ("MAT", "baselines", "rivals", "controls", "learning rates", "sensitivity", "others")),
    "beside": ("step_times",),
    "place": 110,
}

LEDGER = "executed"


class Clock(NamedTuple):
    """Seconds of a run: what they are called, what is said of them, their values by seed."""

    name: str
    about: str
    measure: Callable[[Tables, str, str], pd.Series]


CLOCKS = {
    "reference": Clock(
        "reference seconds", "reference seconds: by arithmetic from step times", over_seeds.reference_seconds
    ),
    "clock": Clock("seconds", "seconds as clocked, beside whatever else ran", over_seeds.wall_clock),
}
GROUPS = (*method_groups.MAIN, "rivals")
NCOLS = 5
LEAST = -200.0  # percent: three times vanilla's cost; what is dearer stands at the edge with its numbers


def draw(tables: Tables) -> Figure:
    """One panel per task: saving in FLOP to the right, in seconds upwards; on the diagonal they are equal."""
    clock = "reference" if "step_times" in tables.made else "clock"
    shown = {task: found for task in tables.tasks if (found := savings(tables, task, clock))}
    if not shown:
        return common.nothing(tables, f"No method shares a finished seed with {REFERENCE}.")
    methods = method_groups.ordered(set().union(*shown.values()))
    figure, axes = common.panels(
        len(shown),
        above=common.legend_inches(len(methods), NCOLS) + 0.45,
        height=2.45 if len(shown) < common.MANY else 2.0,
    )
    for ax, (task, found) in zip(axes, shown.items(), strict=True):
        panel(ax, tables, found)
        common.task_title(ax, task)
        ax.set_xlabel("saving in FLOP, %")
        if ax.get_subplotspec().is_first_col():
            ax.set_ylabel(f"saving in {CLOCKS[clock].name}, %")
    handles = styles.method_handles(methods, tables.labels)
    figure.legend(handles=handles, loc="outside upper center", ncols=NCOLS, columnspacing=1.2, handletextpad=0.3)
    common.footer(
        figure,
        f"scale {tables.scope}  ·  {common.seeds_text(tables, [REFERENCE, *methods])}, paired with {REFERENCE}: "
        "geometric mean with 95 % intervals",
        f"{LEDGER} ledger, charged probes included in FLOP and in seconds; evaluation in neither",
        f"{CLOCKS[clock].about}  ·  hardware: {hardware(tables)}",
        "on the diagonal a saved FLOP saves its time; below it, it saves less  ·  shaded: dearer than vanilla",
    )
    return figure


def savings(tables: Tables, task: str, clock: str) -> dict[str, tuple[Interval, Interval]]:
    """(saving in FLOP, saving in seconds of ``clock``), percent of vanilla's whole run of the same seed, by method."""
    found = {}
    for method in method_groups.of_groups(tables.methods(task), GROUPS):
        if method == REFERENCE:
            continue
        flops, seconds = (
            [over_seeds.whole_run_macs(tables, task, name, LEDGER) for name in (method, REFERENCE)],
            [CLOCKS[clock].measure(tables, task, name) for name in (method, REFERENCE)],
        )
        value = saving_percent(*flops), saving_percent(*seconds)
        if all(one.n for one in value):
            found[method] = value
    return found


def panel(ax: Axes, tables: Tables, found: dict[str, tuple[Interval, Interval]]) -> None:
    """Markers with intervals in both directions, the diagonal, and the quadrants without a saving."""
    ends = [(x.mean, y.mean) for x, y in found.values()]
    low = max(LEAST, min(0.0, *(min(pair) for pair in ends)) - 12)
    for name, (flops, seconds) in found.items():
        style, place = styles.style(name, tables.labels), (flops.mean, seconds.mean)
        ax.errorbar(
            *np.maximum(place, low), xerr=bars(flops, low), yerr=bars(seconds, low), linestyle="none",
            elinewidth=0.7, markersize=5, markeredgewidth=0.9, label=name, **style.marked,
        )  # fmt: skip
        if min(place) < low:
            ax.annotate(
                f"({flops.mean:.0f}, {seconds.mean:.0f})", np.maximum(place, low), xytext=(4, 4),
                textcoords="offset points", fontsize=7,
            )  # fmt: skip
    ax.plot([low, 100], [low, 100], color="0.35", linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
    ax.axvspan(low, 0, color="0.93", zorder=0, linewidth=0)
    ax.axhspan(low, 0, color="0.93", zorder=0, linewidth=0)
    ax.set(xlim=(low, 100), ylim=(low, 100), aspect="equal")
    ax.grid(True)


def bars(value: Interval, low: float) -> list[list[float]] | None:
    """The interval as error bars of a marker that stands at ``low`` where its mean is below: what of it is on the axis,
    which ends at ``low`` and 100."""
    if common.bars(value) is None:
        return None
    place = max(value.mean, low)
    ends = (min(max(end, low), 100.0) for end in (value.low, value.high))
    return [[max(0.0, place - next(ends))], [max(0.0, next(ends) - place)]]


def hardware(tables: Tables) -> str:
    """The processors and devices that the runs were timed on, each once."""
    columns = [name for name in ("device", "cpu", "threads") if name in tables.runs]
    found = tables.runs[columns].drop_duplicates().astype(str)
    names = sorted(
        f"{row['device']}, {row['cpu']}, {row['threads']} thread{'s' * (row['threads'] != '1')}"
        for _, row in found.iterrows()
    )
    return names[0] if len(names) == 1 else f"{len(names)} kinds, see runs.csv"


if __name__ == "__main__":
    common.main(draw, __file__)
