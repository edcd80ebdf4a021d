"""C5: paired difference of the test metric, in the better direction, against a margin."""

from __future__ import annotations

import pandas as pd

from mat.evidence.claims.rule import Case, Effect, Outcome, Rule, among_survivors, decided, not_tested, say, undecided
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, SUPPORTED
from mat.evidence.runs import metrics
from mat.evidence.stats.intervals import Interval, known, mean_interval, paired_difference

SCORES = ("f1", *metrics.HUNDREDFOLD)  # metrics in [−1, 1] that are no accuracy
THRESHOLDS = ("accuracy_points", "log_perplexity_percent", "score_points")


def not_worse(gain: Interval, margin: float) -> str:
    """Non-inferiority: lower bound ≥ −margin: supported; upper bound < −margin: not supported."""
    if not known(gain):
        return INCONCLUSIVE
    if gain.low >= -margin:
        return SUPPORTED
    return NOT_SUPPORTED if gain.high < -margin else INCONCLUSIVE


def evaluate(case: Case) -> Outcome:
    """The gain in the metric that the task is judged by."""
    tables, task, claim, _ = case
    method, reference = claim.one("method"), claim.one("reference")
    mine, theirs = (tables.finished(task, name).set_index("seed")["test_metric"] for name in (method, reference))
    metric = tables.of(task, method)["metric"].iloc[0]
    if metrics.is_accuracy(metric):
        threshold, unit = "accuracy_points", "percentage points"
    elif metric == "log_perplexity":
        threshold, unit = "log_perplexity_percent", "%"
    elif metric in SCORES:
        threshold, unit = "score_points", "points (× 100)"
    else:
        return not_tested(f"No margin is fixed for the metric {metric}.")
    margin, relative = claim.thresholds[threshold], unit == "%"
    gain = mean_interval(100 * (theirs - mine) / theirs) if relative else paired_difference(100 * mine, 100 * theirs)
    effect = Effect(f"gain in test {metric.replace('_', ' ')}", gain, unit)
    reason = f"{say(effect)} against {reference}; the margin is {margin:g} {unit}."
    if empty := _nothing_learned(case, metric, gain, theirs, reference):
        return undecided([effect], f"{reason} {empty}")
    found = decided([effect], lambda values: not_worse(values[0], margin), reason)
    return among_survivors(found, case, method, [reference])


def _nothing_learned(case: Case, metric: str, gain: Interval, theirs: pd.Series, reference: str) -> str:
    """Why there was no quality that could be lost; "" where there was."""
    if gain.deviation == 0:
        return "The differences are exactly equal over seeds: nothing was learned that could be lost."
    majority = case.tables.bounds(case.place, "test").get("majority_accuracy")
    if majority is None or not metrics.is_accuracy(metric) or metric.startswith("top"):
        return ""
    low = mean_interval(theirs).low
    if low > majority:
        return ""
    return (
        f"{reference}'s interval, from {100 * low:.1f} %, does not lie above the majority class's "
        f"{100 * majority:.1f} %: nothing was learned that could be lost."
    )


RULE = Rule(evaluate, THRESHOLDS, ("method", "reference"))
