"""Figure: which modules were active when, as the share of seeds, one panel per task and method."""

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

FIGURE = {
    "title": "Which modules trained when",
    "about": "The share of seeds in which each module was active, and where no gradient reached what was.",
    "held": "{seeds}; no ledger.",
    "place": 80,
}

METHODS = ("mat", "mat_exact", "random")
SHARES = LinearSegmentedColormap.from_list("share", ["#F7F7F7", "#56B4E9", "#08306B"])
ROW = 0.122  # inches per module: one line of 7 point text
TALLEST = 7.5  # inches of one task's panels; more modules get thinner rows and one label per group
MOST = 4  # tasks with a line of panels for each
DECORATION, ABOVE = 0.55, 0.75  # inches of a line's titles and tick labels; of the legend and the footer
UNREACHED = {"facecolor": "0.72", "edgecolor": "0.35", "hatch": "xxxx", "linewidth": 0}
FROZEN = {"facecolor": styles.ORANGE, "edgecolor": "0.25", "hatch": "////", "linewidth": 0}


def draw(tables: Tables) -> Figure:
    """Rows: tasks, each as tall as its modules need. Columns: MAT and what it is compared with. More tasks than a page
    has room for: the first method of each task alone, as many tasks in a row as there would be methods."""
    shown = {task: [name for name in METHODS if len(tables.finished(task, name))] for task in tables.tasks}
    shown = {task: methods for task, methods in shown.items() if methods}
    if not shown:
        return common.nothing(tables, f"No finished run of {', '.join(METHODS)}.")
    alone = len(shown) > MOST
    cells = [(task, method) for task, methods in shown.items() for method in (methods[:1] if alone else methods)]
    if alone:
        lines = [cells[start : start + len(METHODS)] for start in range(0, len(cells), len(METHODS))]
    else:
        lines = [[cell for cell in cells if cell[0] == task] for task in shown]
    orders = {task: module_order(tables, task, methods[0]) for task, methods in shown.items()}
    heights = panel_heights([max(len(orders[task]) for task, _ in line) for line in lines])
    columns = max(len(line) for line in lines)
    figure, axes = plt.subplots(
        len(lines), columns, squeeze=False, figsize=(common.WIDTH, sum(heights) + DECORATION * len(lines) + ABOVE),
        gridspec_kw={"height_ratios": heights},
    )  # fmt: skip
    for line, row, height in zip(lines, axes, heights, strict=True):
        for column, ax in enumerate(row):
            if column >= len(line):
                ax.set_axis_off()
                continue
            task, method = line[column]
            panel(ax, tables, task, method, orders[task], height, labels=alone or column == 0)
    legend(figure, max(len(tables.finished(*cell)) for cell in cells))
    seeds = common.seeds_text(tables, sorted({method for _, method in cells}))
    common.footer(
        figure,
        f"scale {tables.scope}  ·  {seeds}  ·  no ledger: the horizontal axis is probe intervals",
        "rows: layer · module, or layer · kind (modules), input at the top  ·  lines separate layers",
    )
    return figure


def panel_heights(modules: list[int]) -> list[float]:
    """Inches of every line of panels, by its modules; all of them are lowered until the figure fits a page."""
    wanted = [min(max(ROW * count, 0.9), TALLEST) for count in modules]
    room = common.PAGE - ABOVE - DECORATION * len(wanted)
    return [height * min(1.0, room / sum(wanted)) for height in wanted]


def panel(ax: Axes, tables: Tables, task: str, method: str, order: pd.DataFrame, height: float, labels: bool) -> None:
    """One task and method: dark where all seeds had the module active, marked where most froze it, or had it active
    while no gradient reached it."""
    active, frozen, unreached = (
        shares(tables, task, method, flag, order) for flag in ("active", "frozen", "unreached")
    )
    edges = (np.arange(count + 1) - 0.5 for count in reversed(active.shape))
    ax.pcolormesh(*edges, active, cmap=SHARES, vmin=0, vmax=1)
    for marked, look in ((unreached, UNREACHED), (frozen, FROZEN)):
        for row, column in np.argwhere(marked > 0.5):
            ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, **look))
    starts = np.flatnonzero(np.diff(order["layer"].to_numpy())) + 0.5
    ax.hlines(starts, -0.5, active.shape[1] - 0.5, color="0.25", linewidth=0.8)
    seeds = len(tables.finished(task, method))
    ax.set(
        title=common.title(task, f"{styles.method_name(method)}, n = {seeds}"), xlabel="probe interval",
        xlim=(-0.5, active.shape[1] - 0.5), ylim=(len(order) - 0.5, -0.5),
    )  # fmt: skip
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
    frame = pd.DataFrame(chosen)
    return frame.assign(label=[f"{row.layer} · {names[row.module]}" for row in chosen])


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
    """Share of finished seeds, per (module in ``order``, interval), that had the module ``active``, ``frozen`` or
    ``unreached``: active, and reached by a gradient in less than half of the interval's steps."""
    rows = tables.probes_of(*tables.finished(task, method)["run"])
    rows["unreached"] = rows["active"] & (rows["reached"] < 0.5)
    wide = rows.assign(flag=rows[flag].astype(float)).pivot_table(index="module", columns="interval", values="flag")
    return wide.reindex(order["module"]).to_numpy(dtype=float)


def legend(figure: Figure, seeds: int) -> None:
    """The shares that can occur (at most five of them) and the signs for modules, above the panels."""
    levels = np.linspace(0, 1, min(seeds, 4) + 1)
    handles = [
        *(Patch(facecolor=SHARES(share), edgecolor="0.6", label=f"{share:.0%}") for share in levels),
        Patch(**UNREACHED, label="active, not reached"),
        Patch(**FROZEN, label="frozen"),
    ]
    title = (
        "share of seeds in which the module was active  ·  in most seeds: active while no gradient reached it, frozen"
    )
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), title=title, title_fontsize=7)


if __name__ == "__main__":
    common.main(draw, __file__)
