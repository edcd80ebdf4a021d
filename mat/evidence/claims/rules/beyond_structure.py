"""X11: what λ_max says of a module beyond its kind and layer, by values shuffled within them."""

from __future__ import annotations

from mat.evidence.claims import doses
from mat.evidence.claims.rule import Case, Outcome, Rule, among_survivors, decided, say
from mat.evidence.claims.rules.equal_compute import OF_RANGE, in_range
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, SUPPORTED
from mat.evidence.stats.intervals import Interval, known

ORDERS = ("largest", "same_layer", "same_kind", "shuffled")  # the values are free in more and more modules


def own(left: Interval, whole: Interval, margin: float) -> str:
    """``left``: of ``whole``, what largest λ_max is better than any, what it is better than the same values shuffled
    among modules of the same kind and layer.

    Nothing beyond the margin to part: inconclusive. Above 0, by at least the margin in the mean: supported; an
    advantage above the margin excluded: not supported; otherwise inconclusive.
    """
    if not known(left, whole) or whole.low <= margin:
        return INCONCLUSIVE
    if left.high <= margin:
        return NOT_SUPPORTED
    return SUPPORTED if left.low > 0 and left.mean >= margin else INCONCLUSIVE


def evaluate(case: Case) -> Outcome:
    """What is left, and the whole, decide; what the kind and what the layer says are shown beside, and every dose."""
    claim = case.claim
    largest, layer, kind, shuffled = roles = doses.of_roles(case, ORDERS)
    every = [label for labels in roles for label in labels]
    if unlike := doses.unlike_exact(case, every):
        return unlike
    left = doses.steps(case, largest, layer)
    effects = [
        in_range("said by λ_max itself: largest over shuffled within kind and layer", doses.mean_step(left)),
        in_range("said by all of it: largest over shuffled", doses.mean_step(doses.steps(case, largest, shuffled))),
    ]
    parts = [
        in_range(
            "said by the layer: shuffled within kind and layer over within kind",
            doses.mean_step(doses.steps(case, layer, kind)),
        ),
        in_range(
            "said by the kind: shuffled within kind over shuffled", doses.mean_step(doses.steps(case, kind, shuffled))
        ),
        *(
            in_range(f"said by λ_max itself: {largest[i]} over {other}", values)
            for i, (other, values) in enumerate(left.items())
        ),
    ]
    margin = claim.thresholds["margin_percent"]
    vacuous = effects[-1].interval.low <= margin
    why = f" Vacuous: no advantage above {margin:g} {OF_RANGE} is there to part." if vacuous else ""
    beside = [part._replace(decides=False) for part in parts]
    reason = f"{say(*effects, *beside[:2])}.{why}"
    found = decided([*effects, *beside], lambda values: own(*values, margin), reason)
    return among_survivors(found, case, claim.one("reference"), every)


RULE = Rule(evaluate, ("margin_percent",), (*ORDERS, "reference"))
