"""C7: mean share of active modules over training."""

from __future__ import annotations

from mat.evidence.claims.rule import Case, Effect, Outcome, Rule, Thresholds, decided, say
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, PARTLY, SUPPORTED
from mat.evidence.measures import over_seeds
from mat.evidence.stats.intervals import Interval, known, mean_interval


def within(value: Interval, thresholds: Thresholds) -> str:
    """Interval inside [min, max]: supported; disjoint from it: not supported; overlapping: partly."""
    low, high = thresholds["min_percent"], thresholds["max_percent"]
    if not known(value):
        return INCONCLUSIVE
    if low <= value.low and value.high <= high:
        return SUPPORTED
    return NOT_SUPPORTED if value.high < low or value.low > high else PARTLY


def evaluate(case: Case) -> Outcome:
    """The share in percent."""
    tables, task, claim, _ = case
    share = mean_interval(over_seeds.active_share_percent(tables, task, claim.one("method"))).cut(0, 100)
    effect = Effect("mean active share", share, "%")
    bounds = f"{claim.thresholds['min_percent']:g} to {claim.thresholds['max_percent']:g} %"
    reason = f"{say(effect)}; the rule asks for {bounds}."
    return decided([effect], lambda values: within(values[0], claim.thresholds), reason)


RULE = Rule(evaluate, ("min_percent", "max_percent"), ("method",))
