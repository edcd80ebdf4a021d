"""What a method gains against a reference: saved compute (C4), and quality kept (C5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from mat.evidence.claims import decisions
from mat.evidence.claims.outcome import Effect, Outcome, among_survivors, decided, say, undecided
from mat.evidence.runs import metrics, over_seeds
from mat.evidence.runs.curves import Convergence
from mat.evidence.runs.pooled import Tables
from mat.evidence.stats.intervals import Interval, mean_interval, paired_difference, saving_percent
from mat.records.costs import LEDGERS

if TYPE_CHECKING:
    from mat.evidence.claims.claim import Claim

SCORES = ("f1", *metrics.HUNDREDFOLD)  # metrics in [−1, 1] that are no accuracy


def saving(tables: Tables, task: str, claim: Claim, convergence: Convergence) -> Outcome:
    """C4: saving in compute to convergence, charged probes included."""
    method, reference = claim.one("method"), claim.one("reference")
    effects = []
    for ledger in (claim.ledger, *(name for name in LEDGERS if name != claim.ledger)):
        macs = [
            over_seeds.convergence_macs(tables, task, name, ledger, convergence)
            for name in (method, reference)
        ]
        effects.append(Effect("saving", saving_percent(*macs), "%", ledger, ledger == claim.ledger, True))
    reach = over_seeds.macs_to_reference_best(tables, task, method, claim.ledger, convergence)
    base = over_seeds.convergence_macs(tables, task, reference, claim.ledger, convergence)
    effects.append(
        Effect(f"saving at {reference}'s best", saving_percent(reach, base), "%", claim.ledger, False, True)
    )
    late = over_seeds.still_improving(tables, task, method, convergence)
    base_late = over_seeds.still_improving(tables, task, reference, convergence)
    reason = (
        f"{say(effects[0])}, {say(effects[1])}; {method} reached {reference}'s best loss in "
        f"{reach.notna().sum()} of {len(reach)} seeds; still improving at the end of the budget: {method} "
        f"{late}, {reference} {base_late}."
    )
    share = reach.notna().mean()
    found = decided(effects, lambda values: decisions.saving(values[0], share, claim.thresholds), reason)
    return among_survivors(found, tables, task, method, [reference])


def quality(tables: Tables, task: str, claim: Claim, _: Convergence) -> Outcome:
    """C5: paired difference of the test metric, in the better direction, against a margin."""
    method, reference = claim.one("method"), claim.one("reference")
    mine, theirs = (
        tables.finished(task, name).set_index("seed")["test_metric"] for name in (method, reference)
    )
    metric = tables.of(task, method)["metric"].iloc[0]
    if metrics.is_accuracy(metric):
        gain, margin, unit = (
            paired_difference(100 * mine, 100 * theirs),
            "accuracy_points",
            "percentage points",
        )
    elif metric == "log_perplexity":
        gain, margin, unit = mean_interval(100 * (theirs - mine) / theirs), "log_perplexity_percent", "%"
    elif metric in SCORES:
        gain, margin, unit = paired_difference(100 * mine, 100 * theirs), "score_points", "points (× 100)"
    else:
        return Outcome(decisions.NOT_TESTED, f"No margin is fixed for the metric {metric}.")
    effect = Effect(f"gain in test {metric.replace('_', ' ')}", gain, unit, "none")
    reason = f"{say(effect)} against {reference}; the margin is {claim.thresholds[margin]:g} {unit}."
    empty = _nothing_learned(tables, task, metric, gain, theirs, reference)
    if empty:
        return decided([effect], undecided, f"{reason} {empty}")
    found = decided([effect], lambda values: decisions.not_worse(values[0], claim.thresholds[margin]), reason)
    return among_survivors(found, tables, task, method, [reference])


def _nothing_learned(
    tables: Tables, task: str, metric: str, gain: Interval, theirs: pd.Series, reference: str
) -> str:
    """Why there was no quality that could be lost; "" where there was."""
    if gain.deviation == 0:
        return "The differences are exactly equal over seeds: nothing was learned that could be lost."
    majority = tables.bounds(task, "test").get("majority_accuracy")
    if majority is None or not metrics.is_accuracy(metric) or metric.startswith("top"):
        return ""
    level = mean_interval(theirs)
    if level.low > majority:
        return ""
    return (
        f"{reference}'s interval, from {100 * level.low:.1f} %, does not lie above the majority class's "
        f"{100 * majority:.1f} %: nothing was learned that could be lost."
    )
