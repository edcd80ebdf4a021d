"""GLUE's average (Wang et al., ICLR 2019): the mean over its nine tasks of each task's mean metric."""

from __future__ import annotations

from collections.abc import Mapping

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


def mean_score(scores: Mapping[str, Mapping[str, float]]) -> float:
    """Mean over the tasks in ``scores`` (task -> metric -> value) of the mean of each one's metrics that count."""
    means = [sum(found[name] for name in AVERAGED[task]) / len(AVERAGED[task]) for task, found in scores.items()]
    return sum(means) / len(means)
