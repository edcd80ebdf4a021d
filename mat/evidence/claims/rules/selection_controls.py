"""X1b: best validation loss of the largest λ_max against other selections of exactly as many modules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mat.evidence.claims.rule import Case, Effect, Outcome, Rule, among_survivors, decided, not_tested, say, undecided
from mat.evidence.claims.rules.selection import UNEQUAL, advantage_over, shares, unequal
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_SUPPORTED, PARTLY, SUPPORTED
from mat.evidence.measures import over_seeds
from mat.evidence.stats.intervals import Interval, known, mean_interval


def better_selection(gains: Mapping[str, Interval], decisive: Iterable[str], thresholds: Mapping[str, float]) -> str:
    """Advantages over other selections, by label. All above 0, a ``decisive`` one among them: supported; one over a
    decisive label excluded (none shown, none above the relevant one possible): not supported; one over a decisive label
    above 0 and none below 0: partly; otherwise inconclusive."""
    asked = [gains[label] for label in decisive if label in gains]
    if not asked or not known(*gains.values()):
        return INCONCLUSIVE
    if all(gain.low > 0 for gain in gains.values()):
        return SUPPORTED
    if any(gain.low <= 0 and gain.high <= thresholds["relevant_percent"] for gain in asked):
        return NOT_SUPPORTED
    won = any(gain.low > 0 for gain in asked)
    return PARTLY if won and not any(gain.high < 0 for gain in gains.values()) else INCONCLUSIVE


def evaluate(case: Case) -> Outcome:
    """A control in another backward mode than the method's is none: then selection is not all that differs. One with
    too few finished seeds is left out, unless all have too few."""
    tables, task, claim, _ = case
    method = claim.one("method")
    run, alike = in_mode_of(case, method, claim.uses["controls"])
    if not alike:
        why = f"none in the backward mode of {method}" if run else "none of its controls"
        return not_tested(f"{method} was run on this task, but {why}.")
    controls = [each for each in alike if len(tables.finished(task, each)) >= claim.min_seeds] or alike
    gains = [advantage_over(case, method, label) for label in controls]
    beside = [advantage_over(case, method, label) for label in in_mode_of(case, method, claim.uses["beside"])[1]]
    shown = [effect._replace(decides=False) for effect in beside]
    modules = tables.finished(task, method).set_index("seed")["modules"]
    number = mean_interval(over_seeds.active_share_percent(tables, task, method) / 100 * modules)
    many = Effect("mean number of active modules", number, "modules", decides=False)
    of_shares = shares(case, method, controls)
    effects = [*gains, *of_shares, many, *shown]
    reason = f"{say(*gains, *shown)}; {say(of_shares[0], many)}.{_left_out(case, run, alike, controls)}"
    empty = unequal(of_shares, method, claim.thresholds)
    if number.mean < claim.thresholds["min_active_modules"]:
        empty = f"Hardly anything is selected: {method} keeps {number.mean:.2f} modules active in the mean."
    if empty:
        return undecided(effects, f"{empty} {reason}")

    def decide(values: list[Interval]) -> str:
        by_label = dict(zip(controls, values, strict=True))
        return better_selection(by_label, claim.uses["decisive"], claim.thresholds)

    return among_survivors(decided(effects, decide, reason), case, method, controls)


def in_mode_of(case: Case, method: str, labels: list[str]) -> tuple[list[str], list[str]]:
    """Those of ``labels`` that were run, and of these those in the method's backward mode."""
    run = [label for label in labels if label in case.tables.methods(case.place)]
    modes = {label: set(case.tables.of(case.place, label)["mode"]) for label in (method, *run)}
    return run, [label for label in run if modes[label] == modes[method]]


def _left_out(case: Case, run: list[str], alike: list[str], controls: list[str]) -> str:
    """Which controls are not compared, and why, as sentences."""
    few = {label: len(case.tables.finished(case.place, label)) for label in alike if label not in controls}
    reasons = {
        "Not run": [label for label in case.claim.uses["controls"] if label not in run],
        "Left out, as the backward mode is another": [label for label in run if label not in alike],
        "Left out, with too few finished seeds": [f"{label} ({count} finished)" for label, count in few.items()],
    }
    return "".join(f" {why}: {', '.join(found)}." for why, found in reasons.items() if found)


THRESHOLDS = ("relevant_percent", "min_active_modules", *UNEQUAL)
RULE = Rule(evaluate, THRESHOLDS, ("method",), others=("controls", "decisive", "beside"))
