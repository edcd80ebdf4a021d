"""X2: what is left in seconds of the saving in compute."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from mat.evidence.claims.rule import Case, Effect, Outcome, Rule, Thresholds, decided, not_tested, say
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, PARTLY, SUPPORTED
from mat.evidence.measures import over_seeds
from mat.evidence.stats.intervals import Interval, known, saving_percent


def survives_as_time(flop: Interval, seconds: Interval, thresholds: Thresholds) -> str:
    """A saving in compute that survives in time: ``kept_share`` of the compute's saving excluded: not supported, which
    is asked first; seconds saved, and at least that much: supported; less: partly. Inconclusive without a saving in
    compute to begin with."""
    if not known(flop, seconds) or flop.low <= 0:
        return INCONCLUSIVE
    enough = thresholds["kept_share"] * flop.mean
    if seconds.high < enough:
        return NOT_SUPPORTED
    if seconds.low > 0:
        return SUPPORTED if seconds.mean >= enough else PARTLY
    return INCONCLUSIVE


def evaluate(case: Case) -> Outcome:
    """Whole runs decide, by reference seconds; those that were clocked, and convergence, are shown beside."""
    tables, task, claim, convergence = case
    times = over_seeds.step_times(tables, task)
    if times is None:
        return not_tested(f"No step times of {task} were measured: clocked seconds alone decide nothing.")
    labels = claim.one("method"), claim.one("reference")

    def effect(what: str, ledger: str, decides: bool, measure: Callable[..., pd.Series], *how: object) -> Effect:
        saved = saving_percent(*(measure(tables, task, label, *how) for label in labels))
        return Effect(f"saving in {what}", saved, "%", ledger, decides, zero=True)

    effects = [
        effect("FLOP of the whole run", claim.ledger, True, over_seeds.whole_run_macs, claim.ledger),
        effect("reference seconds of the whole run", "none", True, over_seeds.reference_seconds),
        effect("seconds on the clock of the whole run", "none", False, over_seeds.wall_clock),
        effect("FLOP to convergence", claim.ledger, False, over_seeds.convergence_macs, claim.ledger, convergence),
        effect("seconds to convergence", "none", False, over_seeds.wall_clock_to_convergence, convergence),
    ]
    none = "" if effects[0].interval.low > 0 else " There is no FLOP saving that could survive."
    reason = (
        f"{say(*effects)}.{none} Reference seconds follow from {times.clock} of steps beside dense ones on "
        f"{times.cpu}, which spread by {100 * times.spread:.1f} % of a dense step at most."
    )
    return decided(effects, lambda values: survives_as_time(*values, claim.thresholds), reason)


RULE = Rule(evaluate, ("kept_share",), ("method", "reference"))
