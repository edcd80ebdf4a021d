"""The rules of C2 and C3, judged per family on the tables of branches; thresholds are in ``workflows/claims.yaml``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mat.evidence.claims import decisions
from mat.evidence.claims.decisions import Thresholds, known
from mat.evidence.claims.outcome import Effect, Outcome, decided, rule, say
from mat.evidence.runs.curves import Convergence
from mat.evidence.runs.pooled import Tables
from mat.evidence.stats.intervals import Interval
from mat.evidence.tables import branches, generalisation
from mat.evidence.tables import trainability as training

if TYPE_CHECKING:
    from mat.evidence.claims.claim import Claim


def goes_with(rho: Interval, beyond: Interval, thresholds: Thresholds) -> str:
    """``rho``: λ_max with the loss decrease; ``beyond``: the same given the gradient norm.

    rho above 0 with a mean of at least ``min_correlation``: supported where beyond is above 0 too, else partly; not
    supported where rho's upper bound is below ``min_correlation``; otherwise inconclusive.
    """
    if not known(rho):
        return decisions.INCONCLUSIVE
    if rho.low > 0 and rho.mean >= thresholds["min_correlation"]:
        if not known(beyond):
            return decisions.INCONCLUSIVE
        return decisions.SUPPORTED if beyond.low > 0 else decisions.PARTLY
    return decisions.NOT_SUPPORTED if rho.high < thresholds["min_correlation"] else decisions.INCONCLUSIVE


def harms(
    against_top: Interval, against_none: Interval, memorised: Interval | None, thresholds: Thresholds
) -> str:
    """``against_top``: validation loss after top minus that after bottom, ``against_none``: after bottom minus after
    the remainder alone, both in percent; ``memorised``: wrong labels memorised, top minus bottom, in points, None
    where
    no labels are wrong.

    Bottom better than top in loss and memorising more, or the reverse: partly, they contradict each other. Bottom
    worse
    than top, and worse than the remainder alone, or memorising more than top: supported; worse than top only: partly.
    Neither a loss worse than top's by more than ``relevant_percent`` nor ``relevant_points`` more memorised: partly
    where bottom is worse than the remainder alone (training harms, small λ_max not more), else not supported.
    Otherwise
    inconclusive.
    """
    if not known(against_top, against_none, *([] if memorised is None else [memorised])):
        return decisions.INCONCLUSIVE
    more, less = memorised is not None and memorised.high < 0, memorised is not None and memorised.low > 0
    if (more and against_top.low > 0) or (less and against_top.high < 0):
        return decisions.PARTLY
    if more:
        return decisions.SUPPORTED
    if against_top.high < 0:
        return decisions.SUPPORTED if against_none.low > 0 else decisions.PARTLY
    no_worse = against_top.low >= -thresholds["relevant_percent"]
    no_more = memorised is None or memorised.low >= -thresholds["relevant_points"]
    if not (no_worse and no_more):
        return decisions.INCONCLUSIVE
    return decisions.PARTLY if against_none.low > 0 else decisions.NOT_SUPPORTED


def trainability(tables: Tables, family: str, claim: Claim, _: Convergence) -> Outcome:
    """C2: rank correlation over modules of λ_max with the loss decrease of the module trained alone."""
    table = tables.made["trainability"][tables.made["trainability"]["family"] == family]

    def effect(quantity: str, given: str, decides: bool) -> Effect:
        where = {"checkpoint": branches.ALL, "quantity": quantity, "given": given}
        says = training.SAYS
        part = f"{says[quantity]} with the loss decrease" + (f" given {says[given]}" if given else "")
        return Effect(part, branches.interval_at(table, where, (-1, 1)), "Spearman ρ", "none", decides, True)

    effects = [
        effect("lambda_max", "", True),
        effect("lambda_max", training.GRADIENT, True),
        *(effect(name, "", False) for name in training.QUANTITIES[1:]),
        *(effect(*cell, False) for cell in training.PARTIAL[1:]),
    ]
    both = next(found for found in effects if found.part.endswith(training.SAYS[training.BOTH]))
    reason = f"{'; '.join(map(say, [*effects[:3], both]))}, over {table['modules'].iloc[0]} modules."
    return decided(effects, lambda values: goes_with(*values, claim.thresholds), reason)


def harm(tables: Tables, family: str, claim: Claim, _: Convergence) -> Outcome:
    """C3: validation loss, and wrong labels memorised, after training the modules of small λ_max alone."""
    table = tables.made["generalisation"]
    first = table[table["family"] == family].iloc[0]
    noisy, unit_of_loss = first["corrupted"] > 0, first["loss_unit"]

    def effect(name: str, minus: str, measure: str, decides: bool) -> Effect:
        what, unit = generalisation.MEASURES[measure]
        value = generalisation.at(table, family, name, minus, measure)
        return Effect(f"{what}, {name} minus {minus}", value, unit or unit_of_loss, "none", decides, True)

    effects = [
        effect("top", "bottom", "val_loss_change_percent", True),
        effect("bottom", "none", "val_loss_change_percent", True),
        effect("top", "bottom", "memorised", bool(noisy)),
        effect("top", "random", "val_loss_change_percent", False),
        effect("top", "bottom", "train_loss_decrease", False),
        effect("top", "bottom", "gap_change", False),
    ]
    said = effects[: 3 if noisy else 2]
    reason = f"{'; '.join(map(say, said))}{'' if noisy else '; no wrong labels to memorise'}."
    return decided(
        effects,
        lambda values: harms(values[0], values[1], values[2] if noisy else None, claim.thresholds),
        reason,
    )


RULES = {
    "trainability": rule(trainability, "min_correlation", "", families="trainability"),
    "generalisation": rule(harm, "relevant_percent relevant_points", "", families="generalisation"),
}
