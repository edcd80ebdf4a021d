"""C4: saving in compute to convergence against a reference, charged probes included."""

from __future__ import annotations

from mat.evidence.claims.rule import Case, Effect, Outcome, Rule, Thresholds, among_survivors, decided, say
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, PARTLY, SUPPORTED
from mat.evidence.measures import over_seeds
from mat.evidence.stats.intervals import Interval, known, saving_percent

THRESHOLDS = ("reported_low_percent", "min_reached_share")


def saves(value: Interval, reached: float, thresholds: Thresholds) -> str:
    """Lower bound in the reported range: supported; above 0: partly; upper bound below the range: not.

    ``reached`` is the share of seeds that got to the reference's best loss. A run that stalls early converges cheaply
    to its own, worse best, so a saving counts only where the reference was reached: in none of the seeds it is not
    supported, in fewer than ``min_reached_share`` at most partly.
    """
    if not known(value):
        return INCONCLUSIVE
    if value.low <= 0:
        return NOT_SUPPORTED if value.high < thresholds["reported_low_percent"] else INCONCLUSIVE
    if reached == 0:
        return NOT_SUPPORTED
    if value.low >= thresholds["reported_low_percent"] and reached >= thresholds["min_reached_share"]:
        return SUPPORTED
    return PARTLY


def evaluate(case: Case) -> Outcome:
    """The saving in every ledger, and at the reference's best loss."""
    tables, task, claim, convergence = case
    method, reference = labels = claim.one("method"), claim.one("reference")
    reach = over_seeds.macs_to_reference_best(tables, task, method, claim.ledger, convergence)
    effects = []
    for ledger in claim.ledgers:
        mine, base = (over_seeds.convergence_macs(tables, task, name, ledger, convergence) for name in labels)
        effects.append(Effect("saving", saving_percent(mine, base), "%", ledger, ledger == claim.ledger, True))
    at_best = saving_percent(reach, over_seeds.convergence_macs(tables, task, reference, claim.ledger, convergence))
    effects.append(Effect(f"saving at {reference}'s best", at_best, "%", claim.ledger, False, True))
    late = [over_seeds.still_improving(tables, task, name, convergence) for name in labels]
    reason = (
        f"{say(effects[0])}, {say(effects[1])}; {method} reached {reference}'s best loss in "
        f"{reach.notna().sum()} of {len(reach)} seeds; still improving at the end of the budget: {method} "
        f"{late[0]}, {reference} {late[1]}."
    )
    share = reach.notna().mean()
    found = decided(effects, lambda values: saves(values[0], share, claim.thresholds), reason)
    return among_survivors(found, case, method, [reference])


RULE = Rule(evaluate, THRESHOLDS, ("method", "reference"))
