"""X3b: where the saving at vanilla's best loss comes from, judged only where something was saved there."""

from __future__ import annotations

from mat.evidence.claims.rule import Case, Effect, Outcome, Rule, Thresholds, decided, not_tested, say, undecided
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, PARTLY, SUPPORTED
from mat.evidence.measures import over_seeds
from mat.evidence.stats.intervals import Interval, known, saving_percent


def from_fewer_updates(exact: Interval, biased: Interval, extra: Interval, thresholds: Thresholds) -> str:
    """Savings of ``exact`` and of ``biased`` gradients against the reference, and what the latter add (``extra``).
    Exact ones save, and biased ones add at most the margin: supported; they add something: partly. Biased ones alone
    save: not supported. Where neither is shown to save, there is nothing to explain: inconclusive."""
    if not known(exact, biased, extra):
        return INCONCLUSIVE
    if exact.low > 0:
        if extra.high <= thresholds["extra_percent"]:
            return SUPPORTED
        return PARTLY if extra.low > 0 else INCONCLUSIVE
    return NOT_SUPPORTED if biased.low > 0 and exact.high <= 0 else INCONCLUSIVE


def evaluate(case: Case) -> Outcome:
    """All savings are in compute until the reference's convergence loss of the same seed is reached."""
    tables, task, claim, convergence = case
    exact, biased, reference = (claim.one(role) for role in ("exact", "biased", "reference"))
    modes = [tables.of(task, name)["mode"].iloc[0] for name in (exact, biased)]
    if modes[0] != "exact" or modes[1] == "exact":
        return not_tested(f"The runs' backward modes are {modes[0]} and {modes[1]}.")
    first, second = (
        over_seeds.macs_to_reference_best(tables, task, name, claim.ledger, convergence) for name in (exact, biased)
    )
    base = over_seeds.convergence_macs(tables, task, reference, claim.ledger, convergence)
    effects = [
        Effect(part, saving_percent(*compared), "%", claim.ledger, zero=True)
        for part, compared in (
            (f"saving of {exact} at {reference}'s best", (first, base)),
            (f"saving of {biased} at {reference}'s best", (second, base)),
            (f"saving of {biased} beyond {exact}", (second, first)),
        )
    ]
    least = claim.thresholds["min_reached_share"]
    for name, reach in ((exact, first), (biased, second)):
        got, n = int(reach.notna().sum()), len(reach)
        if n >= claim.min_seeds and got < max(claim.min_seeds, least * n):
            beside = [effect._replace(decides=False) for effect in effects]
            why = f"{name} reached {reference}'s best loss in {got} of {n} seeds: no saving to ask a source for."
            return undecided(beside, f"{why} {say(*effects)}.")
    return decided(effects, lambda values: from_fewer_updates(*values, claim.thresholds), f"{say(*effects)}.")


RULE = Rule(evaluate, ("extra_percent", "min_reached_share"), ("exact", "biased", "reference"))
