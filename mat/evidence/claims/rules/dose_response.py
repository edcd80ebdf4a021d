"""X10: validation loss over shares of trained modules, by three orders of the same λ_max."""

from __future__ import annotations

import itertools

from mat.evidence.claims import doses
from mat.evidence.claims.rule import Case, Outcome, Rule, among_survivors, decided, say
from mat.evidence.claims.rules.equal_compute import OF_RANGE, in_range
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, PARTLY, SUPPORTED
from mat.evidence.stats.intervals import Interval, known

ORDERS = ("largest", "shuffled", "smallest")


def ordered(upper: Interval, lower: Interval, control: Interval, margin: float) -> str:
    """``upper``: largest over shuffled, ``lower``: shuffled over smallest, both pooled over shares; ``control``: what
    is lost at the smallest share, without which nothing could be seen.

    Both above 0, one by more than the margin: supported, by less: partly. One below 0, or both at most the margin: not
    supported. One above 0 and the other at most the margin: partly.
    """
    both = (upper, lower)
    if not known(*both, control) or control.low <= margin:
        return INCONCLUSIVE
    if any(step.high < 0 for step in both):
        return NOT_SUPPORTED
    shown, small = [step.low > 0 for step in both], [step.high <= margin for step in both]
    if all(shown):
        return PARTLY if all(small) else SUPPORTED
    if all(small):
        return NOT_SUPPORTED
    return PARTLY if any(shown) and any(small) else INCONCLUSIVE


def evaluate(case: Case) -> Outcome:
    """Two steps of the order and the control decide; the steps at every share are shown beside."""
    claim = case.claim
    roles = doses.of_roles(case, ORDERS)
    every = [label for labels in roles for label in labels]
    if unlike := doses.unlike_exact(case, every):
        return unlike
    full = claim.one("reference")
    upper, lower = (doses.steps(case, better, worse) for better, worse in itertools.pairwise(roles))
    effects = [
        in_range("advantage of largest λ_max over shuffled, all shares", doses.mean_step(upper)),
        in_range("advantage of shuffled over smallest λ_max, all shares", doses.mean_step(lower)),
        in_range(f"advantage of {full} over {roles[1][0]}", doses.mean_step(doses.steps(case, [full], roles[1][:1]))),
    ]
    beside = [
        in_range(f"advantage of {better} over {worse}", steps[worse])._replace(decides=False)
        for steps, first, second in ((upper, *roles[:2]), (lower, *roles[1:]))
        for better, worse in zip(first, second, strict=True)
    ]
    margin = claim.thresholds["margin_percent"]
    vacuous = effects[-1].interval.low <= margin
    why = f" Vacuous: so few modules lose no more than {margin:g} {OF_RANGE}." if vacuous else ""
    found = decided([*effects, *beside], lambda values: ordered(*values, margin), f"{say(*effects)}.{why}")
    return among_survivors(found, case, full, every)


RULE = Rule(evaluate, ("margin_percent",), (*ORDERS, "reference"))
