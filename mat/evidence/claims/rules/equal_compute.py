"""X7: test metric and validation loss at the ends of schedules, against a run that was given as much compute."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from mat.evidence.claims.rule import Case, Decide, Effect, Outcome, Rule, Thresholds, among_survivors, decided, say
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, PARTLY, SUPPORTED
from mat.evidence.measures import over_seeds
from mat.evidence.stats.intervals import Interval, known, mean_interval

OF_RANGE = "% of vanilla's range"


def better(gains: Sequence[Interval], margin: float) -> str:
    """All above 0: supported; some, and none below 0: partly; none, and all at most the margin: not supported;
    otherwise inconclusive."""
    if not known(*gains):
        return INCONCLUSIVE
    if all(gain.low > 0 for gain in gains):
        return SUPPORTED
    if any(gain.low > 0 for gain in gains):
        return INCONCLUSIVE if any(gain.high < 0 for gain in gains) else PARTLY
    return NOT_SUPPORTED if all(gain.high <= margin for gain in gains) else INCONCLUSIVE


def evaluate(case: Case) -> Outcome:
    """Both gains decide; the compute that was spent is shown beside, and must be alike."""
    claim = case.claim
    method, short = claim.one("method"), claim.one("short")
    spent = compute_of(case, method, [short])
    effects = [loss_gain(case, method, short), metric_gain(case, method, short), *spent]
    decide = alike(lambda values: better(values, claim.thresholds["margin_percent"]), spent, claim.thresholds)
    return among_survivors(decided(effects, decide, f"{say(*effects)}."), case, method, [short])


def in_range(part: str, values: pd.Series) -> Effect:
    """What its rule asks to differ from 0, by seed in percent of vanilla's range."""
    return Effect(part, mean_interval(values), OF_RANGE, zero=True)


def loss_gain(case: Case, method: str, other: str) -> Effect:
    """How much lower the validation loss of ``method`` is at the end."""
    tables, task, *_ = case
    gain = over_seeds.worse_in_range(tables, task, other, method, over_seeds.final_losses)
    return in_range(f"advantage in validation loss over {other}", gain)


def metric_gain(case: Case, method: str, other: str) -> Effect:
    """How much better the test metric of ``method`` is."""
    tables, task, *_ = case
    metric = tables.first(task)["metric"].replace("_", " ")
    gain = over_seeds.metric_gain_in_range(tables, task, method, other)
    return in_range(f"advantage in test {metric} over {other}", gain)


def compute_of(case: Case, method: str, others: Sequence[str]) -> list[Effect]:
    """What each of ``others`` has really spent, in percent of what ``method`` has."""
    tables, task, claim, _ = case
    mine = over_seeds.whole_run_macs(tables, task, method, claim.ledger)
    return [
        Effect(
            f"compute of {other}",
            mean_interval(100 * over_seeds.whole_run_macs(tables, task, other, claim.ledger) / mine),
            f"% of {method}'s",
            claim.ledger,
            decides=False,
        )
        for other in others
    ]


def alike(decide: Callable[[list[Interval]], str], spent: Sequence[Effect], thresholds: Thresholds) -> Decide:
    """``decide`` where all have spent as much; where one has spent less, a refutation stays, for it was held back."""
    shares = [effect.interval.mean for effect in spent]
    more = any(not share <= 100 + thresholds["compute_tolerance_percent"] for share in shares)
    less = any(share < 100 - thresholds["compute_tolerance_percent"] for share in shares)

    def at_equal(values: list[Interval]) -> str:
        verdict = decide(values)
        return INCONCLUSIVE if more or (less and verdict != NOT_SUPPORTED) else verdict

    return at_equal


THRESHOLDS = ("margin_percent", "compute_tolerance_percent")
RULE = Rule(evaluate, THRESHOLDS, ("method", "short", "reference"))
