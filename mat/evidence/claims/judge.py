"""One claim on the tables: an outcome per task, one over all tasks, and how sure both are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

from mat.evidence.claims import pooling
from mat.evidence.claims.claim import Claim
from mat.evidence.claims.rule import Case, Effect, Outcome, decided, not_tested, too_few
from mat.evidence.claims.rules import rule_named
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_TESTED, combine
from mat.evidence.runs.pooled import Tables
from mat.evidence.stats.intervals import Interval, known
from mat.evidence.stats.multiplicity import p_value
from mat.evidence.stats.power import MOST, seeds_needed
from mat.evidence.tables.sanity import CONVERGED
from mat.evidence.text import format

SCALE = "all tasks together"  # what a claim is judged on whose rule compares tasks


def places(tables: Tables, claim: Claim) -> list[str]:
    """What a claim is judged on: the tasks, the families of the table that its rule reads, or the scale as a whole."""
    rule = rule_named(claim.measure)
    if rule.scale:
        return [SCALE]
    return tables.families_of(rule.families) if rule.families else tables.tasks


def outcome(case: Case) -> Outcome:
    """The rule's answer: tested only with runs of every method named, decided only with enough seeds."""
    tables, task, claim, _ = case
    rule = rule_named(claim.measure)
    if claim.tasks != "all" and task not in claim.tasks and not rule.scale:
        return not_tested(f"The rule leaves task {task} out.")
    present = set(tables.methods(task))
    for role in sorted((*rule.methods, *rule.any_of)):
        absent = [label for label in claim.uses[role] if label not in present]
        if absent and (role in rule.methods or len(absent) == len(claim.uses[role])):
            return not_tested(f"No runs of {', '.join(absent)} on {task}.")
    if claim.needs and (ended := tables.converged(task)) != CONVERGED:
        return not_tested(
            f"The rule needs a task that vanilla has converged on: {ended or 'no level is stated'} on {task}."
        )
    found = rule.evaluate(case)
    if found.verdict == NOT_TESTED or not too_few(found.deciding, claim.min_seeds):
        return found
    lost = sum(int((tables.of(task, label)["status"] == "diverged").sum()) for label in claim.labels)
    diverged = f" ({lost} of their runs diverged)"
    reason = (
        f"The rule needs {claim.min_seeds} finished seeds of every method compared and has "
        f"{min(value.n for value in found.deciding)}{'' if rule.families else diverged}."
    )
    return replace(found, verdict=INCONCLUSIVE, reason=reason)


def overall(claim: Claim, outcomes: Mapping[str, Outcome]) -> Outcome:
    """The verdict over tasks: of the tasks' verdicts (``verdict.combine``) or, where the claim says so, by its rule on
    pooled effects (``pooling``). Its reason counts and lists the tasks' verdicts; its first effect is none, with the
    smallest n; those after it are the pooled ones of each common part, and what a new task's would be."""
    if not outcomes:
        return not_tested("Nothing was measured for it at this scale.")
    found = pooling.pooled(outcomes, claim.min_seeds)
    reason = "; ".join(f"{task}: {found.verdict}{_brackets(found)}" for task, found in outcomes.items())
    if len(outcomes) > 1:
        reason = f"{pooling.counts(outcomes)}: {reason}"
    seeds = min((value.n for found in outcomes.values() for value in found.deciding), default=0)
    judged = claim.over_tasks == "pooled"
    effects = [Effect("", Interval(float("nan"), n=seeds), "", claim.ledger, False)]
    for (part, unit, ledger), value in found.items():
        effects.append(Effect(f"{part}{pooling.OVER}", value.effect, unit, ledger, judged))
        if known(value.new):
            effects.append(Effect(f"{part}, of a new task", value.new, unit, ledger, False))
    reason = f"{reason}.{pooling.said(found)}"
    if not judged:
        return Outcome(combine((found.verdict for found in outcomes.values()), *claim.overall), reason, effects)

    def decide(values: list[Interval]) -> str:
        return pooling.verdict_on(claim, outcomes, dict(zip(found, values, strict=True)))

    if found:
        return decided(effects, decide, reason)
    return Outcome(decide([]), reason, effects)


def _brackets(found: Outcome) -> str:
    shown = [
        f"{effect.part} {format.estimate(effect.interval)} {effect.unit}" for effect in found.effects if effect.decides
    ]
    return f" ({', '.join(shown) or found.reason.rstrip('.')})"


def chance(found: Outcome) -> float:
    """The one-sided p-value of a verdict (``multiplicity.p_value``): 1 where nothing is said; NaN where nothing was
    tested."""
    if found.decide is None:
        return math.nan
    return 1.0 if found.verdict == INCONCLUSIVE else p_value(found.decide, found.deciding, found.verdict)


def chance_over(claim: Claim, every: Outcome, outcomes: Mapping[str, Outcome]) -> float:
    """The same of the verdict over tasks. On pooled effects it has its own; otherwise it says something of each task,
    or of those that say the same where others are open: the largest of theirs."""
    if every.decide is not None:
        return chance(every)
    asked = [each for each in outcomes.values() if claim.over_tasks == "verdicts" or each.verdict == every.verdict]
    tested = [p for p in map(chance, asked) if not math.isnan(p)]
    return 1.0 if every.verdict == INCONCLUSIVE else max(tested, default=math.nan)


def corrected(verdict: str, p: float, level: float) -> str:
    """The verdict where its p-value is at most ``level``, else inconclusive; one that was not tested as it is."""
    return verdict if math.isnan(p) or p <= level else INCONCLUSIVE


def needed(claim: Claim, found: Outcome) -> str:
    """How many seeds an inconclusive verdict would take (``power.seeds_needed``); "" for another."""
    if found.verdict != INCONCLUSIVE or found.decide is None:
        return ""
    return seeds_needed(found.decide, found.deciding, INCONCLUSIVE, claim.min_seeds)


def most(found: Iterable[str]) -> str:
    """The largest of several answers of ``needed``; what no number of seeds settles counts as largest."""
    order = {f"more than {MOST}": MOST + 1, "spread unknown": MOST + 2, "not a matter of seeds": MOST + 3}
    return max((text for text in found if text), key=lambda text: order.get(text) or int(text), default="")
