"""Figure: how long runs are."""

import common
import styles
from matplotlib.figure import Figure

from mat.evidence.runs.pooled import Tables

FIGURE = {
    "title": "How long runs are",
    "about": "Steps of a run, by method.",
    "reads": ("lengths",),
    "held": "{seeds}; no ledger: nothing is counted.",
}


def draw(tables: Tables) -> Figure:
    """One panel per task, a bar per method."""
    frame = tables.made.get("lengths")
    if frame is None:
        return common.nothing(tables, "There is no table of lengths.")
    tasks = list(dict.fromkeys(frame["task"]))
    figure, axes = common.panels(len(tasks), above=0.3, height=1.8)
    for ax, task in zip(axes, tasks, strict=True):
        rows = frame[frame["task"] == task]
        ax.barh([styles.method_name(name) for name in rows["method"]], rows["length_steps_mean"], color=styles.BLUE)
        ax.set(title=task, xlabel="steps")
    common.footer(figure, f"scale {tables.scope}  ·  {common.seeds_text(tables)}, mean")
    return figure


if __name__ == "__main__":
    common.main(draw, __file__)
