"""C6: validation loss at equal compute against each baseline."""

from __future__ import annotations

from collections.abc import Sequence

from mat.evidence.claims.claim import Claim
from mat.evidence.claims.outcome import Effect, Outcome, among_survivors, decided, say
from mat.evidence.claims.rule import Rule
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, PARTLY, SUPPORTED
from mat.evidence.runs import over_seeds
from mat.evidence.runs.curves import Convergence
from mat.evidence.runs.pooled import Tables
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


def evaluate(tables: Tables, task: str, claim: Claim, _: Convergence) -> Outcome:
    """The advantage over every baseline."""
    method, baselines = claim.one("method"), claim.role("baselines")
    effects = [
        Effect(
            f"advantage over {baseline}",
            over_seeds.equal_compute_advantage(tables, task, method, baseline, claim.ledger),
            f"{tables.loss_unit(task)} of validation loss",
            claim.ledger,
            zero=True,
        )
        for baseline in baselines
    ]
    reason = f"{say(*effects)}. The dearer run is read before its schedule ends."
    return among_survivors(decided(effects, better_than_all, reason), tables, task, method, baselines)


RULE = Rule(evaluate, methods=("method", "baselines"))
