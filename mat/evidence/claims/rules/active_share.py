"""C7: mean share of active modules over training."""

from __future__ import annotations

from collections.abc import Mapping

from mat.evidence.claims.claim import Claim
from mat.evidence.claims.outcome import Effect, Outcome, decided, say
from mat.evidence.claims.rule import Rule
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, PARTLY, SUPPORTED
from mat.evidence.runs import over_seeds
from mat.evidence.runs.curves import Convergence
from mat.evidence.runs.pooled import Tables
from mat.evidence.stats.intervals import Interval, known, mean_interval


def within(value: Interval, thresholds: Mapping[str, float]) -> str:
    """Interval inside [min, max]: supported; disjoint from it: not supported; overlapping: partly."""
    low, high = thresholds["min_percent"], thresholds["max_percent"]
    if not known(value):
        return INCONCLUSIVE
    if low <= value.low and value.high <= high:
        return SUPPORTED
    return NOT_SUPPORTED if value.high < low or value.low > high else PARTLY


def evaluate(tables: Tables, task: str, claim: Claim, _: Convergence) -> Outcome:
    """The share in percent."""
    share = mean_interval(over_seeds.active_share_percent(tables, task, claim.one("method"))).cut(0, 100)
    effect = Effect("mean active share", share, "%")
    bounds = f"{claim.thresholds['min_percent']:g} to {claim.thresholds['max_percent']:g} %"
    reason = f"{say(effect)}; the rule asks for {bounds}."
    return decided([effect], lambda values: within(values[0], claim.thresholds), reason)


RULE = Rule(evaluate, ("min_percent", "max_percent"), ("method",))
