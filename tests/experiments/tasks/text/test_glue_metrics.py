"""GLUE's metrics against their formulas, and what they are where they are undefined."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mat.evidence.measures.glue_average import AVERAGED
from mat.experiments.tasks.text.glue_files import SUBSETS
from mat.experiments.tasks.text.glue_metrics import correlation, measure, measure_parts, metrics

GUESSED = np.array([1, 1, 0, 0, 1, 0, 1, 1])
TRUE = np.array([1, 0, 0, 1, 1, 0, 0, 1])
TP, FP, FN, TN = 3, 2, 1, 2


def test_by_hand() -> None:
    matthews = (TP * TN - FP * FN) / math.sqrt((TP + FP) * (TP + FN) * (TN + FP) * (TN + FN))
    f1, accuracy = 2 * TP / (2 * TP + FP + FN), (TP + TN) / 8
    assert measure("cola", GUESSED, TRUE) == pytest.approx({"matthews_correlation": matthews})
    assert measure("rte", GUESSED, TRUE) == pytest.approx({"accuracy": accuracy})
    expected = {"combined_score": (f1 + accuracy) / 2, "f1": f1, "accuracy": accuracy}
    for subset in ("mrpc", "qqp"):
        assert measure(subset, GUESSED, TRUE) == pytest.approx(expected)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(0, 5)), min_size=3, max_size=12))
def test_correlations_equal_their_formulas(pairs: list[tuple[int, int]]) -> None:
    guessed, true = np.array(pairs, dtype=float).T
    if np.ptp(guessed) == 0 or np.ptp(true) == 0:
        return

    def ranks(values: np.ndarray) -> np.ndarray:
        return np.array([(values < v).sum() + ((values == v).sum() + 1) / 2 for v in values])

    def naive(a: np.ndarray, b: np.ndarray) -> float:
        a, b = a - a.mean(), b - b.mean()
        return (a @ b) / math.sqrt((a @ a) * (b @ b))

    found = measure("stsb", guessed, true.astype(np.float32))
    pearson, spearman = naive(guessed, true), naive(ranks(guessed), ranks(true))
    assert found["pearson"] == pytest.approx(pearson, abs=1e-9)
    assert found["spearman"] == pytest.approx(spearman, abs=1e-9)
    assert found["combined_score"] == pytest.approx((pearson + spearman) / 2, abs=1e-9)


def test_constant_predictions_are_worth_nothing_and_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for constant in (0, 1):
            assert measure("cola", np.full(8, constant), TRUE) == {"matthews_correlation": 0}
        for true in (TRUE, np.zeros(8, dtype=int)):
            assert measure("mrpc", np.zeros(8, dtype=int), true)["f1"] == 0
        for name in ("pearson", "spearman"):
            assert correlation(name, np.full(8, 2.5), TRUE.astype(np.float32)) == 0


def test_scores_that_are_not_finite_have_no_correlation() -> None:
    assert all(math.isnan(value) for value in measure("stsb", np.array([1.0, np.inf, 2.0]), np.arange(3)).values())


def test_parts_of_mnli() -> None:
    right = np.array([1, 1, 0, 1])
    found = measure_parts(right, np.ones(4, dtype=int), 1)
    assert found == pytest.approx({"accuracy": 5 / 6, "accuracy_matched": 1, "accuracy_mismatched": 2 / 3})
    assert math.isnan(measure_parts(right, right, 4)["accuracy_mismatched"])


@pytest.mark.parametrize("subset", SUBSETS)
def test_declared_metrics_are_those_measured_and_averaged(subset: str) -> None:
    declared = [metric.name for metric in metrics(subset)]
    true = TRUE.astype(np.float32) if subset == "stsb" else TRUE
    found = list(measure(subset, GUESSED, true))
    if subset == "mnli":
        found = list(measure_parts(GUESSED, TRUE, 3))
    assert found == declared
    assert set(AVERAGED[subset]) <= set(declared)
    assert all(metric.higher_is_better for metric in metrics(subset))
