"""Figure: which modules were active when, as the share of seeds, one panel per task and method."""

from __future__ import annotations

import re
from collections.abc import Sequence

import common
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from mat.evidence.tables import Tables

METHODS = ("mat", "mat_exact", "random")
SHARES = LinearSegmentedColormap.from_list("share", ["#F7F7F7", "#56B4E9", "#08306B"])
ROW = 0.122  # inches per module: one line of 7 point text
TALLEST = 7.5  # inches of one task's panels; more modules get thinner rows and one label per group
FROZEN = "#E69F00"


def draw(tables: Tables) -> Figure:
    """Rows: tasks, each as tall as its modules need. Columns: MAT and what it is compared with."""
    shown = {task: [name for name in METHODS if len(tables.finished(task, name))] for task in tables.tasks}
    shown = {task: methods for task, methods in shown.items() if methods}
    if not shown:
        figure, ax = plt.subplots(figsize=(common.WIDTH, 1.2))
        ax.text(0.5, 0.5, f"No finished run of {', '.join(METHODS)}.", ha="center", va="center")
        ax.set_axis_off()
        common.footer(figure, [f"scale {tables.scope}"])
        return figure
    orders = {task: module_order(tables, task, methods[0]) for task, methods in shown.items()}
    heights = [min(max(ROW * len(order), 0.9), TALLEST) for order in orders.values()]
    columns = max(len(methods) for methods in shown.values())
    figure, axes = plt.subplots(
        len(shown), columns, squeeze=False, figsize=(common.WIDTH, sum(heights) + 0.55 * len(shown) + 0.75),
        gridspec_kw={"height_ratios": heights},
    )  # fmt: skip
    for line, (task, methods) in zip(axes, shown.items(), strict=True):
        for column, ax in enumerate(line):
            if column >= len(methods):
                ax.set_axis_off()
                continue
            panel(ax, tables, task, methods[column], orders[task], labels=column == 0)
    legend(
        figure, max(len(tables.finished(task, name)) for task, methods in shown.items() for name in methods)
    )
    common.footer(
        figure,
        [
            f"scale {tables.scope}",
            common.seeds_text(tables, METHODS),
            "no ledger: the horizontal axis is probe intervals",
        ],
        ["rows: layer · module, input at the top", "lines separate layers"],
    )
    return figure


def panel(ax: Axes, tables: Tables, task: str, method: str, order: pd.DataFrame, labels: bool) -> None:
    """One task and method: dark where all seeds had the module active, marked where most froze it."""
    active, frozen = (shares(tables, task, method, column, order) for column in ("active", "frozen"))
    ax.pcolormesh(
        np.arange(active.shape[1] + 1) - 0.5,
        np.arange(len(order) + 1) - 0.5,
        active,
        cmap=SHARES,
        vmin=0,
        vmax=1,
    )
    for row, column in np.argwhere(frozen > 0.5):
        ax.add_patch(
            Rectangle(
                (column - 0.5, row - 0.5), 1, 1, facecolor=FROZEN, edgecolor="0.25", hatch="////", linewidth=0
            )
        )
    starts = np.flatnonzero(np.diff(order["layer"].to_numpy())) + 0.5
    ax.hlines(starts, -0.5, active.shape[1] - 0.5, color="0.25", linewidth=0.8)
    seeds = len(tables.finished(task, method))
    ax.set(
        title=f"{task}: {common.method_name(method)} (n = {seeds})", xlabel="probe interval",
        xlim=(-0.5, active.shape[1] - 0.5), ylim=(len(order) - 0.5, -0.5),
    )  # fmt: skip
    ax.xaxis.get_major_locator().set_params(integer=True)
    at, texts = row_labels(order)
    ax.set_yticks(at, texts if labels else [""] * len(at))
    ax.tick_params(axis="y", length=0)


def module_order(tables: Tables, task: str, method: str) -> pd.DataFrame:
    """Modules by layer, kind and name (numbers in names as numbers), with their printed label."""
    rows = tables.probes_of(tables.finished(task, method)["run"].iloc[0])
    order = rows[["module", "kind", "layer"]].drop_duplicates("module")
    keys = {module: natural(module) for module in order["module"]}
    kinds = {"head": 0, "ffn": 1, "filters": 2}
    chosen = sorted(
        order.itertuples(index=False),
        key=lambda row: (row.layer, kinds.get(row.kind, 9), row.kind, keys[row.module]),
    )
    names = common.module_names([tuple(row) for row in chosen])
    frame = pd.DataFrame(chosen)
    return frame.assign(label=[f"{row.layer} · {names[row.module]}" for row in chosen])


def row_labels(order: pd.DataFrame) -> tuple[list[float], list[str]]:
    """Row positions and labels: one per module, or one per layer and kind when modules are too many."""
    if ROW * len(order) <= TALLEST:
        return list(range(len(order))), list(order["label"])
    groups = order.reset_index(drop=True).groupby(["layer", "kind"], sort=False)
    return (
        [float(np.mean(rows.index)) for _, rows in groups],
        [f"{layer} · {kind} ({len(rows)})" for (layer, kind), rows in groups],
    )


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key in which ``head.10`` comes after ``head.9``."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name)]


def shares(tables: Tables, task: str, method: str, column: str, order: pd.DataFrame) -> np.ndarray:
    """Share of finished seeds, per (module in ``order``, interval), in which the flag ``column`` is set."""
    runs = tables.finished(task, method)["run"]
    rows = tables.probes[tables.probes["run"].isin(runs)]
    wide = rows.assign(flag=rows[column].astype(float)).pivot_table(
        index="module", columns="interval", values="flag"
    )
    return wide.reindex(order["module"]).to_numpy(dtype=float)


def legend(figure: Figure, seeds: int) -> None:
    """The shares that can occur (at most five of them) and the sign for frozen modules, above the panels."""
    levels = np.linspace(0, 1, min(seeds, 4) + 1)
    handles = [
        *(Patch(facecolor=SHARES(share), edgecolor="0.6", label=f"{share:.0%}") for share in levels),
        Patch(
            facecolor=FROZEN,
            edgecolor="0.25",
            hatch="////",
            linewidth=0,
            label="frozen in more than half of the seeds",
        ),
    ]
    figure.legend(
        handles=handles, loc="outside upper center", ncols=len(handles),
        title="share of seeds in which the module was active", title_fontsize=7,
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    common.main(draw, "active_map", __doc__, arguments)


if __name__ == "__main__":
    main()
