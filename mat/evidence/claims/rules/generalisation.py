"""C3: validation loss, and wrong labels memorised, after training the modules of small λ_max alone."""

from __future__ import annotations

from mat.evidence.claims.rule import Case, Effect, Outcome, Rule, Thresholds, decided, say
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, PARTLY, SUPPORTED
from mat.evidence.stats.intervals import Interval, known
from mat.evidence.tables.generalisation import MEASURES, at


def harms(against_top: Interval, against_none: Interval, memorised: Interval | None, thresholds: Thresholds) -> str:
    """``against_top``: validation loss after top minus that after bottom, ``against_none``: after bottom minus after
    the remainder alone, both in percent; ``memorised``: wrong labels memorised, top minus bottom, in points, None where
    no labels are wrong.

    Bottom better than top in loss and memorising more, or the reverse: partly, they contradict each other. Bottom worse
    than top, and worse than the remainder alone, or memorising more than top: supported; worse than top only: partly.
    Neither a loss worse than top's by more than ``relevant_percent`` nor ``relevant_points`` more memorised: partly
    where bottom is worse than the remainder alone (training harms, small λ_max not more), else not supported. Otherwise
    inconclusive.
    """
    if not known(*filter(None, (against_top, against_none, memorised))):
        return INCONCLUSIVE
    more, less = memorised is not None and memorised.high < 0, memorised is not None and memorised.low > 0
    if (more and against_top.low > 0) or (less and against_top.high < 0):
        return PARTLY
    if more:
        return SUPPORTED
    if against_top.high < 0:
        return SUPPORTED if against_none.low > 0 else PARTLY
    no_worse = against_top.low >= -thresholds["relevant_percent"]
    no_more = memorised is None or memorised.low >= -thresholds["relevant_points"]
    if not (no_worse and no_more):
        return INCONCLUSIVE
    return PARTLY if against_none.low > 0 else NOT_SUPPORTED


def evaluate(case: Case) -> Outcome:
    """Paired differences between sets of modules; memorised labels decide where some are wrong."""
    tables, family, claim, _ = case
    table = tables.made["generalisation"]
    first = table[table["family"] == family].iloc[0]
    noisy = bool(first["corrupted"] > 0)

    def effect(name: str, minus: str, measure: str, decides: bool = False) -> Effect:
        what, unit = MEASURES[measure]
        value = at(table, family, name, minus, measure)
        return Effect(f"{what}, {name} minus {minus}", value, unit or first["loss_unit"], decides=decides, zero=True)

    effects = [
        effect("top", "bottom", "val_loss_change_percent", True),
        effect("bottom", "none", "val_loss_change_percent", True),
        effect("top", "bottom", "memorised", noisy),
        effect("top", "random", "val_loss_change_percent"),
        effect("top", "bottom", "train_loss_decrease"),
        effect("top", "bottom", "gap_change"),
    ]
    reason = f"{say(*effects[: 3 if noisy else 2])}{'' if noisy else '; no wrong labels to memorise'}."

    def decide(values: list[Interval]) -> str:
        return harms(values[0], values[1], values[2] if noisy else None, claim.thresholds)

    return decided(effects, decide, reason)


RULE = Rule(evaluate, ("relevant_percent", "relevant_points"), families="generalisation")
