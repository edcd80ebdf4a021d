"""The average over GLUE's tasks as GLUE defines it (Wang et al., ICLR 2019): a pure function of scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mat.errors import InputError

OFFICIAL: Mapping[str, tuple[str, ...]] = {
    "cola": ("matthews_correlation",),
    "sst2": ("accuracy",),
    "mrpc": ("f1", "accuracy"),
    "qqp": ("f1", "accuracy"),
    "stsb": ("pearson", "spearman"),
    "mnli": ("accuracy_matched", "accuracy_mismatched"),
    "qnli": ("accuracy",),
    "rte": ("accuracy",),
    "wnli": ("accuracy",),
}


class Average(NamedTuple):
    """``value``: times 100, as GLUE gives it; over ``tasks``; ``missing``: those of the nine that are not in it."""

    value: float
    tasks: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def name(self) -> str:
        """What it may be called: GLUE's score is over all nine tasks and nothing else is."""
        return (
            "GLUE score" if not self.missing else f"average over {len(self.tasks)} of {len(OFFICIAL)} tasks"
        )


def glue_average(scores: Mapping[str, Mapping[str, float]]) -> Average:
    """Mean over tasks of each task's mean of its official metrics; ``scores``: subset → metric → value in [−1, 1].

    Raises InputError for no task, an unknown one, or one without a value of an official metric.
    """
    unknown = sorted(set(scores) - set(OFFICIAL))
    if unknown or not scores:
        raise InputError(
            f"expected scores of GLUE tasks ({', '.join(OFFICIAL)}), got {', '.join(unknown) or 'none'}"
        )
    means = []
    for subset, official in OFFICIAL.items():
        if subset not in scores:
            continue
        absent = [metric for metric in official if metric not in scores[subset]]
        if absent:
            raise InputError(
                f"GLUE's task {subset} is scored by {', '.join(official)}; {absent[0]} is missing"
            )
        means.append(sum(scores[subset][metric] for metric in official) / len(official))
    tasks = tuple(subset for subset in OFFICIAL if subset in scores)
    missing = tuple(subset for subset in OFFICIAL if subset not in scores)
    return Average(100 * sum(means) / len(means), tasks, missing)
