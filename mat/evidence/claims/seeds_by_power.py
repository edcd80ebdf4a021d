"""From a pilot's tables to the power plan: how many seeds each claim needs on each task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mat.evidence.claims.claim import Claims
from mat.evidence.claims.readings import Reading, played
from mat.evidence.claims.rule import Case, Effect
from mat.evidence.claims.rules import rule_named
from mat.evidence.runs.pooled import Tables
from mat.evidence.stats.intervals import LINKS, Interval
from mat.evidence.stats.power import seeds_for

Matters = Mapping[str, Mapping[str, float]]  # claim → unit → effect that matters


def scale_plan(
    tables: Tables, claims: Claims, readings: Sequence[Reading], matters: Matters, listed: int
) -> dict[str, Any]:
    """A scale's part of ``power.yaml``, for a scale that lists so many seeds. Per task and claim, the largest spread
    among the readings that were run; the task's seeds are what the most demanding claim needs, at most ``listed``. A
    task of which no spread is known has no entry."""
    tasks = {}
    for task in tables.tasks:
        needs = dict(_needs(tables, task, claims, readings, matters))
        if needs:
            most = max((need["needed"] or listed) for need in needs.values())
            tasks[task] = {"seeds": min(listed, most), "claims": needs}
    return {"command": tables.command, "tasks": tasks}


def _needs(
    tables: Tables, task: str, claims: Claims, readings: Sequence[Reading], matters: Matters
) -> Iterator[tuple[str, dict[str, Any]]]:
    for claim in claims.claims:
        found = [
            effect
            for one in played(claim, readings)
            if one.labels <= set(tables.methods(task))
            for effect in _with_spread(Case(tables, task, one, claims.convergence), matters.get(claim.id, {}))
        ]
        if found:
            widest = max(found, key=lambda effect: effect.interval.deviation)
            effect, value = matters[claim.id][widest.unit], widest.interval
            needed = seeds_for(on_link(effect, value) / value.deviation, claim.min_seeds)
            spread = float(f"{value.deviation:.4g}")
            yield claim.id, {"effect": effect, "unit": widest.unit, "spread": spread, "n": value.n, "needed": needed}


def _with_spread(case: Case, units: Mapping[str, float]) -> list[Effect]:
    """The deciding effects in these units; where none has a spread (a level that is not reached), the last of the
    claim's ledger that are shown beside and have one."""
    if not units:
        return []
    known = [
        effect
        for effect in rule_named(case.claim.measure).evaluate(case).effects
        if effect.unit in units and effect.ledger == case.claim.ledger and effect.interval.deviation > 0
        if effect.decides or effect.zero
    ]
    return [effect for effect in known if effect.decides] or known[-1:]


def on_link(effect: float, value: Interval) -> float:
    """An effect's distance from none, on the scale that the spread of ``value`` is on."""
    link = LINKS[value.link]
    return float(np.abs(link.to(effect) - link.to(1.0 if value.link == "ratio" else 0.0)))
