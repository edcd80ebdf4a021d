"""C2: rank correlation over modules of λ_max with the loss decrease of the module trained alone."""

from __future__ import annotations

from mat.evidence.claims.rule import Case, Effect, Outcome, Rule, Thresholds, decided, say
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, PARTLY, SUPPORTED
from mat.evidence.stats.intervals import Interval, known
from mat.evidence.tables import branches
from mat.evidence.tables.trainability import BOTH, GRADIENT, PARTIAL, QUANTITIES, SAYS


def goes_with(rho: Interval, beyond: Interval, thresholds: Thresholds) -> str:
    """``rho``: λ_max with the loss decrease; ``beyond``: the same given the gradient norm.

    rho above 0 with a mean of at least ``min_correlation``: supported where beyond is above 0 too, else partly; not
    supported where rho's upper bound is below ``min_correlation``; otherwise inconclusive.
    """
    if not known(rho):
        return INCONCLUSIVE
    if rho.low > 0 and rho.mean >= thresholds["min_correlation"]:
        if not known(beyond):
            return INCONCLUSIVE
        return SUPPORTED if beyond.low > 0 else PARTLY
    return NOT_SUPPORTED if rho.high < thresholds["min_correlation"] else INCONCLUSIVE


def evaluate(case: Case) -> Outcome:
    """Two correlations decide, those of other quantities are shown beside."""
    tables, family, claim, _ = case
    table = tables.made["trainability"][tables.made["trainability"]["family"] == family]
    deciding = (("lambda_max", ""), ("lambda_max", GRADIENT))
    cells = list(dict.fromkeys((*deciding, *((name, "") for name in QUANTITIES), *PARTIAL)))
    effects = []
    for quantity, given in cells:
        part = f"{SAYS[quantity]} with the loss decrease" + (f" given {SAYS[given]}" if given else "")
        where = {"checkpoint": branches.ALL, "quantity": quantity, "given": given}
        rho = branches.interval_at(table, where, (-1, 1))
        effects.append(Effect(part, rho, "Spearman ρ", decides=(quantity, given) in deciding, zero=True))
    both = effects[cells.index(("lambda_max", BOTH))]
    reason = f"{say(*effects[:3], both)}, over {table['modules'].iloc[0]} modules."
    return decided(effects, lambda values: goes_with(*values, claim.thresholds), reason)


RULE = Rule(evaluate, ("min_correlation",), families="trainability")
