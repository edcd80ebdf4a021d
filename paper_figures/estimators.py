"""Figure: how far module rankings agree between kernel estimators, over n and over training."""

from __future__ import annotations

import common
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MultipleLocator, NullLocator, StrMethodFormatter
from styles import BLACK, BLUE, GREEN, INDIGO, ORANGE, PURPLE, SKY, VERMILION, YELLOW, Style

from mat.evidence.runs.pooled import Tables
from mat.evidence.tables.estimator_choice import TRAINED, changes
from mat.evidence.text import words

FIGURE = {
    "title": "Agreement of estimators",
    "about": "Agreement of module rankings between kernel estimators, over n and over training.",
    "reads": ("agreement",),
    "held": "Kendall's τ_b; seeds and probe sets are in its footer.",
    "place": 130,
}

STYLES = {
    "sum_of_logits": Style(VERMILION, "-", "o"),
    "loss": Style(PURPLE, "--", "D"),
    "trace": Style(BLUE, "-.", "s"),
    "full": Style(BLACK, "-", "*"),
    "step": Style(INDIGO, "--", "h"),
}
PROJECTED = (  # in the order of their directions
    Style(GREEN, (0, (1, 1)), "^"),
    Style(SKY, (0, (3, 1, 1, 1)), "v"),
    Style(ORANGE, (0, (5, 1)), "P"),
    Style(YELLOW, (0, (2, 1)), "X"),
)
CHANGES = {
    "reference": "estimator",
    "largest_n": "n",
    "probe_sets": "probe set",
    "cosine": "cosine",
    "per_parameter": "per parameter",
}
HEIGHTS = (1.5, 1.35, 1.0)


def draw(tables: Tables) -> Figure:
    """Columns: families. Rows: τ_b with the reference over n, over training; default ranking when one
    thing is changed."""
    table = tables.made.get("agreement")
    if table is None or table.empty:
        return common.nothing(tables, "No estimators were compared at this scale.")
    families = tables.families_of("agreement")
    styles = styles_of(table)
    figure, axes = plt.subplots(3, len(families), figsize=(common.WIDTH, 6.4), squeeze=False, height_ratios=HEIGHTS)
    low = lowest(table)
    for column, family in enumerate(families):
        rows = table[table["family"] == family]
        first, ours = rows.iloc[0], axes[:, column]
        for ax, panel in zip(ours, (over_n, over_training, changed), strict=True):
            panel(ax, rows, styles)
            ax.grid(True)
        for ax in ours[:2]:
            ax.set_ylim(low, 1.06)
            ax.yaxis.set_major_locator(MultipleLocator(0.25))
        ours[2].set_xlim(low, 1.06)
        ours[0].set_title(
            f"{words.family(family, first['task'])}\n{first['modules']} modules, {first['logits']} logits\n"
            f"reference: {shown(first['reference']) or 'none'}",
            fontsize=7,
        )
        if column:
            for ax in ours:
                ax.tick_params(labelleft=False)
    for ax, about in zip(axes[:2, 0], ("over n", f"over training, n = {sizes(table)}"), strict=True):
        ax.set_ylabel(r"$\tau_b$ with the reference" + f"\n{about}")
    axes[2][0].set_ylabel("default ranking,\none thing changed")
    handles = [
        plt.Line2D([], [], color=style.colour, linestyle=style.line, marker=style.marker, label=shown(name))
        for name, style in styles.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=5, handlelength=3)
    common.footer(
        figure,
        f"scale {tables.scope}  ·  n = {int(table['n_seeds'].max())} seeds: mean and 95 % t interval of each seed's "
        f"mean over {int(table['probe_sets'].max())} disjoint probe sets",
        "all but the second row: checkpoints after the start, pooled  ·  a reference has no curve of its own",
    )
    return figure


def shown(name: str) -> str:
    """The estimator as printed: projected_8 is ``projected, r = 8``."""
    kind, _, rounds = name.rpartition("_")
    return f"projected, r\u00a0=\u00a0{rounds}" if kind == "projected" else name.replace("_", " ")


def styles_of(table: pd.DataFrame) -> dict[str, Style]:
    """One style per estimator compared with a reference in any family, fixed order first."""
    found = set(table.loc[table["comparison"] == "reference", "estimator"])
    projected = sorted(found - set(STYLES), key=lambda name: int(name.rpartition("_")[2]))
    styles = {name: style for name, style in STYLES.items() if name in found}
    return styles | {name: PROJECTED[i % len(PROJECTED)] for i, name in enumerate(projected)}


def lowest(table: pd.DataFrame) -> float:
    """Lower end of every τ_b axis: below the lowest mean shown, and at least down to 0."""
    used = table[table["normalisation"] == table["default_normalisation"]]
    means = [*used.loc[used["comparison"] == "reference", "tau_mean"]]
    means += [v.mean for family in set(table["family"]) for v in changes(table, family).values()]
    known = [value for value in means if np.isfinite(value)]
    return max(-1.06, min([0.0, *known]) - 0.12)


def sizes(table: pd.DataFrame) -> str:
    return " or ".join(str(n) for n in sorted(set(table["default_n"])))


def compared(rows: pd.DataFrame) -> pd.DataFrame:
    """Comparisons with the reference at the default normalisation."""
    chosen = (rows["comparison"] == "reference") & (rows["normalisation"] == rows["default_normalisation"])
    return rows[chosen]


def over_n(ax: Axes, rows: pd.DataFrame, styles: dict[str, Style]) -> None:
    chosen = compared(rows)
    curves(ax, chosen[chosen["checkpoint"] == TRAINED], "n", styles, 1.035)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_locator(FixedLocator(sorted(set(rows["n"]))))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlim(rows["n"].min() / 1.25, rows["n"].max() * 1.25)
    ax.set_xlabel("probe n (dashed: default)")
    ax.axvline(rows["default_n"].iloc[0], color="0.55", linewidth=0.8, linestyle=(0, (6, 2)), zorder=1)
    if chosen.empty:
        ax.text(0.5, 0.5, "no reference", transform=ax.transAxes, ha="center", va="center")


def over_training(ax: Axes, rows: pd.DataFrame, styles: dict[str, Style]) -> None:
    shares = sorted({float(name) for name in rows["checkpoint"] if name != TRAINED})
    chosen = compared(rows[(rows["checkpoint"] != TRAINED) & (rows["n"] == rows["default_n"])])
    at = chosen["checkpoint"].astype(float).map({share: 2.0**place for place, share in enumerate(shares)})
    curves(ax, chosen.assign(at=at), "at", styles, 1.03)
    ax.set_xscale("log", base=2)  # evenly spaced, whatever the shares are
    ax.set_xticks([2.0**place for place in range(len(shares))], [f"{100 * share:g} %" for share in shares])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("share of training")


def changed(ax: Axes, rows: pd.DataFrame, styles: dict[str, Style]) -> None:
    found = changes(rows, rows["family"].iloc[0])
    for place, change in enumerate(CHANGES):
        value = found[change]
        if not np.isfinite(value.mean):
            ax.text(0.5, place, "not measured", fontsize=7, color="0.35", ha="center", va="center")
            continue
        ax.errorbar(value.mean, place, xerr=common.bars(value), color=BLACK, marker="o", linewidth=0.9, capsize=2)
    ax.set_yticks(range(len(CHANGES)), list(CHANGES.values()))
    ax.set_ylim(len(CHANGES) - 0.5, -0.5)
    ax.set_xlabel(r"$\tau_b$ with the default")


def curves(ax: Axes, rows: pd.DataFrame, x: str, styles: dict[str, Style], apart: float) -> None:
    """One curve with intervals per estimator, moved sideways by a factor so that intervals do not cover each other."""
    for place, (name, style) in enumerate(styles.items()):
        own = rows[rows["estimator"] == name].sort_values(x)
        ax.errorbar(
            own[x] * apart ** (place - (len(styles) - 1) / 2), own["tau_mean"], yerr=reach(own),
            color=style.colour, linestyle=style.line, marker=style.marker, linewidth=1.2, elinewidth=0.7,
            capsize=1.5,
        )  # fmt: skip


def reach(rows: pd.DataFrame) -> np.ndarray:
    """Interval bounds as distances from the mean, for ``errorbar``; 0 where there is no interval."""
    ends = np.array([rows["tau_mean"] - rows["tau_low"], rows["tau_high"] - rows["tau_mean"]], dtype=float)
    return np.nan_to_num(ends.clip(min=0))


if __name__ == "__main__":
    common.main(draw, __file__)
