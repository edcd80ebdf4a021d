"""The verdicts table: every claim per task and over all tasks, at 95 % and once more corrected for their number."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import pandas as pd

from mat.evidence.claims import page
from mat.evidence.claims.claim import Claim, Claims
from mat.evidence.claims.judge import SCALE, chance, chance_over, corrected, most, needed, overall, places
from mat.evidence.claims.load import load_claims
from mat.evidence.claims.pooling import OVER
from mat.evidence.claims.readings import Reading, judge, labels
from mat.evidence.claims.region import asked
from mat.evidence.claims.rule import Case, Effect, Outcome
from mat.evidence.claims.verdict import INCONCLUSIVE
from mat.evidence.runs.pooled import Tables
from mat.evidence.stats.bootstrap import bootstrap_bounds
from mat.evidence.stats.intervals import Interval
from mat.evidence.stats.multiplicity import holm
from mat.evidence.stats.power import POWER, detectable
from mat.evidence.tables.record import GEOMETRIC, MEAN, SAVING, Given, Labels, RuleFile, Table, Traced
from mat.evidence.text import format
from mat.evidence.text.format import ALL


def verdicts(tables: Tables, claims: Claims, readings: Sequence[Reading] = ()) -> pd.DataFrame:
    """One row per claim with task ``all``, then one per claim × task × number behind the verdict.

    A claim's first ``all`` row has no effect, its n is the smallest over tasks; those after it, where tasks have a part
    in common, have the pooled ones, n of them tasks. ``decides`` is False for numbers that are only shown beside.
    ``p_value``: the one-sided error up to which the verdict is lost; over tasks the largest of theirs, or that of the
    pooled effects. ``after_correction``: the verdict where that is at most 1 − ``confidence_corrected``, halved, which
    Holm's correction asks of the claim among the ``claims_tested`` at this scale; else inconclusive. It is for claims
    alone: neither for a claim's tasks, of which each is asked for the same, nor for its parts. Claims that are
    superseded are none of them, and have no corrected verdict.
    ``bootstrap_low``, ``bootstrap_high``: percentile bootstrap over seeds, beside the t interval. ``detectable``: the
    smallest effect, in its unit, that n seeds of this spread show with 80 % power, as a distance from no effect; NaN
    where the rule does not ask for such a difference. ``asked``: where a number must lie for the rule to say supported
    (``region``). ``seeds_needed``: of an inconclusive verdict. ``sanity``: whether
    vanilla has learned the task.
    """
    found = []
    for claim in claims.claims:
        cases = [Case(tables, place, claim, claims.convergence) for place in places(tables, claim)]
        outcomes = {case.place: judge(case, readings) for case in cases}
        found.append((claim, outcomes, overall(claim, outcomes)))
    chances = [{task: chance(each) for task, each in outcomes.items()} for _, outcomes, _ in found]
    for (claim, outcomes, every), each in zip(found, chances, strict=True):
        each[ALL] = chance_over(claim, every, outcomes)
    tested = {
        claim.id: each[ALL]
        for (claim, *_), each in zip(found, chances, strict=True)
        if claim.superseded_by is None and not math.isnan(each[ALL])
    }
    levels = dict(zip(tested, holm([*tested.values()]), strict=True))
    rows = []
    for (claim, outcomes, every), p in zip(found, chances, strict=True):
        level = levels.get(claim.id, math.nan)
        seeds = {task: needed(claim, each) for task, each in outcomes.items()}
        seeds[ALL] = most(seeds.values()) if every.verdict == INCONCLUSIVE else ""
        region = _asked(claim, outcomes.values())
        for task, each in {ALL: every, **outcomes}.items():
            reason = each.reason + _more_seeds(each, seeds[task])
            for effect in each.effects or [Effect("", Interval(math.nan), "")]:
                value = effect.interval
                low, high = bootstrap_bounds(value, claim.id, task, effect.part, effect.ledger)
                rows.append({
                    "claim": claim.id, "task": task, "verdict": each.verdict, "p_value": p[task],
                    "after_correction": "" if claim.superseded_by else corrected(each.verdict, p[task], level),
                    "part": effect.part, "decides": effect.decides, "effect": value.mean, "low": value.low,
                    "high": value.high, "n": value.n, "unit": effect.unit, "ledger": effect.ledger,
                    "scale": tables.scale, "ambiguities": " ".join(claim.ambiguities),
                    "bootstrap_low": low, "bootstrap_high": high, "detectable": _detectable(effect),
                    "asked": region.get((effect.part.removesuffix(OVER), effect.unit), ""),
                    "seeds_needed": seeds[task], "sanity": "" if task == ALL else tables.sanity_of(task),
                    "confidence_corrected": 1 - 2 * level, "claims_tested": len(tested),
                    "reason": reason if task == ALL else format.capital(reason),
                })  # fmt: skip
    return pd.DataFrame(rows)


def _asked(claim: Claim, outcomes: Iterable[Outcome]) -> dict[tuple[str, str], str]:
    """By part and unit the values that the rule asks for, as the first place says where there is a way to meet it."""
    found: dict[tuple[str, str], str] = {}
    for each in outcomes:
        deciding = [effect for effect in each.effects if effect.decides]
        if any(not found.get((effect.part, effect.unit)) for effect in deciding):
            for effect, values in zip(deciding, asked(each, claim.thresholds.values()), strict=True):
                found[effect.part, effect.unit] = found.get((effect.part, effect.unit)) or values
    return found


def _more_seeds(found: Outcome, seeds: str) -> str:
    """What an inconclusive verdict would take, and what the seeds at hand show, as sentences; "" for another."""
    if not seeds:
        return ""
    n = min((value.n for value in found.deciding), default=0)
    text = f" How many seeds would decide it: {seeds}."
    if seeds[0].isdigit() or seeds.startswith("more"):
        text = f" To decide it would take {seeds} seeds at this spread{f', where {n} were run' if n else ''}."
    shown = [
        f"{effect.part} {format.estimate(Interval(least))} {effect.unit}"
        for effect in found.effects
        if effect.decides and math.isfinite(least := _detectable(effect))
    ]
    if shown:
        text += f" With {100 * POWER:g} % power {n} seeds show no less than {', '.join(shown)}."
    return text


def _detectable(effect: Effect) -> float:
    """The smallest effect that would be seen, a distance from none: NaN where the rule asks for another threshold."""
    return detectable(effect.interval) if effect.zero else math.nan


def _behind(given: Given, row: pd.Series, _: str) -> Labels:
    """The runs of every method that the claim's rule names, on its task or, of the scale as a whole, on all."""
    claim = next(one for one in given.rules["claims"].claims if one.id == row["claim"])
    named = labels(claim, given.rules["readings"])
    tasks = given.tables.tasks if row["task"] in (ALL, SCALE) else [row["task"]]
    return {(task, label) for task in tasks for label in named & set(given.tables.methods(task))}


def _mean(row: pd.Series, column: str) -> str:
    """Of an effect, whose unit says what was averaged; those of families stand on no runs of their own."""
    if column != "effect" or row["task"] == ALL:
        return ""
    if "saving" in row["part"] and row["unit"] == "%":
        return SAVING
    return GEOMETRIC if row["unit"].startswith("ratio") else MEAN


FILE = RuleFile("claims", "workflows/claims.yaml", load_claims, found="mat.evidence.claims.rules")
TABLE = Table(
    "verdicts",
    "Verdicts by task",
    lambda given: verdicts(given.tables, given.rules["claims"], given.rules["readings"]),
    lambda frame, given: page.markdown(frame, given.rules["claims"], given.tables.command, given.rules["readings"]),
    reads=(
        "runs",
        "agreement",
        "price_list",
        "step_times",
        "sanity",
        "trainability",
        "generalisation",
        "claims",
        "readings",
    ),
    traced=Traced(_behind, _mean, "effect"),
    place=10,
)
