"""C5b: difference of the test metric in percent of vanilla's range, where a selection known to be bad loses."""

from __future__ import annotations

from collections.abc import Sequence

from mat.evidence.claims.rule import Case, Effect, Outcome, Rule, Thresholds, among_survivors, decided, say
from mat.evidence.claims.rules.equal_compute import OF_RANGE
from mat.evidence.claims.rules.quality import not_worse
from mat.evidence.claims.verdict import INCONCLUSIVE, SUPPORTED
from mat.evidence.measures import over_seeds
from mat.evidence.stats.intervals import Interval, known, mean_interval


def no_loss(gain: Interval, bad: Sequence[Interval], thresholds: Thresholds) -> str:
    """C5's rule, and supported only where a ``bad`` selection's gain is below minus the margin: where even that loses
    nothing, nothing can be lost."""
    margin = thresholds["range_percent"]
    verdict = not_worse(gain, margin)
    if verdict == SUPPORTED and not any(known(each) and each.high < -margin for each in bad):
        return INCONCLUSIVE
    return verdict


def evaluate(case: Case) -> Outcome:
    """The gains of the method and of those known to be bad, all against the reference."""
    tables, task, claim, _ = case
    method, reference = claim.one("method"), claim.one("reference")
    bad = [label for label in dict.fromkeys(claim.uses["bad"]) if label in tables.methods(task)]
    what = f"gain in test {tables.first(task)['metric'].replace('_', ' ')}"

    def effect(label: str, said: str = "") -> Effect:
        return Effect(
            f"{what}{said}", mean_interval(over_seeds.metric_gain_in_range(tables, task, label, reference)), OF_RANGE
        )

    effects = [effect(method), *(effect(label, f" of {label}") for label in bad)]
    margin = claim.thresholds["range_percent"]
    reason = f"{say(*effects)} against {reference}; the margin is {margin:g} {OF_RANGE}."
    if all(not each.interval.high < -margin for each in effects[1:]):
        reason += " No selection known to be bad is shown to lose that much: where none does, nothing is kept."
    found = decided(effects, lambda values: no_loss(values[0], values[1:], claim.thresholds), reason)
    return among_survivors(found, case, method, [reference])


RULE = Rule(evaluate, ("range_percent",), ("method", "reference"), any_of=("bad",))
