"""C2: rank correlation over modules of λ_max with the loss decrease of the module trained alone."""

from __future__ import annotations

from collections.abc import Mapping

from mat.evidence.claims.claim import Claim
from mat.evidence.claims.outcome import Effect, Outcome, decided, say
from mat.evidence.claims.rule import Rule
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, PARTLY, SUPPORTED
from mat.evidence.runs.curves import Convergence
from mat.evidence.runs.pooled import Tables
from mat.evidence.stats.intervals import Interval, known
from mat.evidence.tables import branches
from mat.evidence.tables.trainability import BOTH, GRADIENT, PARTIAL, QUANTITIES, SAYS


def goes_with(rho: Interval, beyond: Interval, thresholds: Mapping[str, float]) -> str:
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


def evaluate(tables: Tables, family: str, claim: Claim, _: Convergence) -> Outcome:
    """Two correlations decide, those of other quantities are shown beside."""
    table = tables.made["trainability"][tables.made["trainability"]["family"] == family]
    deciding = (("lambda_max", ""), ("lambda_max", GRADIENT))
    every = (*((name, "") for name in QUANTITIES), *PARTIAL)
    cells = [*deciding, *(cell for cell in every if cell not in deciding)]
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
