"""X1: best validation loss of selection by λ_max against random selection of equal active share."""

from __future__ import annotations

from collections.abc import Sequence

from mat.evidence.claims.rule import Case, Effect, Outcome, Rule, Thresholds, among_survivors, decided, say, undecided
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, SUPPORTED
from mat.evidence.measures import over_seeds
from mat.evidence.stats.intervals import Interval, known, mean_interval, paired_difference
from mat.evidence.text import format

UNEQUAL = ("full_share_percent", "share_tolerance_points")  # thresholds of ``unequal``


def advantage(gain: Interval, thresholds: Thresholds) -> str:
    """Lower bound > 0: supported; no advantage larger than the relevant one: not supported."""
    if not known(gain):
        return INCONCLUSIVE
    if gain.low > 0:
        return SUPPORTED
    return NOT_SUPPORTED if gain.high <= thresholds["relevant_percent"] else INCONCLUSIVE


def evaluate(case: Case) -> Outcome:
    """One advantage decides; active shares are shown beside, and must be alike."""
    claim = case.claim
    method, reference = claim.one("method"), claim.one("reference")
    effects = [advantage_over(case, method, reference), *shares(case, method, [reference])]
    if empty := unequal(effects, method, claim.thresholds):
        return undecided(effects, empty)
    apart = format.number(effects[-1].interval.mean, 2)
    reason = f"{say(effects[0])} at active shares that differ by {apart} percentage points."
    found = decided(effects, lambda values: advantage(values[0], claim.thresholds), reason)
    return among_survivors(found, case, method, [reference])


def advantage_over(case: Case, method: str, other: str) -> Effect:
    """The advantage of ``method`` in best validation loss."""
    gain = over_seeds.best_loss_advantage_percent(case.tables, case.place, method, other)
    return Effect(f"advantage in best validation loss over {other}", gain, "% of its loss", zero=True)


def shares(case: Case, method: str, others: Sequence[str]) -> list[Effect]:
    """The method's active share, then how far it is from each other's; shown beside."""
    mine, *theirs = (over_seeds.active_share_percent(case.tables, case.place, name) for name in (method, *others))
    effects = [Effect("mean active share", mean_interval(mine).cut(0, 100), "%", decides=False)]
    for other, share in zip(others, theirs, strict=True):
        gap = paired_difference(mine, share)
        effects.append(Effect(f"active share minus that of {other}", gap, "percentage points", decides=False))
    return effects


def unequal(effects: Sequence[Effect], method: str, thresholds: Thresholds) -> str:
    """Why selections of these ``shares`` cannot be compared; "" where they can."""
    share, *gaps = (effect.interval.mean for effect in effects if not effect.decides)
    gap = max(gaps, key=abs)
    if share > thresholds["full_share_percent"]:
        return f"The comparison is empty: {method} keeps {share:.1f} % of the modules active."
    if abs(gap) > thresholds["share_tolerance_points"]:
        return f"The active shares differ by {gap:.1f} points, so selection is not all that differs."
    return ""


RULE = Rule(evaluate, ("relevant_percent", *UNEQUAL), ("method", "reference"))
