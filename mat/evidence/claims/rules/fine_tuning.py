"""X5: the rules of C4 and C5, each over the tasks that start from trained weights; beside, over those that do not."""

from __future__ import annotations

from itertools import islice

from mat.evidence.claims.claim import Claim
from mat.evidence.claims.rule import Case, Outcome, Rule, decided, not_tested
from mat.evidence.claims.rules.gains import RULES, THRESHOLDS, saves_and_keeps
from mat.evidence.claims.verdict import combine
from mat.evidence.stats.intervals import Interval

FINE_TUNING, SCRATCH = "fine-tuning", "from scratch"


def evaluate(case: Case) -> Outcome:
    """Tasks are combined as every claim's are, first for the saving and then for the quality."""
    tables, claim = case.tables, case.claim
    labels = {claim.one("method"), claim.one("reference")}
    groups: dict[str, list[str]] = {FINE_TUNING: [], SCRATCH: []}
    for task in tables.tasks:
        if labels <= set(tables.methods(task)):
            groups[FINE_TUNING if tables.is_fine_tuning(task) else SCRATCH].append(task)
    if not groups[FINE_TUNING]:
        return not_tested("No task of this scale that starts from trained weights was run.")
    effects, said, found = [], [], {}
    for name, tasks in groups.items():
        found[name] = [[rule.evaluate(case._replace(place=task)) for task in tasks] for rule in RULES]
        shown = [
            effect._replace(part=f"{effect.part} on {task}, {name}", decides=name == FINE_TUNING)
            for outcomes in found[name]
            for task, outcome in zip(tasks, outcomes, strict=True)
            for effect in outcome.effects
            if effect.decides
        ]
        effects += shown
        if tasks:
            values = [effect.interval for effect in shown]
            said.append("{}: saving {}, quality {}".format(name, *_over_tasks(found[name], values, claim)))
    reason = (
        f"{'; '.join(said)}. From small to large is not tested by one scale: it needs the same tasks trained at a "
        "second one, and these rules on both."
    )

    def decide(values: list[Interval]) -> str:
        return saves_and_keeps(*_over_tasks(found[FINE_TUNING], values, claim))

    return decided(effects, decide, reason)


def _over_tasks(found: list[list[Outcome]], values: list[Interval], claim: Claim) -> list[str]:
    """A verdict per rule, over its outcomes' tasks; ``values``: the intervals that decide, outcome by outcome."""
    left = iter(values)
    return [
        combine([one.on(list(islice(left, len(one.deciding))), claim.min_seeds) for one in outcomes], *claim.overall)
        for outcomes in found
    ]


RULE = Rule(evaluate, THRESHOLDS, others=("method", "reference"), scale=True)
