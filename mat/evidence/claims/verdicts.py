"""The verdicts table: every claim per task and over all tasks, at 95 % and once more at the level that holds for all
claims together."""

from __future__ import annotations

import math

import pandas as pd

from mat.evidence.claims.claim import Claim, Claims
from mat.evidence.claims.judge import UNKNOWN, corrected, most, needed, outcome, overall, places, simultaneous
from mat.evidence.claims.outcome import Effect, Outcome
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_TESTED, combine
from mat.evidence.runs.pooled import Tables
from mat.evidence.stats.bootstrap import bootstrap_bounds
from mat.evidence.stats.power import POWER, detectable
from mat.evidence.text import format
from mat.evidence.text.format import ALL

_NOTHING = Effect("", UNKNOWN, "")


def verdicts(tables: Tables, claims: Claims) -> pd.DataFrame:
    """One row per claim with task ``all``, then one per claim × task × number behind the verdict.

    A claim's ``all`` row has no effect (tasks have different units); its n is the smallest over tasks.

    Columns: claim, task, verdict, part, decides, effect, low, high, n, unit, ledger, scale, ambiguities, reason.
    ``decides`` is False for numbers that are only shown beside. ``after_correction``: the verdict with intervals at
    ``confidence_corrected`` = 1 − 0.05/m (Bonferroni: claims share runs, so they are not independent), m =
    ``claims_tested`` at this scale, for claims alone: neither for a claim's tasks nor for its parts.
    ``bootstrap_low``, ``bootstrap_high``: percentile bootstrap over seeds, beside the t interval. ``detectable``: the
    smallest effect, in its unit, that n seeds of this spread show with 80 % power, as a distance from no effect; NaN
    where the rule does not ask for such a difference. ``seeds_needed``: of an inconclusive verdict. ``sanity``: whether
    vanilla has learned the task.
    """
    found = [
        (claim, {place: outcome(tables, place, claim, claims.convergence) for place in places(tables, claim)})
        for claim in claims.claims
    ]
    over = {claim.id: overall(claim, outcomes) for claim, outcomes in found}
    tested = sum(every.verdict != NOT_TESTED for every in over.values())
    level = simultaneous(tested)
    rows = []
    for claim, outcomes in found:
        every = over[claim.id]
        after = {task: corrected(claim, each, level) for task, each in outcomes.items()}
        after[ALL] = combine(after.values(), *claim.overall)
        seeds = {task: needed(claim, each) for task, each in outcomes.items()}
        seeds[ALL] = most(seeds.values()) if every.verdict == INCONCLUSIVE else ""
        for task, each in {ALL: every, **outcomes}.items():
            reason = each.reason + _more_seeds(each, seeds[task])
            about = {
                "seeds_needed": seeds[task],
                "sanity": "" if task == ALL else tables.sanity_of(task),
                "confidence_corrected": level,
                "claims_tested": tested,
                "reason": reason if task == ALL else reason[:1].upper() + reason[1:],
            }
            for effect in each.effects or [_NOTHING]:
                row = _row(claim, task, effect, tables.scale, each.verdict, after[task])
                rows.append(row | about)
    return pd.DataFrame(rows)


def _row(claim: Claim, task: str, effect: Effect, scale: str, verdict: str, after: str) -> dict[str, object]:
    value = effect.interval
    low, high = bootstrap_bounds(value, claim.id, task, effect.part, effect.ledger)
    return {
        "claim": claim.id, "task": task, "verdict": verdict, "after_correction": after,
        "part": effect.part, "decides": effect.decides, "effect": value.mean, "low": value.low, "high": value.high,
        "n": value.n, "unit": effect.unit, "ledger": effect.ledger, "scale": scale,
        "ambiguities": " ".join(claim.ambiguities), "bootstrap_low": low, "bootstrap_high": high,
        "detectable": _detectable(effect),
    }  # fmt: skip


def _more_seeds(found: Outcome, seeds: str) -> str:
    """What an inconclusive verdict would take, and what the seeds at hand show, as sentences; "" for another."""
    if not seeds:
        return ""
    n = min((value.n for value in found.deciding), default=0)
    text = f" How many seeds would decide it: {seeds}."
    if seeds[0].isdigit() or seeds.startswith("more"):
        text = f" To decide it would take {seeds} seeds at this spread, where {n} were run."
    shown = [
        f"{effect.part} {format.estimate(UNKNOWN._replace(mean=least))} {effect.unit}"
        for effect in found.effects
        if effect.decides and math.isfinite(least := _detectable(effect))
    ]
    if shown:
        text += f" With {100 * POWER:g} % power {n} seeds show no less than {', '.join(shown)}."
    return text


def _detectable(effect: Effect) -> float:
    """The smallest effect that would be seen, a distance from none: NaN where the rule asks for another threshold."""
    return detectable(effect.interval) if effect.zero else math.nan
