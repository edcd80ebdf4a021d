"""C6: validation loss at equal compute against each baseline."""

from __future__ import annotations

from collections.abc import Sequence

from mat.evidence.claims.rule import Case, Effect, Outcome, Rule, among_survivors, decided, say
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, PARTLY, SUPPORTED
from mat.evidence.measures import over_seeds
from mat.evidence.stats.intervals import Interval, known


def better_than_all(gains: Sequence[Interval]) -> str:
    """Better than every baseline: supported; no advantage over any one: not; better than some: partly."""
    if not known(*gains):
        return INCONCLUSIVE
    if all(gain.low > 0 for gain in gains):
        return SUPPORTED
    if any(gain.high <= 0 for gain in gains):
        return NOT_SUPPORTED
    return PARTLY if any(gain.low > 0 for gain in gains) else INCONCLUSIVE


def evaluate(case: Case) -> Outcome:
    """The advantage over every baseline."""
    tables, task, claim, _ = case
    method, baselines = claim.one("method"), claim.uses["baselines"]
    effects, unit = [], f"{tables.loss_unit(task)} of validation loss"
    for baseline in baselines:
        gain = over_seeds.equal_compute_advantage(tables, task, method, baseline, claim.ledger)
        effects.append(Effect(f"advantage over {baseline}", gain, unit, claim.ledger, zero=True))
    reason = f"{say(*effects)}. The dearer run is read before its schedule ends."
    return among_survivors(decided(effects, better_than_all, reason), case, method, baselines)


RULE = Rule(evaluate, methods=("method", "baselines"))
