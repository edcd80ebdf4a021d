"""X6: the default ranking of modules beside the one with another estimator, n, probe set, normalisation."""

from __future__ import annotations

from collections.abc import Sequence

from mat.evidence.claims.rule import Case, Effect, Outcome, Rule, Thresholds, decided, say
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, PARTLY, SUPPORTED
from mat.evidence.stats.intervals import Interval, known
from mat.evidence.tables import estimator_choice


def survives(parts: Sequence[Interval], thresholds: Thresholds) -> str:
    """Rankings after each change. A change is survived when the lower bound of τ is at least ``survive_tau`` and lost
    when the upper bound is below ``lost_tau``. All survived: supported; some survived and some lost: partly; some lost
    and none survived: not supported; otherwise inconclusive."""
    if not known(*parts):
        return INCONCLUSIVE
    survived = sum(value.low >= thresholds["survive_tau"] for value in parts)
    lost = sum(value.high < thresholds["lost_tau"] for value in parts)
    if survived == len(parts):
        return SUPPORTED
    if lost:
        return PARTLY if survived else NOT_SUPPORTED
    return INCONCLUSIVE


def evaluate(case: Case) -> Outcome:
    """One number per change, and the default estimator that the evidence asks for."""
    tables, family, claim, _ = case
    table = tables.made["agreement"]
    effects = [
        Effect(f"change {estimator_choice.SAYS[part]}", value, "Kendall τ_b")
        for part, value in estimator_choice.changes(table, family).items()
    ]
    first = table[table["family"] == family].iloc[0]
    choice = estimator_choice.choose(table, claim.thresholds["choice_margin"])
    reason = (
        f"{say(*effects)}. Default {first['default_estimator']}, {first['default_normalisation']}, "
        f"n = {first['default_n']}; reference {first['reference'] or 'none'}. {choice.reason}"
    )
    return decided(effects, lambda values: survives(values, claim.thresholds), reason)


RULE = Rule(evaluate, ("survive_tau", "lost_tau", "choice_margin"), others=("references",), families="agreement")
