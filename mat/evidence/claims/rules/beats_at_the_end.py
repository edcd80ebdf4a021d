"""C6b, X12: validation loss at the ends of schedules, against baselines that were each given as much compute."""

from __future__ import annotations

from mat.evidence.claims.rule import Case, Outcome, Rule, among_survivors, decided, say
from mat.evidence.claims.rules.beats_baselines import better_than_all
from mat.evidence.claims.rules.equal_compute import alike, compute_of, loss_gain


def evaluate(case: Case) -> Outcome:
    """The gain over every baseline; what each has spent is shown beside, and must be alike."""
    claim = case.claim
    method, baselines = claim.one("method"), claim.uses["baselines"]
    spent = compute_of(case, method, baselines)
    effects = [*(loss_gain(case, method, label) for label in baselines), *spent]
    decide = alike(better_than_all, spent, claim.thresholds)
    return among_survivors(decided(effects, decide, f"{say(*effects)}."), case, method, baselines)


RULE = Rule(evaluate, ("compute_tolerance_percent",), ("method", "baselines", "reference"))
