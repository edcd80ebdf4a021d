"""A claim's effects over tasks, where units are common, and what its own rule says of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from mat.evidence.claims.claim import Claim
from mat.evidence.claims.rule import Effect, Outcome
from mat.evidence.claims.verdict import INVALID, NOT_SUPPORTED, NOT_TESTED, combine
from mat.evidence.stats.intervals import Interval, known
from mat.evidence.stats.random_effects import Pooled, over_tasks
from mat.evidence.text import format

OVER = ", over tasks"  # ends the name of a part that is pooled
Key = tuple[str, str, str]  # part, unit and ledger: what effects of several tasks must share


def pooled(outcomes: Mapping[str, Outcome], least: int) -> dict[Key, Pooled]:
    """By part, the deciding effects of tasks with ``least`` seeds in the random-effects model; those of one task alone,
    or without a spread, are in none."""
    found: dict[Key, list[Interval]] = {}
    for each in _tested(outcomes):
        for effect in each.effects:
            if effect.decides and effect.interval.n >= least:
                found.setdefault(_key(effect), []).append(effect.interval)
    made = {key: over_tasks(values) for key, values in found.items()}
    return {key: value for key, value in made.items() if value.known}


def verdict_on(claim: Claim, outcomes: Mapping[str, Outcome], values: Mapping[Key, Interval]) -> str:
    """The verdict over tasks of a claim that is judged on pooled effects: each task's rule asked again with ``values``
    in place of its own. Not supported where most tasks say so then; otherwise as for other claims."""
    said = [
        each.on([values.get(_key(effect), effect.interval) for effect in each.effects if effect.decides], 2)
        for each in _tested(outcomes)
    ]
    return NOT_SUPPORTED if 2 * said.count(NOT_SUPPORTED) > len(said) else combine(said, *claim.overall)


def counts(outcomes: Mapping[str, Outcome]) -> str:
    """How many tasks have which verdict."""
    number = Counter(each.verdict for each in outcomes.values())
    return ", ".join(f"{verdict} {count}" for verdict, count in number.items())


def said(found: Mapping[Key, Pooled]) -> str:
    """The pooled effects in words; "" for none."""
    return "".join(
        f" Over {value.effect.n} tasks {part} {format.estimate(value.effect)} {unit}"
        f"{f', of a new task {format.estimate(value.new)}' if known(value.new) else ''}."
        for (part, unit, _), value in found.items()
    )


def _tested(outcomes: Mapping[str, Outcome]) -> list[Outcome]:
    return [each for each in outcomes.values() if each.verdict not in (NOT_TESTED, INVALID)]


def _key(effect: Effect) -> Key:
    return effect.part, effect.unit, effect.ledger
