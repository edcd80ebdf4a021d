"""GLUE's average."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mat.errors import InputError
from mat.evidence.runs.glue_average import AVERAGED, glue_average, missing_tasks, task_score

SCORES = {
    "cola": {"matthews_correlation": 0.5},
    "sst2": {"accuracy": 0.9},
    "mrpc": {"combined_score": 0.0, "f1": 0.9, "accuracy": 0.8},
    "stsb": {"pearson": 0.8, "spearman": 0.7},
    "qqp": {"f1": 0.7, "accuracy": 0.9},
    "mnli": {"accuracy": 0.0, "accuracy_matched": 0.8, "accuracy_mismatched": 0.82},
    "qnli": {"accuracy": 0.9},
    "rte": {"accuracy": 0.6},
    "wnli": {"accuracy": 0.5},
}


def test_by_hand() -> None:
    assert task_score("mrpc", SCORES["mrpc"]) == pytest.approx(0.85)
    expected = (0.5 + 0.9 + 0.85 + 0.75 + 0.8 + 0.81 + 0.9 + 0.6 + 0.5) / 9
    assert glue_average(SCORES) == pytest.approx(expected)
    assert len(AVERAGED) == 9


@pytest.mark.parametrize("value", [None, {}, {"accuracy": 0.9}, {"f1": float("nan"), "accuracy": 0.9}])
def test_missing_tasks_are_named(value: dict | None) -> None:
    scores = {task: found for task, found in SCORES.items() if task not in ("mrpc", "wnli")}
    if value is not None:
        scores["mrpc"] = value
    assert missing_tasks(scores) == ("mrpc", "wnli")
    with pytest.raises(InputError, match="no finite score of mrpc, wnli was given"):
        glue_average(scores)
    assert missing_tasks(SCORES) == ()


def test_it_is_read_without_torch() -> None:
    code = "import sys, mat.evidence.runs.glue_average; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
