"""X4: the rules of C4 and C5 on one task: a saving of any size without a loss of quality."""

from __future__ import annotations

from mat.evidence.claims.rule import Case, Outcome, Rule, among_survivors, decided, not_tested, say
from mat.evidence.claims.rules import quality, saving
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, NOT_TESTED, PARTLY, SUPPORTED
from mat.evidence.measures import over_seeds
from mat.evidence.stats.intervals import Interval, known

RULES = (saving, quality)
THRESHOLDS = (*saving.THRESHOLDS, *quality.THRESHOLDS)


def no_gain(value: Interval, reached: float) -> bool:
    """No saving of any size: its upper bound is at most 0, or no seed got to the reference's best loss."""
    return (known(value) and value.high <= 0) or reached == 0


def saves_and_keeps(saved: str, kept: str) -> str:
    """From the verdicts on the saving (C4) and on the quality (C5): a saving of any size and no loss: supported; either
    refuted: not supported; not tested where one was not."""
    if NOT_SUPPORTED in (saved, kept):
        return NOT_SUPPORTED
    if NOT_TESTED in (saved, kept):
        return NOT_TESTED
    return SUPPORTED if saved in (SUPPORTED, PARTLY) and kept == SUPPORTED else INCONCLUSIVE


def gains_at_all(saved: str, kept: str, refuted: bool) -> str:
    """``saves_and_keeps``, but a saving that is only smaller than reported does not refute it: ``refuted`` says whether
    there is none at all (``no_gain``)."""
    if refuted:
        return NOT_SUPPORTED
    return saves_and_keeps(INCONCLUSIVE if saved == NOT_SUPPORTED else saved, kept)


def evaluate(case: Case) -> Outcome:
    """Both rules' numbers; beside them the same numbers of the methods ``beside``."""
    tables, task, claim, convergence = case
    saved, kept = (rule.evaluate(case) for rule in RULES)
    reason, effects = f"{saved.reason} {kept.reason}", [*saved.effects, *kept.effects]
    if saved.decide is None or kept.decide is None:
        return not_tested(reason, effects)
    for label in claim.uses["beside"]:
        if label in tables.methods(task):
            other = case._replace(claim=claim.played_by("method", [label]))
            shown = [
                effect._replace(part=f"{label}: {effect.part}", decides=False)
                for rule in RULES
                for effect in rule.evaluate(other).effects
                if effect.decides
            ]
            effects += shown
            reason += f" Beside it {say(*shown)}."
    method, reference = claim.one("method"), claim.one("reference")
    reached = over_seeds.macs_to_reference_best(tables, task, method, claim.ledger, convergence).notna().mean()

    def decide(values: list[Interval]) -> str:
        return gains_at_all(saved.decide(values[:1]), kept.decide(values[1:]), no_gain(values[0], reached))

    return among_survivors(decided(effects, decide, reason), case, method, [reference])


RULE = Rule(evaluate, THRESHOLDS, ("method", "reference"), others=("beside",))
