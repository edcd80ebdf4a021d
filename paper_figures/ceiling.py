"""Figure: what a training step is made of, and what it can save at most at a given share of active modules."""

from __future__ import annotations

import common
import matplotlib.pyplot as plt
import pandas as pd
import styles
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MultipleLocator
from styles import Style

from mat.evidence.runs.pooled import Tables
from mat.evidence.tables.ceiling import reported_saving
from mat.evidence.text import words

FIGURE = {
    "title": "The ceiling",
    "about": ("What a training step is made of, and what it can save at most at a given share of active modules."),
    "reads": ("ceiling", "ceiling_parts"),
    "held": "Closed-form ledger, 1 MAC = 2 FLOP; it needs no runs.",
    "place": 120,
}

# colour says the kind and hatch the pass; in grey the kinds keep their order within a pass and their lightness
KINDS = {kind: (name, style.colour) for kind, (name, style) in styles.KINDS.items()} | {
    "remainder": ("remainder", "0.75")
}
PASSES = {"forward": ("forward", ""), "input": ("input gradients", "////"), "weight": ("weight gradients", "....")}
MODES = {"detach": Style(styles.VERMILION, "-", "s"), "exact": Style(styles.BLUE, (0, (4, 1.5)), "o")}
DOTTED = {"color": "0.35", "linestyle": (0, (1, 1.5)), "linewidth": 0.8}
COLUMNS = 2


def draw(tables: Tables) -> Figure:
    """Left: percent of a dense step by part, a bar per model. Right: percent saved over the active share."""
    parts, savings = tables.made.get("ceiling_parts"), tables.made.get("ceiling")
    if parts is None or savings is None:
        return common.nothing(tables, "No ceiling was computed at this scale.")
    models = parts.drop_duplicates("label")
    models = models.sort_values("source", kind="stable")  # the paper's first
    rows = -(-len(models) // COLUMNS)
    figure = plt.figure(figsize=(common.WIDTH, 1.2 + 1.3 * max(rows, 2)))
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.25))
    step(left.subplots(), parts, models)
    left.legend(handles=parts_legend(parts), loc="outside upper left", ncols=2, handlelength=1.6, columnspacing=1)
    axes = right.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False)
    for ax in axes.flat[len(models) :]:
        ax.set_axis_off()
    for place, (ax, (_, model)) in enumerate(zip(axes.flat, models.iterrows(), strict=False)):
        saving(ax, savings[savings["label"] == model["label"]], model)
        ax.tick_params(labelbottom=place + COLUMNS >= len(models))
    right.supxlabel("active share of the modules, %", fontsize=8)
    right.supylabel("saving of a step, % of the dense step", fontsize=8)
    right.legend(handles=saving_legend(savings), loc="outside upper left", ncols=2, columnspacing=1)
    common.footer(
        figure,
        f"scale {tables.scope}  ·  closed-form ledger, multiply-adds of products; a saving of a step, not of a run",
        f"line: mean of {savings['draws'].iloc[0]} random active sets  ·  shaded: all active sets of that size",
        "without residual paths (VGG) detach ends the backward pass at a layer that is wholly inactive",
    )
    return figure


def step(ax: Axes, parts: pd.DataFrame, models: pd.DataFrame) -> None:
    """Horizontal bars: forward pass, input and weight gradients from left to right, each by kind."""
    for place, label in enumerate(models["label"]):
        rows, start = parts[parts["label"] == label].set_index("kind"), 0.0
        for name, (_, hatch) in PASSES.items():
            for kind, (_, colour) in KINDS.items():
                if kind not in rows.index:
                    continue
                width = rows.loc[kind, f"{name}_percent"]
                ax.barh(
                    place, width, left=start, height=0.62, color=colour, hatch=hatch, edgecolor="black",
                    linewidth=0.4, clip_on=False,
                )  # fmt: skip
                start += width
    ax.set_yticks(range(len(models)), [bar_name(model) for _, model in models.iterrows()])
    ax.set_ylim(len(models) - 0.5, -0.5)
    ax.set_xlim(0, 100)
    ax.xaxis.set_major_locator(MultipleLocator(25))
    ax.set_xlabel("share of a dense step, %")


def bar_name(model: pd.Series) -> str:
    """Name, the dense step's work in a unit that needs no zeros, batch and modules."""
    macs = model["dense_macs"]
    factor, unit = next(((f, u) for f, u in ((1e12, "T"), (1e9, "G"), (1e6, "M")) if macs >= f), (1e6, "M"))
    named, work = words.task(model["label"]), f"{macs / factor:.3g} {unit}MAC, batch {model['batch']}"
    return f"{named}\n{work}\n{model['modules']} modules"


def saving(ax: Axes, rows: pd.DataFrame, model: pd.Series) -> None:
    """Saving over the active share in both modes, the paper's range, its saving for this model, and its share."""
    first = rows.iloc[0]
    ax.axhspan(first["reported_low"], first["reported_high"], color="0.9", zorder=0)
    ax.axvline(100 * first["reported_active_share"], zorder=1, **DOTTED)
    wanted = reported_saving(model)
    if wanted == wanted:
        ax.axhline(wanted, color=styles.BLACK, linewidth=0.9, linestyle="-.", zorder=1)
        ax.annotate(
            f"{wanted:.1f} %", (100, wanted), xytext=(0, 1.5), textcoords="offset points", ha="right", va="bottom",
            fontsize=7, path_effects=[withStroke(linewidth=2, foreground="white")], zorder=4,
        )  # fmt: skip
    for mode, style in MODES.items():
        own = rows[rows["mode"] == mode].sort_values("share").drop_duplicates("active")
        x = 100 * own["active"] / own["modules"]  # what a whole number of modules really is
        ax.fill_between(
            x, own["saving_least"], own["saving_most"], color=style.colour, alpha=0.18, linewidth=0, zorder=2
        )
        for end in ("saving_least", "saving_most"):
            ax.plot(x, own[end], color=style.colour, linestyle=style.line, linewidth=0.5, zorder=2)
        ax.plot(x, own["saving_mean"], color=style.colour, linestyle=style.line, zorder=3)
    ax.set_title(words.task(model["label"]), pad=3, fontsize=7.5)
    ax.set_xlim(0, 100)
    ax.set_ylim(0, 70)
    ax.xaxis.set_major_locator(MultipleLocator(25))
    ax.yaxis.set_major_locator(MultipleLocator(20))
    ax.grid(True)


def parts_legend(parts: pd.DataFrame) -> list[Patch]:
    found = set(parts["kind"])
    kinds = [Patch(facecolor=c, edgecolor="black", label=n, linewidth=0.4) for k, (n, c) in KINDS.items() if k in found]
    return kinds + [
        Patch(facecolor="white", edgecolor="black", hatch=2 * hatch, label=name, linewidth=0.4)
        for name, hatch in PASSES.values()
    ]


def saving_legend(savings: pd.DataFrame) -> list:
    first = savings.iloc[0]
    low, high, share = (first[f"reported_{name}"] for name in ("low", "high", "active_share"))
    lines = [plt.Line2D([], [], color=style.colour, linestyle=style.line, label=m) for m, style in MODES.items()]
    return [
        *lines,
        plt.Line2D([], [], color=styles.BLACK, linestyle="-.", linewidth=0.9, label="paper, run of this model"),
        Patch(facecolor="0.9", label=f"paper, all its runs: {low:g}–{high:g} %"),
        plt.Line2D([], [], **DOTTED, label=f"paper, active: {100 * share:g} %"),
    ]


if __name__ == "__main__":
    common.main(draw, __file__)
