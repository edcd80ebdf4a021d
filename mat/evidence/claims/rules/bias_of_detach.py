"""X3: the saving with exact gradients, and what detach saves beyond it."""

from __future__ import annotations

from mat.evidence.claims.rule import Case, Effect, Outcome, Rule, Thresholds, decided, not_tested, say
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, PARTLY, SUPPORTED
from mat.evidence.measures import over_seeds
from mat.evidence.stats.intervals import Interval, known, saving_percent


def saving_without_bias(exact: Interval, extra: Interval, reached: float, thresholds: Thresholds) -> str:
    """The exact gradient saves, and detach adds at most the margin: supported; detach adds: partly.

    ``reached``: share of seeds in which exact mode got to the reference's best loss; below ``min_reached_share`` there
    is no saving whose source could be asked for.
    """
    if not known(exact, extra) or reached < thresholds["min_reached_share"]:
        return INCONCLUSIVE
    if exact.high <= 0:
        return NOT_SUPPORTED
    if exact.low <= 0:
        return INCONCLUSIVE
    if extra.high <= thresholds["extra_percent"]:
        return SUPPORTED
    return PARTLY if extra.low > 0 else INCONCLUSIVE


def evaluate(case: Case) -> Outcome:
    """Both savings are in compute to convergence."""
    tables, task, claim, convergence = case
    exact, detach, reference = labels = [claim.one(role) for role in ("exact", "detach", "reference")]
    modes = tuple(tables.of(task, name)["mode"].iloc[0] for name in (exact, detach))
    if modes != ("exact", "detach"):
        return not_tested(f"The runs' backward modes are {modes[0]} and {modes[1]}.")
    first, second, base = (over_seeds.convergence_macs(tables, task, x, claim.ledger, convergence) for x in labels)
    saved, extra = saving_percent(first, base), saving_percent(second, first)
    effects = [
        Effect(f"saving of {exact} against {reference}", saved, "%", claim.ledger, zero=True),
        Effect(f"saving of {detach} beyond {exact}", extra, "%", claim.ledger, zero=True),
    ]
    reach = over_seeds.macs_to_reference_best(tables, task, exact, claim.ledger, convergence).notna()
    reason = f"{say(*effects)}; {exact} reached {reference}'s best loss in {reach.sum()} of {len(reach)} seeds."
    share = reach.mean()
    return decided(effects, lambda values: saving_without_bias(*values, share, claim.thresholds), reason)


RULE = Rule(evaluate, ("extra_percent", "min_reached_share"), ("exact", "detach", "reference"))
