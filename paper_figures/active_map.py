"""Figure: which modules were selected when, what of them got gradients, and random selection beside."""

from __future__ import annotations

import re

import common
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import styles
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from mat.evidence.runs.pooled import Tables
from mat.evidence.text import words

FIGURE = {
    "title": "Which modules trained when",
    "about": (
        "The share of seeds in which each module was selected and, where it was recorded, the share of steps in which "
        "it received a gradient, with random selection beside."
    ),
    "held": "{seeds}; no ledger.",
    "place": 80,
}

COLUMNS = (("mat", "active"), ("mat", "reached"), ("random", "active"))
METHODS = tuple(dict.fromkeys(method for method, _ in COLUMNS))
SAID = {"active": "selected", "reached": "got gradients"}
SHARES = LinearSegmentedColormap.from_list("share", ["#F7F7F7", "#56B4E9", "#08306B"])
ROW = 0.122  # inches per module: one line of 7 point text
TALLEST = 4.0  # inches of one task's panels; more modules get thinner rows and one label per group
DECORATION, ABOVE = 0.55, 0.75  # inches of a line's titles and tick labels; of the legend and the footer
FROZEN = {"facecolor": styles.ORANGE, "edgecolor": "0.25", "hatch": "////", "linewidth": 0}


def draw(tables: Tables) -> list[Figure]:
    """Rows: tasks, each as tall as its modules need. Columns: what MAT selected, what of it got gradients, and what
    random selection selected. As many pages as they need."""
    shown = {task: columns for task in tables.tasks if (columns := columns_of(tables, task))}
    if not shown:
        return [common.nothing(tables, f"No finished run of {', '.join(METHODS)}.")]
    orders = {task: module_order(tables, task, columns[0][0]) for task, columns in shown.items()}
    pages: list[list[str]] = [[]]
    for task in shown:
        if inches(orders, [*pages[-1], task]) > common.PAGE:
            pages.append([])
        pages[-1].append(task)
    return [page(tables, {task: shown[task] for task in tasks}, orders) for tasks in pages]


def columns_of(tables: Tables, task: str) -> list[tuple[str, str]]:
    """The columns that a task has runs for; what was reached, where its runs recorded it."""
    found = [column for column in COLUMNS if len(tables.finished(task, column[0]))]
    return [
        (method, flag)
        for method, flag in found
        if flag == "active" or tables.probes_of(*tables.finished(task, method)["run"])["reached"].notna().any()
    ]


def height_of(order: pd.DataFrame) -> float:
    """Inches of a task's panels, by its modules."""
    return min(max(ROW * len(order), 0.9), TALLEST)


def inches(orders: dict[str, pd.DataFrame], tasks: list[str]) -> float:
    """Height of a page with these tasks."""
    return ABOVE + sum(height_of(orders[task]) + DECORATION for task in tasks)


def page(tables: Tables, shown: dict[str, list[tuple[str, str]]], orders: dict[str, pd.DataFrame]) -> Figure:
    """A line of panels for each of some tasks."""
    heights, columns = [height_of(orders[task]) for task in shown], max(map(len, shown.values()))
    figure, axes = plt.subplots(
        len(shown), columns, squeeze=False, figsize=(common.WIDTH, inches(orders, list(shown))),
        gridspec_kw={"height_ratios": heights},
    )  # fmt: skip
    for (task, line), row, height in zip(shown.items(), axes, heights, strict=True):
        for ax in row[len(line) :]:
            ax.set_axis_off()
        for place, (ax, column) in enumerate(zip(row, line, strict=False)):
            panel(ax, tables, task, column, orders[task], height, labels=place == 0)
    legend(figure)
    common.footer(
        figure,
        f"scale {tables.scope}  ·  {common.seeds_text(tables, METHODS)}  ·  no ledger: the horizontal axis is probe "
        "intervals",
        "rows: modules, the first of a layer with its layer, or layer · kind (modules); input at the top  ·  lines "
        "separate layers",
    )
    return figure


def panel(
    ax: Axes, tables: Tables, task: str, column: tuple[str, str], order: pd.DataFrame, height: float, labels: bool
) -> None:
    """One task and column: dark where all seeds had the module so, marked where most froze it."""
    method, flag = column
    found = shares(tables, task, method, flag, order)
    edges = (np.arange(count + 1) - 0.5 for count in reversed(found.shape))
    ax.pcolormesh(*edges, found, cmap=SHARES, vmin=0, vmax=1)
    for row, interval in np.argwhere(shares(tables, task, method, "frozen", order) > 0.5):
        ax.add_patch(Rectangle((interval - 0.5, row - 0.5), 1, 1, **FROZEN))
    starts = np.flatnonzero(np.diff(order["layer"].to_numpy())) + 0.5
    ax.hlines(starts, -0.5, found.shape[1] - 0.5, color="0.25", linewidth=0.8)
    seeds = len(tables.finished(task, method))
    ax.set(
        xlabel="probe interval", xlim=(-0.5, found.shape[1] - 0.5), ylim=(len(order) - 0.5, -0.5)
    )  # fmt: skip
    ax.set_title(f"{words.task(task)}\n{styles.method_name(method)}: {SAID[flag]}, n = {seeds}", fontsize=7.5)
    ax.xaxis.get_major_locator().set_params(integer=True)
    at, texts = row_labels(order, height)
    ax.set_yticks(at, texts if labels else [""] * len(at))
    ax.tick_params(axis="y", length=0)


def module_order(tables: Tables, task: str, method: str) -> pd.DataFrame:
    """Modules by layer, kind and name (numbers in names as numbers), with their printed label."""
    rows = tables.probes_of(tables.finished(task, method)["run"].iloc[0])
    order = rows[["module", "kind", "layer"]].drop_duplicates("module")
    keys = {module: natural(module) for module in order["module"]}
    kinds = {"head": 0, "ffn": 1, "filters": 2}
    chosen = sorted(
        order.itertuples(index=False), key=lambda row: (row.layer, kinds.get(row.kind, 9), row.kind, keys[row.module])
    )
    names = common.module_names([tuple(row) for row in chosen])
    frame, first = pd.DataFrame(chosen), {row.layer: row.module for row in reversed(chosen)}
    return frame.assign(
        label=[
            f"layer {row.layer} · {names[row.module]}" if first[row.layer] == row.module else names[row.module]
            for row in chosen
        ]
    )


def row_labels(order: pd.DataFrame, height: float) -> tuple[list[float], list[str]]:
    """Row positions and labels in so many inches: one per module where they have room; else one per layer and kind,
    of which every second, third, … is labelled where these have none either."""
    if ROW * len(order) <= 1.01 * height:
        return list(range(len(order))), list(order["label"])
    groups = list(order.reset_index(drop=True).groupby(["layer", "kind"], sort=False))
    at = [float(np.mean(rows.index)) for _, rows in groups]
    texts = [f"{layer} · {kind} ({len(rows)})" for (layer, kind), rows in groups]
    kept = [0]
    for number, place in enumerate(at):
        if (place - at[kept[-1]]) * height / len(order) >= ROW:
            kept.append(number)
    return [at[number] for number in kept], [texts[number] for number in kept]


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key in which ``head.10`` comes after ``head.9``."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name)]


def shares(tables: Tables, task: str, method: str, flag: str, order: pd.DataFrame) -> np.ndarray:
    """Share of finished seeds, per (module in ``order``, interval), that had the module ``active`` or ``frozen``; of
    ``reached`` the mean share of the interval's steps in which a gradient reached it while it was active."""
    rows = tables.probes_of(*tables.finished(task, method)["run"])
    shown = rows[flag].astype(float).where(rows["active"] | (flag != "reached"), 0.0)
    wide = rows.assign(flag=shown).pivot_table(index="module", columns="interval", values="flag")
    return wide.reindex(order["module"]).to_numpy(dtype=float)


def legend(figure: Figure) -> None:
    """Shares and the sign for frozen modules, above the panels."""
    handles = [
        *(Patch(facecolor=SHARES(share), edgecolor="0.6", label=f"{share:.0%}") for share in np.linspace(0, 1, 5)),
        Patch(**FROZEN, label="frozen in most seeds"),
    ]
    title = "selected: share of seeds  ·  got gradients: share of steps, mean over seeds"
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), title=title, title_fontsize=7)


if __name__ == "__main__":
    common.main(draw, __file__)
