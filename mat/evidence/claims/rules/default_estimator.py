"""X6b: the default estimator's ranking of modules beside the reference's, on other samples, at the end of training."""

from __future__ import annotations

from mat.evidence.claims.rule import Case, Effect, Outcome, Rule, Thresholds, decided, say, undecided
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, SUPPORTED
from mat.evidence.stats.intervals import Interval, known
from mat.evidence.tables import estimator_choice, estimator_price


def reaches(tau: Interval, thresholds: Thresholds) -> str:
    """Lower bound at least ``reach_tau``: supported; upper bound below it: not supported."""
    if not known(tau):
        return INCONCLUSIVE
    if tau.low >= thresholds["reach_tau"]:
        return SUPPORTED
    return NOT_SUPPORTED if tau.high < thresholds["reach_tau"] else INCONCLUSIVE


def evaluate(case: Case) -> Outcome:
    """The default's τ_b, beside it the reference with itself on other samples, and the default that the rule picks."""
    tables, family, claim, _ = case
    table = tables.made["price_list"]
    choice = estimator_price.choose(table, claim.thresholds["reach_tau"])
    rows = estimator_price.at_end(table, family)
    own = rows[rows["is_default"]]
    effects = [
        Effect(part, estimator_choice.tau(row), "Kendall τ_b", decides=decides)
        for part, chosen, decides in (
            ("default to the reference on other samples", own, True),
            ("reference to itself on other samples", rows[rows["is_reference"]], False),
        )
        for _, row in chosen.iterrows()
    ]
    if own.empty:
        return undecided(effects, f"The default was not measured at the end of training. {choice.reason}")
    reason = f"{say(*effects)}. Default {estimator_price.said(own.iloc[0])}. {choice.reason}"
    return decided(effects, lambda values: reaches(values[0], claim.thresholds), reason)


RULE = Rule(evaluate, ("reach_tau",), families="price_list")
