"""X4r, X5r: the rules of C4b and C5r on one task: a saving to vanilla's final loss, and quality kept."""

from __future__ import annotations

from mat.evidence.claims.rule import Case, Outcome, Rule, decided, not_tested
from mat.evidence.claims.rules import quality_in_range, saving_to_level
from mat.evidence.claims.rules.gains import saves_and_keeps
from mat.evidence.stats.intervals import Interval

_RULES = (saving_to_level.RULE, quality_in_range.RULE)


def evaluate(case: Case) -> Outcome:
    """Both rules' numbers, and what both say together; what is said of diverged runs is each rule's own."""
    saved, kept = (rule.evaluate(case) for rule in _RULES)
    reason, effects = f"{saved.reason} {kept.reason}", [*saved.effects, *kept.effects]
    if saved.decide is None or kept.decide is None:
        return not_tested(reason, effects)
    many = len(saved.deciding)

    def decide(values: list[Interval]) -> str:
        return saves_and_keeps(saved.decide(values[:many]), kept.decide(values[many:]))

    return decided(effects, decide, reason)


RULE = Rule(
    evaluate, tuple(name for rule in _RULES for name in rule.thresholds), ("method", "reference"), any_of=("bad",)
)
