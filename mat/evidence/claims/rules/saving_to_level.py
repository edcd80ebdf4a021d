"""C4b, X8: saving in compute to a reference's final level of the loss, charged probes included."""

from __future__ import annotations

from mat.evidence.claims.rule import Case, Effect, Outcome, Rule, among_survivors, decided, not_tested, say
from mat.evidence.claims.rules import saving
from mat.evidence.claims.verdict import NOT_SUPPORTED
from mat.evidence.measures import levels
from mat.evidence.stats.intervals import Interval


def evaluate(case: Case) -> Outcome:
    """The saving to the final level decides; in the other ledger, and to the levels before, it is shown beside."""
    tables, task, claim, _ = case
    method, reference = claim.one("method"), claim.one("reference")
    found = levels.log_levels(tables, task, reference)
    if not found:
        return not_tested(f"No run of {reference} has finished, so that there is no level to reach.")
    effects, reached = [], None
    for ledger in claim.ledgers:
        value, at_end = levels.saving_to_level(tables, task, method, found[levels.FINAL], ledger, reference)
        reached = at_end if reached is None else reached
        effects.append(Effect("saving to the final level", value, "%", ledger, ledger == claim.ledger, True))
    for part in sorted(set(found) - {levels.FINAL}):
        value, _ = levels.saving_to_level(tables, task, method, found[part], claim.ledger, reference)
        effects.append(Effect(f"saving to {100 * part:g} % of the way", value, "%", claim.ledger, False, True))
    share = float(reached.mean()) if len(reached) else 0.0
    reason = f"{say(*effects)}; {method} reached the final level in {reached.sum()} of {len(reached)} seeds."

    def decide(values: list[Interval]) -> str:
        """C4's; what reaches the level in no seed saves nothing on the way to it."""
        return saving.saves(values[0], share, claim.thresholds) if share else NOT_SUPPORTED

    return among_survivors(decided(effects, decide, reason), case, method, [reference])


RULE = Rule(evaluate, saving.THRESHOLDS, ("method", "reference"))
