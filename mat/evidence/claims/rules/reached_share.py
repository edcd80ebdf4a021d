"""C7b: mean share of modules that were active and that a gradient reached."""

from __future__ import annotations

from mat.evidence.claims.rule import Case, Effect, Outcome, Rule, Thresholds, decided, not_tested, say
from mat.evidence.claims.rules import active_share
from mat.evidence.claims.verdict import INCONCLUSIVE, PARTLY
from mat.evidence.measures import over_seeds
from mat.evidence.stats.intervals import Interval, mean_interval


def inside(value: Interval, thresholds: Thresholds) -> str:
    """C7's rule, but an interval that reaches across an end of the range decides nothing."""
    verdict = active_share.within(value, thresholds)
    return INCONCLUSIVE if verdict == PARTLY else verdict


def evaluate(case: Case) -> Outcome:
    """The share in percent; beside it, of those that were active."""
    tables, task, claim, _ = case
    method = claim.one("method")
    reached, active = (
        mean_interval(measure(tables, task, method)).cut(0, 100)
        for measure in (over_seeds.reached_share_percent, over_seeds.active_share_percent)
    )
    if not reached.n and active.n:
        return not_tested(f"The runs of {method} do not record what a gradient reached.")
    effects = [Effect("mean reached share", reached, "%"), Effect("mean active share", active, "%", decides=False)]
    bounds = f"{claim.thresholds['min_percent']:g} to {claim.thresholds['max_percent']:g} %"
    reason = f"{say(*effects)}; the rule asks for {bounds}."
    return decided(effects, lambda values: inside(values[0], claim.thresholds), reason)


RULE = Rule(evaluate, ("min_percent", "max_percent"), ("method",))
