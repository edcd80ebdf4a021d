"""Runs of a method are as long as the reference's."""

from mat.evidence.claims.rule import Case, Effect, Outcome, Rule, Thresholds, decided, say
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, SUPPORTED
from mat.evidence.stats.intervals import Interval, known, paired_difference


def as_long(difference: Interval, thresholds: Thresholds) -> str:
    """Inside ± most_steps: supported; outside: not supported."""
    if not known(difference):
        return INCONCLUSIVE
    most = thresholds["most_steps"]
    if -most <= difference.low and difference.high <= most:
        return SUPPORTED
    return NOT_SUPPORTED if difference.low > most or difference.high < -most else INCONCLUSIVE


def evaluate(case: Case) -> Outcome:
    """The difference in steps, paired by seed."""
    tables, task, claim, _ = case
    runs = [tables.finished(task, claim.one(role)).set_index("seed")["steps"] for role in ("method", "reference")]
    effects = [Effect("difference in steps", paired_difference(*runs), "steps")]
    return decided(effects, lambda values: as_long(values[0], claim.thresholds), f"{say(*effects)}.")


RULE = Rule(evaluate, thresholds=("most_steps",), methods=("method", "reference"))
