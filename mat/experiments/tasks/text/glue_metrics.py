"""GLUE's metrics (Wang et al., ICLR 2019, table 1), by scikit-learn and SciPy.

Where a metric is undefined it is 0, as a classifier that says one thing for everything has learned nothing: Matthews'
correlation and F1 of constant predictions (scikit-learn's own convention), Pearson's and Spearman's of constant scores
(SciPy says NaN). Scores that are not finite give NaN.
"""

from __future__ import annotations

import math

import numpy as np

from mat.experiments.tasks.base import Metric

NAMES = {
    "cola": ("matthews_correlation",),
    "mrpc": ("combined_score", "f1", "accuracy"),
    "qqp": ("combined_score", "f1", "accuracy"),
    "stsb": ("combined_score", "pearson", "spearman"),
    "mnli": ("accuracy", "accuracy_matched", "accuracy_mismatched"),
}


def metrics(subset: str) -> tuple[Metric, ...]:
    """The metrics of ``subset``, all of them better when higher."""
    return tuple(Metric(name, higher_is_better=True) for name in NAMES.get(subset, ("accuracy",)))


def measure(subset: str, guessed: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Metrics of the predictions ``guessed`` [N] (classes; scores for stsb) against ``true`` [N], official data apart.

    combined_score is the mean of the two metrics beside it.
    """
    from sklearn.metrics import f1_score, matthews_corrcoef

    if subset == "cola":
        return {"matthews_correlation": float(matthews_corrcoef(true, guessed))}
    if subset == "stsb":
        return combined({name: correlation(name, guessed, true) for name in ("pearson", "spearman")})
    accuracy = {"accuracy": float((guessed == true).mean())}
    if subset in ("mrpc", "qqp"):
        return combined({"f1": float(f1_score(true, guessed, zero_division=0)), **accuracy})
    return accuracy


def measure_parts(guessed: np.ndarray, true: np.ndarray, matched: int) -> dict[str, float]:
    """MNLI's two test sets, the first ``matched`` rows and the others; ``accuracy`` is the mean of the two."""
    right = guessed == true
    parts = {"accuracy_matched": right[:matched], "accuracy_mismatched": right[matched:]}
    found = {name: float(part.mean()) if len(part) else math.nan for name, part in parts.items()}
    return {"accuracy": sum(found.values()) / 2, **found}


def combined(parts: dict[str, float]) -> dict[str, float]:
    """``parts`` with their mean, combined_score, before them."""
    return {"combined_score": sum(parts.values()) / len(parts), **parts}


def correlation(name: str, guessed: np.ndarray, true: np.ndarray) -> float:
    """Pearson's or Spearman's correlation of two [N]; 0 where either is constant, NaN if ``guessed`` is not finite."""
    from scipy.stats import pearsonr, spearmanr

    if not np.isfinite(guessed).all():
        return math.nan
    if np.ptp(guessed) == 0 or np.ptp(true) == 0:
        return 0.0
    return float((pearsonr if name == "pearson" else spearmanr)(guessed, true.astype(np.float64)).statistic)
