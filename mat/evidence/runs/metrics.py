"""How a metric is shown: its factor, its unit and the values that it can take."""

from __future__ import annotations

import math
from typing import NamedTuple

PERCENT = ("accuracy", "top5_accuracy", "accuracy_matched", "accuracy_mismatched", "f1")
# the field gives correlations times 100, as GLUE does; combined_score is a mean of metrics in [−1, 1]
HUNDREDFOLD = ("matthews_correlation", "pearson", "spearman", "combined_score")
LOSSES = ("log_perplexity", "loss")
GAP_CLOSED = "gap_closed"  # of the gap unigram loss → best possible loss, the share that the test loss closes


class Shown(NamedTuple):
    """A metric's value is printed times ``factor``, in ``unit`` ("" for none); it lies in ``low`` … ``high``."""

    factor: float
    unit: str
    low: float = -math.inf
    high: float = math.inf


def shown(metric: str, loss_unit: str) -> Shown:
    """How ``metric`` is shown on a task whose loss is in ``loss_unit``."""
    if metric in PERCENT:
        return Shown(100.0, "%", 0.0, 1.0)
    if metric in HUNDREDFOLD:
        return Shown(100.0, "× 100", -1.0, 1.0)
    if metric == GAP_CLOSED:
        return Shown(100.0, "%")
    return Shown(1.0, loss_unit if metric in LOSSES else "")


def title(metric: str, loss_unit: str) -> str:
    """The metric with its unit, for a header or an axis: "accuracy, %"."""
    return named(metric, shown(metric, loss_unit).unit)


def named(metric: str, unit: str) -> str:
    """A metric's name with a unit of ``shown``."""
    name = metric.replace("_", " ")
    return f"{name} {unit}" if unit == "× 100" else f"{name}, {unit}" if unit else name


def of_bound(name: str) -> tuple[str, str]:
    """What a known value is and of which metric: "majority_accuracy" → ("majority", "accuracy"); of a loss where its
    name ends in no metric's: "floor" → ("floor", "loss")."""
    for metric in sorted((*PERCENT, *HUNDREDFOLD, "log_perplexity", "perplexity"), key=len, reverse=True):
        if name.endswith(f"_{metric}"):
            return name.removesuffix(f"_{metric}").replace("_", " "), metric
    return name.replace("_", " "), "loss"


def is_accuracy(metric: str) -> bool:
    """Whether the metric is a share of right answers."""
    return metric in PERCENT and "accuracy" in metric


def write_names(metrics: list[dict[str, object]]) -> str:
    """Names and directions of a run's metrics in one cell: ``accuracy:higher perplexity:lower``."""
    ways = {True: "higher", False: "lower"}
    return " ".join(f"{metric['name']}:{ways[bool(metric['higher_is_better'])]}" for metric in metrics)


def read_names(cell: str) -> dict[str, bool]:
    """Metric → whether higher is better, from what ``write_names`` wrote, in its order."""
    return {name: way == "higher" for name, _, way in (part.partition(":") for part in cell.split())}
