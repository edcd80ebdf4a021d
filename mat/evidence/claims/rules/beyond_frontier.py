"""X9: runs over budgets, against vanilla's line of quality on compute over its own."""

from __future__ import annotations

from collections.abc import Sequence

from mat.evidence.claims.rule import Case, Effect, Outcome, Rule, among_survivors, decided, not_tested, say
from mat.evidence.claims.rules.equal_compute import OF_RANGE
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, SUPPORTED
from mat.evidence.measures import frontier, over_seeds
from mat.evidence.stats.intervals import Interval, known, mean_interval


def beyond(gains: Sequence[Interval], margin: float) -> str:
    """One of k above 0 at a level divided by k (Bonferroni): supported; all at most the margin, each at its own level,
    for all must hold: not supported."""
    if not known(*gains):
        return INCONCLUSIVE
    if any(gain.at(1 - (1 - gain.confidence) / len(gains)).low > 0 for gain in gains):
        return SUPPORTED
    return NOT_SUPPORTED if all(gain.high <= margin for gain in gains) else INCONCLUSIVE


def evaluate(case: Case) -> Outcome:
    """The distance of every point from the line; a point with too few seeds on it is left out, unless all have."""
    tables, task, claim, _ = case
    run = [label for label in claim.uses["points"] if label in tables.methods(task)]
    gains = {label: _distance(case, label) for label in run}
    held = [label for label in run if gains[label].interval.n >= claim.min_seeds]
    if all(gains[label].interval.n == 0 for label in run):
        return not_tested(f"No finished run of {', '.join(run)} costs as much as the cheapest of {_listed(case)}.")
    points = held or run
    effects = [gains[label] for label in points]
    others = [label for label in claim.uses["points"] if label not in points]
    left_out = f" Not on the line, or with too few seeds: {', '.join(others)}." if others else ""
    margin = claim.thresholds["margin_percent"]
    found = decided(effects, lambda values: beyond(values, margin), f"{say(*effects)}.{left_out}")
    return among_survivors(found, case, points[0], [*points[1:], *claim.uses["line"]])


def _distance(case: Case, label: str) -> Effect:
    tables, task, claim, _ = case
    gap = frontier.below_line(tables, task, label, claim.uses["line"], claim.ledger)
    value = mean_interval(100 * gap / over_seeds.dynamic_range(tables, task))
    return Effect(f"loss of {label} below the line", value, OF_RANGE, claim.ledger, zero=True)


def _listed(case: Case) -> str:
    return ", ".join(case.claim.uses["line"])


RULE = Rule(evaluate, ("margin_percent",), ("line", "reference"), ("points",))
