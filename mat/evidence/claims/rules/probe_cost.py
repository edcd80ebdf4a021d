"""C8: probes and eigen-solves as a share of total compute."""

from __future__ import annotations

from mat.evidence.claims.rule import Case, Effect, Outcome, Rule, Thresholds, decided, say
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, PARTLY, SUPPORTED
from mat.evidence.measures import over_seeds
from mat.evidence.stats.intervals import Interval, known, mean_interval


def cheap(share: Interval, thresholds: Thresholds) -> str:
    """Upper bound ≤ cheap: supported; ≤ bearable: partly; lower bound > bearable: not supported."""
    if not known(share):
        return INCONCLUSIVE
    if share.high <= thresholds["cheap_percent"]:
        return SUPPORTED
    if share.high <= thresholds["bearable_percent"]:
        return PARTLY
    return NOT_SUPPORTED if share.low > thresholds["bearable_percent"] else INCONCLUSIVE


def evaluate(case: Case) -> Outcome:
    """The share in every ledger, in percent."""
    tables, task, claim, _ = case
    method = claim.one("method")
    effects = []
    for ledger in claim.ledgers:
        share = mean_interval(over_seeds.probe_share_percent(tables, task, method, ledger)).cut(0, 100)
        effects.append(Effect("probe share of total compute", share, "%", ledger, ledger == claim.ledger))
    first = tables.of(task, method).iloc[0]
    reason = f"{say(effects[0])} with a probe of {first['probe_n']} samples every {first['interval']} steps."
    return decided(effects, lambda values: cheap(values[0], claim.thresholds), reason)


RULE = Rule(evaluate, ("cheap_percent", "bearable_percent"), ("method",))
