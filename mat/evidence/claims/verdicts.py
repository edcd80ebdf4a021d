"""Evaluate every claim on the tables: one outcome per task and one over all tasks, at 95 % and once more at the level
that holds for all claims together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from mat.evidence.claims import decisions, page
from mat.evidence.claims.claim import Claim, Claims
from mat.evidence.claims.outcome import Effect, Outcome
from mat.evidence.claims.rules.registry import rule_named
from mat.evidence.runs.curves import Convergence
from mat.evidence.runs.pooled import Tables
from mat.evidence.stats.bootstrap import bootstrap_bounds
from mat.evidence.stats.intervals import CONFIDENCE, Interval
from mat.evidence.stats.power import MOST, POWER, detectable, seeds_needed
from mat.evidence.text import format
from mat.records.files import write_text

ALL = "all"
SCALE = "all tasks together"  # what a claim is judged on whose rule compares tasks
_UNKNOWN = Interval(float("nan"), float("nan"), float("nan"), 0)
_NOTHING = Effect("", _UNKNOWN, "", "none")
_NOT_METHODS = ("kinds", "references")


def verdicts(tables: Tables, claims: Claims) -> pd.DataFrame:
    """One row per claim with task ``all``, then one per claim × task × number behind the verdict.

    A claim's ``all`` row has no effect (tasks have different units); its n is the smallest over tasks.

    Columns: claim, task, verdict, part, decides, effect, low, high, n, unit, ledger, scale,
    ambiguities, reason. ``decides`` is False for numbers that are only shown beside. ``after_correction``: the
    verdict
    with intervals at ``confidence_corrected`` = 1 − 0.05/m (Bonferroni: claims share runs, so they are not
    independent), m = ``claims_tested`` at this scale, for claims alone: neither for a claim's tasks nor
    for its parts. ``bootstrap_low``, ``bootstrap_high``: percentile bootstrap over
    seeds, beside the t interval. ``detectable``: the smallest effect, in its unit, that n seeds of this spread show
    with 80 % power, as a distance from no effect; NaN where the rule does not ask for such a difference.
    ``seeds_needed``: of an inconclusive verdict. ``sanity``: whether vanilla has learned the task.
    """
    found = {claim.id: _outcomes(tables, claim, claims) for claim in claims.claims}
    tested = sum(
        overall(claim, found[claim.id], claims).verdict != decisions.NOT_TESTED for claim in claims.claims
    )
    level = simultaneous(tested)
    rows = []
    for claim in claims.claims:
        outcomes = found[claim.id]
        after = {task: corrected(claim, outcome, level) for task, outcome in outcomes.items()}
        seeds = {task: needed(claim, outcome) for task, outcome in outcomes.items()}
        every = overall(claim, outcomes, claims)
        after[ALL] = every.verdict if claim.not_tested else _combined(after.values(), claims)
        seeds[ALL] = _most(seeds.values()) if every.verdict == decisions.INCONCLUSIVE else ""
        for task, outcome in {ALL: every, **outcomes}.items():
            about = {
                "after_correction": after[task], "confidence_corrected": level, "claims_tested": tested,
                "seeds_needed": seeds[task], "sanity": "" if task == ALL else tables.sanity_of(task),
            }  # fmt: skip
            rows += [
                _row(claim, task, outcome, effect, tables.scale, about)
                for effect in outcome.effects or [_NOTHING]
            ]
    return pd.DataFrame(rows)


def simultaneous(claims: int) -> float:
    """The confidence of each of ``claims`` intervals at which all hold together with 95 % (Bonferroni)."""
    return 1 - (1 - CONFIDENCE) / max(1, claims)


def _outcomes(tables: Tables, claim: Claim, claims: Claims) -> dict[str, Outcome]:
    if claim.not_tested:
        return {}
    return {place: outcome(tables, place, claim, claims.convergence) for place in places(tables, claim)}


def places(tables: Tables, claim: Claim) -> list[str]:
    """What a claim is judged on: the tasks, the families of the table that its rule reads, or the scale as a whole."""
    rule = rule_named(claim.measure)
    if rule.scale:
        return [SCALE]
    return tables.families_of(rule.families) if rule.families else tables.tasks


def outcome(tables: Tables, task: str, claim: Claim, convergence: Convergence) -> Outcome:
    """One claim on one task: tested only with runs of every method named, decided only with enough seeds."""
    rule = rule_named(claim.measure)
    if claim.tasks is not None and task not in claim.tasks and not rule.scale:
        return Outcome(decisions.NOT_TESTED, f"The rule leaves task {task} out.")
    present = set(tables.methods(task))
    for role in sorted(rule.roles - rule.optional - set(_NOT_METHODS)):
        absent = [label for label in claim.role(role) if label not in present]
        if absent and (role != rule.any_role or len(absent) == len(claim.role(role))):
            return Outcome(decisions.NOT_TESTED, f"No runs of {', '.join(absent)} on {task}.")
    found = rule.evaluate(tables, task, claim, convergence)
    if found.verdict != decisions.NOT_TESTED and _too_few(found, claim):
        named = {label for labels_of in (claim.uses or {}).values() for label in labels_of}
        runs = tables.runs[(tables.runs["task"] == task) & tables.runs["method"].isin(named)]
        diverged = int((runs["status"] == "diverged").sum())
        seeds = min(value.n for value in found.deciding)
        reason = f"The rule needs {claim.min_seeds} finished seeds of every method compared and has {seeds}"
        reason += "." if rule.families else f" ({diverged} of their runs diverged)."
        return Outcome(decisions.INCONCLUSIVE, reason, found.effects, found.decide)
    return found


def _too_few(found: Outcome, claim: Claim) -> bool:
    return min((value.n for value in found.deciding), default=claim.min_seeds) < claim.min_seeds


def corrected(claim: Claim, found: Outcome, confidence: float) -> str:
    """The verdict with every deciding interval at ``confidence``; too few seeds stay too few."""
    if found.decide is None or _too_few(found, claim):
        return found.verdict
    return found.decide([value.at(confidence) for value in found.deciding])


def needed(claim: Claim, found: Outcome) -> str:
    """How many seeds an inconclusive verdict would take (``power.seeds_needed``); "" for another."""
    if found.verdict != decisions.INCONCLUSIVE or found.decide is None:
        return ""
    return seeds_needed(found.decide, found.deciding, decisions.INCONCLUSIVE, claim.min_seeds)


def more_seeds(found: Outcome, seeds: str) -> str:
    """What an inconclusive verdict would take, and what the seeds at hand show, as sentences; "" for another."""
    if not seeds:
        return ""
    n = min((effect.interval.n for effect in found.effects if effect.decides), default=0)
    text = f" How many seeds would decide it: {seeds}."
    if seeds[0].isdigit() or seeds.startswith("more"):
        text = f" To decide it would take {seeds} seeds at this spread, where {n} were run."
    shown = [
        f"{effect.part} {format.estimate(_UNKNOWN._replace(mean=least))} {effect.unit}"
        for effect in found.effects
        if effect.decides and np.isfinite(least := _detectable(effect))
    ]
    if shown:
        text += f" With {100 * POWER:g} % power {n} seeds show no less than {', '.join(shown)}."
    return text


def _detectable(effect: Effect) -> float:
    """The smallest effect that would be seen, a distance from none: NaN where the rule asks for another threshold."""
    return detectable(effect.interval) if effect.zero else float("nan")


def _most(found: object) -> str:
    """The largest of several answers of ``seeds_needed``; what no number of seeds settles counts as largest."""
    order = {f"more than {MOST}": MOST + 1, "spread unknown": MOST + 2, "not a matter of seeds": MOST + 3}
    return max((text for text in found if text), key=lambda text: order.get(text) or int(text), default="")


def _combined(verdicts_of: object, claims: Claims) -> str:
    return decisions.combine(verdicts_of, claims.mixed, claims.any_inconclusive)


def overall(claim: Claim, outcomes: dict[str, Outcome], claims: Claims) -> Outcome:
    """The verdict over tasks (``decisions.combine``), with the verdict of every task as its reason."""
    if claim.not_tested:
        return Outcome(decisions.NOT_TESTED, claim.not_tested)
    if not outcomes:
        return Outcome(decisions.NOT_TESTED, "Nothing was measured for it at this scale.")
    verdict = _combined((found.verdict for found in outcomes.values()), claims)
    reason = "; ".join(f"{task}: {found.verdict}{_brackets(found)}" for task, found in outcomes.items())
    decide = [effect for found in outcomes.values() for effect in found.effects if effect.decides]
    seeds = min((effect.interval.n for effect in decide), default=0)
    return Outcome(verdict, reason + ".", [Effect("", _UNKNOWN._replace(n=seeds), "", claim.ledger)])


def write_verdicts(frame: pd.DataFrame, claims: Claims, folder: Path, command: str) -> None:
    """``verdicts.csv`` (every number) and ``verdicts.md`` (to read), made by ``command``."""
    format.csv(frame, folder / "verdicts.csv")
    write_text(page.markdown(frame, claims, command), folder / "verdicts.md")


def _brackets(found: Outcome) -> str:
    shown = [
        f"{effect.part} {format.estimate(effect.interval)} {effect.unit}"
        for effect in found.effects
        if effect.decides
    ]
    return f" ({', '.join(shown) or found.reason.rstrip('.')})"


def _row(
    claim: Claim, task: str, found: Outcome, effect: Effect, scale: str, about: dict[str, object]
) -> dict[str, object]:
    value, reason = effect.interval, found.reason + more_seeds(found, about["seeds_needed"])
    low, high = bootstrap_bounds(value, claim.id, task, effect.part, effect.ledger)
    return {
        "claim": claim.id, "task": task, "verdict": found.verdict,
        "after_correction": about["after_correction"], "part": effect.part, "decides": effect.decides,
        "effect": value.mean, "low": value.low, "high": value.high, "n": value.n, "unit": effect.unit,
        "ledger": effect.ledger, "scale": scale, "ambiguities": " ".join(claim.ambiguities),
        "bootstrap_low": low, "bootstrap_high": high, "detectable": _detectable(effect),
        **{name: about[name] for name in ("seeds_needed", "sanity", "confidence_corrected", "claims_tested")},
        "reason": reason if task == ALL else reason[:1].upper() + reason[1:],
    }  # fmt: skip
