"""GLUE's average."""

from __future__ import annotations

import pytest

from mat.evidence.measures.glue_average import AVERAGED, mean_score

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
    assert mean_score({"mrpc": SCORES["mrpc"]}) == pytest.approx(0.85)
    expected = (0.5 + 0.9 + 0.85 + 0.75 + 0.8 + 0.81 + 0.9 + 0.6 + 0.5) / 9
    assert mean_score(SCORES) == pytest.approx(expected)
    assert len(AVERAGED) == 9
