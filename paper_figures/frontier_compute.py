"""Figure: loss at the end of a run against its whole compute: vanilla's line over budgets, other methods as points."""

from __future__ import annotations

import common
import matplotlib.pyplot as plt
import numpy as np
import styles
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullFormatter, StrMethodFormatter

from mat.evidence.measures import over_seeds
from mat.evidence.runs import method_groups
from mat.evidence.runs.pooled import REFERENCE, Tables
from mat.evidence.stats.intervals import Interval, mean_interval
from mat.evidence.text import words

FIGURE = {
    "title": "The frontier of quality against compute",
    "about": (
        "Loss at the end of its schedule against a run's whole compute. Vanilla's line goes over budgets, each decayed "
        "fully; whatever is not below it is bought more cheaply by training everything for fewer steps. An arrow takes "
        "a method's probes away."
    ),
    "needs": (("MAT", "baselines", "controls", "rivals", "budgets"),),
    "place": 21,
}
LEDGER = "executed"
LINE = (
    *("vanilla_b10", "vanilla_b25", "vanilla_b50", "vanilla_b75"),
    *("vanilla_short", "vanilla_short_exact", "vanilla_short_residual", REFERENCE),
)
OTHERS, RATES, TUNED = "others", "vanilla, other rates", "tuned"
MARKS = {  # of groups, or of labels apart from theirs, by what a legend calls them
    "MAT": ("s", ("MAT",)),
    "MAT, budgets and choices": ("D", ("budgets", "sensitivity", "learning rates")),
    "baselines": ("^", ("baselines", "equal compute")),
    "rivals": ("P", ("rivals",)),
    "controls": ("v", ("controls",)),
    "doses": ("*", ("doses",)),
    RATES: ("h", ("vanilla_lr_half", "vanilla_lr_double")),  # which are no choices of MAT's
    TUNED: ("p", ()),
    OTHERS: ("X", ()),
}
SHARES = "viridis_r"
FAR = 60.0  # percent; a panel with values beyond it gets an axis that is logarithmic from 10 on
TICKS = tuple(digit * 10.0**power for power in range(-1, 4) for digit in (1, 2, 5))


def draw(tables: Tables) -> Figure:
    """One panel per task, in percent of vanilla's compute and of the range of its loss, paired by seed."""
    shown = [task for task in tables.tasks if over_seeds.dynamic_range(tables, task).notna().any()]
    others = [label for label in tables.labels if label not in LINE]
    kinds = {kind_of(label) for label in others}
    if not shown or not others:
        return common.nothing(tables, "No finished run of another method beside one of vanilla.")
    figure, axes = common.panels(len(shown), above=0.95, height=2.5, columns=common.COLUMNS)
    colours = plt.cm.ScalarMappable(Normalize(0, 100), SHARES)
    for ax, task in zip(axes, shown, strict=True):
        panel(ax, tables, task, colours)
    figure.colorbar(colours, ax=axes, label="modules that a gradient reached, %", fraction=0.02, pad=0.01)
    figure.legend(
        handles=legend([kind for kind in MARKS if kind in kinds]), loc="outside upper center", ncols=4, handlelength=2
    )
    common.footer(
        figure,
        f"scale {tables.scope}  ·  {common.seeds_text(tables)}, paired: means; 95 % intervals of losses may leave the "
        "panel",
        f"{LEDGER} ledger, charged probes included, percent of vanilla's whole run  ·  arrow: without its probes  ·  "
        "white: not recorded",
        "loss at the end of a run above vanilla's, in percent of vanilla's range: its loss at the start minus its best",
    )
    return figure


def point(tables: Tables, task: str, method: str) -> tuple[float, float, Interval]:
    """Compute of a method, the same without its charged probes, percent of vanilla's, and its loss above vanilla's."""
    total, whole = (over_seeds.whole_run_macs(tables, task, name, LEDGER) for name in (method, REFERENCE))
    bare = 1 - over_seeds.probe_share_percent(tables, task, method, LEDGER) / 100
    loss, base = (over_seeds.final_losses(tables, task, name) for name in (method, REFERENCE))
    value = mean_interval(100 * (loss - base) / over_seeds.dynamic_range(tables, task))
    return 100 * float((total / whole).mean()), 100 * float((bare * total / whole).mean()), value


def panel(ax: Axes, tables: Tables, task: str, colours: plt.cm.ScalarMappable) -> None:
    """The line, and points with their intervals and arrows."""
    points = {label: point(tables, task, label) for label in tables.methods(task)}
    points = {label: found for label, found in points.items() if found[2].n}
    line = sorted(points[label] for label in LINE if label in points)
    ax.set_xscale("log")
    x, means = [at for at, *_ in line], [value.mean for *_, value in line]
    ax.plot(x, means, color=styles.BLACK, marker="o", markersize=4, zorder=3)
    for at, _, value in line:
        ax.errorbar(at, value.mean, yerr=common.bars(value), color=styles.BLACK, linewidth=0.9, capsize=2, zorder=3)
    for label, (at, bare, value) in points.items():
        if label in LINE:
            continue
        share = mean_interval(over_seeds.reached_share_percent(tables, task, label)).mean
        colour = colours.to_rgba(share) if np.isfinite(share) else "white"
        ax.errorbar(at, value.mean, yerr=common.bars(value), color=colour, linewidth=0.7, alpha=0.5, zorder=2)
        ax.plot(
            at, value.mean, marker=MARKS[kind_of(label)][0], color=colour, markeredgecolor="0.2", markeredgewidth=0.5,
            markersize=5.5, linestyle="none", zorder=4,
        )  # fmt: skip
        if bare < at:
            ax.annotate(
                "", (bare, value.mean), (at, value.mean), zorder=3,
                arrowprops={"arrowstyle": "->", "color": "0.35", "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0},
            )  # fmt: skip
    far = max((abs(value.mean) for *_, value in points.values()), default=0.0) > FAR
    if far:
        ax.set_yscale("symlog", linthresh=10)
    else:  # so that intervals of two seeds do not hide where the points are
        means = [value.mean for *_, value in points.values()]
        span = max(max(means) - min(means), 1.0)
        ax.set_ylim(min(means) - 0.2 * span, max(means) + 0.2 * span)
    least, most = min(bare for _, bare, _ in points.values()), max(at for at, *_ in points.values())
    ends = least / 1.15, most * 1.15
    ax.set_xlim(ends)
    ax.xaxis.set_major_locator(FixedLocator(ticks(*ends)))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    common.task_title(ax, task)
    ax.set_xlabel("compute, % of vanilla's")
    if ax.get_subplotspec().is_first_col():
        ax.set_ylabel("loss above vanilla's,\n% of its range")
    ax.grid(True)


def ticks(low: float, high: float) -> list[float]:
    """Of ``TICKS`` those between; where they are fewer than three, the tens."""
    found = [tick for tick in TICKS if low <= tick <= high]
    return found if len(found) > 2 else [10.0 * ten for ten in range(1, 100) if low <= 10 * ten <= high]


def kind_of(label: str) -> str:
    """What a legend calls the method: by its label, or else by its group."""
    if label.endswith(words.TUNED):
        return TUNED
    named = ((name, own) for own in (label, method_groups.group(label)) for name in MARKS)
    return next((name for name, own in named if own in MARKS[name][1]), OTHERS)


def legend(kinds: list[str]) -> list[Line2D]:
    handles = [
        Line2D([], [], color="0.6", markeredgecolor="0.2", marker=MARKS[name][0], linestyle="none", label=name)
        for name in kinds
    ]
    return [Line2D([], [], color=styles.BLACK, marker="o", label="vanilla over decayed budgets"), *handles]


if __name__ == "__main__":
    common.main(draw, __file__)
