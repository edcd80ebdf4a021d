"""C1: spread of λ_max over modules of one kind, and its rank correlation with effective rank."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from mat.evidence.claims.rule import Case, Effect, Outcome, Rule, Thresholds, decided, not_tested, say
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, PARTLY, SUPPORTED
from mat.evidence.measures import spectra
from mat.evidence.stats.intervals import Interval, geometric_interval, known, mean_interval


def wide_and_joint(spread: Interval, rho: Interval, thresholds: Thresholds) -> str:
    """Both parts hold: supported; one: partly; both refuted: not supported; otherwise inconclusive."""
    if not known(spread, rho):
        return INCONCLUSIVE
    ratio, strength = thresholds["min_spread"], thresholds["min_abs_correlation"]
    holds = (spread.low >= ratio) + ((rho.low > 0 or rho.high < 0) and abs(rho.mean) >= strength)
    if holds:
        return SUPPORTED if holds == 2 else PARTLY
    refuted = spread.high < ratio and rho.low > -strength and rho.high < strength
    return NOT_SUPPORTED if refuted else INCONCLUSIVE


def evaluate(case: Case, spread_of: Callable[[pd.DataFrame, str], float] = spectra.spread, over: str = "") -> Outcome:
    """By seed, from the first of ``sources`` whose runs recorded spectra, over the first of ``kinds`` that is there.
    ``spread_of`` a run's probes and a kind, which is said to be ``over`` something more."""
    tables, task, claim, _ = case
    sources, kinds = claim.uses["sources"], claim.uses["kinds"]
    for method in sources:
        found = [tables.probes_of(run) for run in tables.finished(task, method)["run"]]
        runs = [probes for probes in found if spectra.has_spectra(probes)]
        if runs:
            break
    else:
        return not_tested(f"No finished run of {' or '.join(sources)} recorded spectra.")
    kind = spectra.kind_present(pd.concat(runs), kinds)
    if kind is None:
        return not_tested(f"The model has no modules of kind {' or '.join(kinds)}.")
    spread = geometric_interval(spread_of(probes, kind) for probes in runs)
    if not spread.n:
        return not_tested(f"The modules of kind {kind} have no spread{over}.")
    rho = mean_interval(spectra.rank_correlation(probes, kind) for probes in runs).cut(-1, 1)
    effects = [
        Effect(f"λ_max spread over modules of kind {kind}{over}", spread, "ratio max/min"),
        Effect("rank correlation of λ_max and effective rank", rho, "Spearman ρ"),
    ]
    reason = f"In {method} runs, {say(effects[0])} and {say(effects[1])}."
    return decided(effects, lambda values: wide_and_joint(*values, claim.thresholds), reason)


THRESHOLDS = ("min_spread", "min_abs_correlation")
RULE = Rule(evaluate, THRESHOLDS, any_of=("sources",), others=("kinds",))
