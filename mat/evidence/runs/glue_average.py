"""GLUE's average (Wang et al., ICLR 2019): the mean over its nine tasks of each task's mean metric."""

from __future__ import annotations

import math
from collections.abc import Mapping

from mat.errors import InputError

AVERAGED = {
    "cola": ("matthews_correlation",),
    "sst2": ("accuracy",),
    "mrpc": ("f1", "accuracy"),
    "stsb": ("pearson", "spearman"),
    "qqp": ("f1", "accuracy"),
    "mnli": ("accuracy_matched", "accuracy_mismatched"),
    "qnli": ("accuracy",),
    "rte": ("accuracy",),
    "wnli": ("accuracy",),
}


def missing_tasks(scores: Mapping[str, Mapping[str, float]]) -> tuple[str, ...]:
    """The tasks of GLUE of which ``scores`` (task -> metric -> value) lacks a metric, or has it not finite."""
    return tuple(
        task
        for task, names in AVERAGED.items()
        if not all(math.isfinite(scores.get(task, {}).get(name, math.nan)) for name in names)
    )


def task_score(task: str, scores: Mapping[str, float]) -> float:
    """The mean of a task's metrics that count."""
    return sum(scores[name] for name in AVERAGED[task]) / len(AVERAGED[task])


def mean_score(scores: Mapping[str, Mapping[str, float]]) -> float:
    """Mean over the tasks in ``scores`` (task -> metric -> value) of each one's mean metric."""
    return sum(task_score(task, found) for task, found in scores.items()) / len(scores)


def glue_average(scores: Mapping[str, Mapping[str, float]]) -> float:
    """Mean over all nine tasks of each one's mean metric, in the unit of ``scores`` (task -> metric -> value).

    Raises:
        InputError: some tasks are missing; names them, as an average over fewer cannot be compared with another's.
    """
    missing = missing_tasks(scores)
    if missing:
        raise InputError(
            f"GLUE's average is over {', '.join(AVERAGED)}; no finite score of {', '.join(missing)} was given: run "
            "them too, or compare task by task."
        )
    return mean_score({task: scores[task] for task in AVERAGED})
