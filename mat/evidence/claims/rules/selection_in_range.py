"""X1c: the largest λ_max against other selections of as many modules, in percent of vanilla's range, judged where
something is chosen, a gradient reaches it, and it matters what is."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from mat.evidence.claims.rule import (
    Case,
    Effect,
    Outcome,
    Rule,
    Thresholds,
    among_survivors,
    decided,
    not_tested,
    say,
    undecided,
)
from mat.evidence.claims.rules.equal_compute import OF_RANGE
from mat.evidence.claims.rules.selection_controls import in_mode_of
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, PARTLY, SUPPORTED
from mat.evidence.measures import over_seeds, selections
from mat.evidence.stats.intervals import Interval, known, mean_interval, paired_difference

GUARDS = ("min_reached_modules", "min_choosing_percent", "full_share_percent", "share_tolerance_points")


def matters(gains: Sequence[Interval], losses: Sequence[Interval], thresholds: Thresholds) -> str:
    """``gains`` over other selections, ``losses`` of known-bad ones against vanilla. Without a loss above the relevant
    one: inconclusive, it does not matter what is selected. An advantage above the relevant one excluded over any
    selection and none shown: not supported; shown over all, and relevant in the mean: supported; shown over some:
    partly."""
    relevant = thresholds["relevant_percent"]
    if not gains or not known(*gains) or not any(known(loss) and loss.low > relevant for loss in losses):
        return INCONCLUSIVE
    if any(gain.low <= 0 and gain.high <= relevant for gain in gains):
        return NOT_SUPPORTED
    if all(gain.low > 0 and gain.mean >= relevant for gain in gains):
        return SUPPORTED
    return PARTLY if any(gain.low > 0 for gain in gains) else INCONCLUSIVE


def evaluate(case: Case) -> Outcome:
    """Best validation losses, paired by seed; a control in another backward mode is none."""
    tables, task, claim, _ = case
    method, reference = claim.one("method"), claim.one("reference")
    controls, beside, bad = (in_mode_of(case, method, claim.uses[role])[1] for role in ("controls", "beside", "bad"))
    if not controls or not bad:
        missing = "controls" if not controls else "bad"
        return not_tested(f"None of {', '.join(claim.uses[missing])} was run in the backward mode of {method}.")
    rows = {label: selections.after_first(tables, task, label) for label in (method, *controls)}
    if all(each.empty for each in rows.values()):
        return not_tested(f"The runs of {method} do not record what a gradient reached after the first interval.")

    def effect(part: str, first: str, second: str, decides: bool = True) -> Effect:
        return Effect(
            part, mean_interval(over_seeds.worse_in_range(tables, task, first, second)), OF_RANGE, "none", decides, True
        )

    gains = [effect(f"advantage over {label}", label, method) for label in controls]
    losses = [effect(f"loss of {label} against {reference}", label, reference) for label in bad]
    shown = [effect(f"advantage over {label}", label, method, decides=False) for label in beside]
    chosen = [
        Effect("reached share after the first interval", _percent(rows[method]), "%", decides=False),
        Effect("intervals after it that choose", _choosing(rows[method], claim.thresholds), "%", decides=False),
    ]
    reason = f"{say(*gains, *losses, *shown)}; {say(*chosen)}."
    effects = [*gains, *losses, *shown, *chosen]
    if empty := _empty(rows, method, chosen, claim.thresholds):
        return undecided([each._replace(decides=False) for each in effects], f"{empty} {reason}")
    relevant = claim.thresholds["relevant_percent"]
    if not any(each.interval.low > relevant for each in losses):
        reason += f" No selection known to be bad is shown to lose more than {relevant:g} {OF_RANGE}."

    def decide(values: list[Interval]) -> str:
        return matters(values[: len(gains)], values[len(gains) :], claim.thresholds)

    return among_survivors(decided(effects, decide, reason), case, method, controls)


def _percent(rows: pd.DataFrame) -> Interval:
    return mean_interval(selections.reached_percent(rows)).cut(0, 100)


def _choosing(rows: pd.DataFrame, thresholds: Thresholds) -> Interval:
    return mean_interval(selections.choosing_percent(rows, thresholds["min_reached_modules"])).cut(0, 100)


def _empty(rows: dict[str, pd.DataFrame], method: str, chosen: Sequence[Effect], thresholds: Thresholds) -> str:
    """Why selections cannot be compared; "" where they can. What is kept where nothing passes the threshold is one
    module, and no choice."""
    share, choosing = (effect.interval.mean for effect in chosen)
    if not choosing >= thresholds["min_choosing_percent"]:
        least = thresholds["min_reached_modules"]
        return f"After the first interval {method} trains {least:g} modules or more in only {choosing:.0f} % of them."
    if share > thresholds["full_share_percent"]:
        return f"The comparison is empty: {method} trains {share:.1f} % of the modules."
    mine = selections.reached_percent(rows[method])
    for label, each in rows.items():
        gap = paired_difference(mine, selections.reached_percent(each)).mean
        if not abs(gap) <= thresholds["share_tolerance_points"]:
            return f"The reached share differs from that of {label} by {gap:.1f} points: not all that differs is which."
    return ""


THRESHOLDS = ("relevant_percent", *GUARDS)
RULE = Rule(evaluate, THRESHOLDS, ("method", "reference"), others=("controls", "bad", "beside"))
