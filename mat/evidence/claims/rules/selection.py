"""Is it λ_max? MAT against random selection (X1), and the largest λ_max against other selections (X1b)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mat.evidence.claims import decisions
from mat.evidence.claims.outcome import Effect, Outcome, among_survivors, decided, rule, say, undecided
from mat.evidence.runs import over_seeds
from mat.evidence.runs.curves import Convergence
from mat.evidence.runs.pooled import Tables
from mat.evidence.stats.intervals import Interval, mean_interval, paired_difference
from mat.evidence.text import format

if TYPE_CHECKING:
    import pandas as pd

    from mat.evidence.claims.claim import Claim


def selection(tables: Tables, task: str, claim: Claim, _: Convergence) -> Outcome:
    """X1: best validation loss of selection by λ_max against random selection of equal active share."""
    method, reference = claim.one("method"), claim.one("reference")
    effects = [advantage(tables, task, method, reference), *_shares(tables, task, method, [reference])]
    empty = _unequal(effects, method, claim)
    if empty:
        return decided(effects, undecided, empty)
    reason = (
        f"{say(effects[0])} at active shares that differ by {format.number(effects[-1].interval.mean, 2)} "
        "percentage points."
    )
    found = decided(effects, lambda values: decisions.advantage(values[0], claim.thresholds), reason)
    return among_survivors(found, tables, task, method, [reference])


def selection_controls(tables: Tables, task: str, claim: Claim, _: Convergence) -> Outcome:
    """X1b: best validation loss of the largest λ_max against other selections of exactly as many modules.

    A control in another backward mode than the method's is none: then selection is not all that differs. One with too
    few finished seeds is left out, unless all have too few.
    """
    method, present = claim.one("method"), tables.methods(task)
    run = [label for label in claim.role("controls") if label in present]
    alike = _alike(tables, task, method, run)
    if not alike:
        why = f"none in the backward mode of {method}" if run else "none of its controls"
        return Outcome(decisions.NOT_TESTED, f"{method} was run on this task, but {why}.")
    enough = [label for label in alike if len(tables.finished(task, label)) >= claim.min_seeds]
    controls = enough or alike
    beside = _alike(tables, task, method, [label for label in claim.role("beside") if label in present])
    gains = [advantage(tables, task, method, label) for label in controls]
    shown = [advantage(tables, task, method, label)._replace(decides=False) for label in beside]
    number = mean_interval(active_modules(tables, task, method))
    many = Effect("mean number of active modules", number, "modules", "none", False)
    shares = _shares(tables, task, method, controls)
    effects = [*gains, *shares, many, *shown]
    reason = f"{'; '.join(map(say, [*gains, *shown]))}; {say(shares[0])}; {say(many)}."
    reason += _left_out(tables, task, claim, alike, controls)
    empty = _unequal([*gains, *shares], method, claim)
    if number.mean < claim.thresholds["min_active_modules"]:
        empty = f"Hardly anything is selected: {method} keeps {number.mean:.2f} modules active in the mean."
    if empty:
        return decided(effects, undecided, f"{empty} {reason}")

    def decide(values: list[Interval]) -> str:
        by_label = dict(zip(controls, values, strict=True))
        return decisions.better_selection(by_label, claim.role("decisive"), claim.thresholds)

    return among_survivors(decided(effects, decide, reason), tables, task, method, controls)


def advantage(tables: Tables, task: str, method: str, other: str) -> Effect:
    """What decides: the advantage of ``method`` in best validation loss."""
    gain = over_seeds.best_loss_advantage_percent(tables, task, method, other)
    return Effect(f"advantage in best validation loss over {other}", gain, "% of its loss", "none", zero=True)


def active_modules(tables: Tables, task: str, method: str) -> pd.Series:
    """Mean number of active modules by seed."""
    modules = tables.finished(task, method).set_index("seed")["modules"]
    return over_seeds.active_share_percent(tables, task, method) / 100 * modules


def _shares(tables: Tables, task: str, method: str, others: list[str]) -> list[Effect]:
    """The method's active share, then how far it is from each other's."""
    mine = over_seeds.active_share_percent(tables, task, method)
    gaps = [
        Effect(
            f"active share minus that of {other}",
            paired_difference(mine, over_seeds.active_share_percent(tables, task, other)),
            "percentage points",
            "none",
            False,
        )
        for other in others
    ]
    return [Effect("mean active share", mean_interval(mine).cut(0, 100), "%", "none", False), *gaps]


def _unequal(effects: list[Effect], method: str, claim: Claim) -> str:
    """Why these selections cannot be compared; "" where they can."""
    beside = [effect.interval.mean for effect in effects if not effect.decides]
    share, gap = beside[0], max(beside[1:], key=abs)
    if share > claim.thresholds["full_share_percent"]:
        return f"The comparison is empty: {method} keeps {share:.1f} % of the modules active."
    if abs(gap) > claim.thresholds["share_tolerance_points"]:
        return f"The active shares differ by {gap:.1f} points, so selection is not all that differs."
    return ""


def _alike(tables: Tables, task: str, method: str, others: list[str]) -> list[str]:
    """Those of ``others`` that were run in the method's backward mode."""
    own = set(tables.of(task, method)["mode"])
    return [label for label in others if set(tables.of(task, label)["mode"]) == own]


def _left_out(tables: Tables, task: str, claim: Claim, alike: list[str], controls: list[str]) -> str:
    """Which controls are not compared, and why, as sentences."""
    wanted, present = claim.role("controls"), tables.methods(task)
    absent = [label for label in wanted if label not in present]
    unlike = [label for label in wanted if label in present and label not in alike]
    few = [
        f"{label} ({len(tables.finished(task, label))} finished)" for label in alike if label not in controls
    ]
    return "".join(
        f" {why}: {', '.join(found)}."
        for why, found in (
            ("Not run", absent),
            ("Left out, as the backward mode is another", unlike),
            ("Left out, with too few finished seeds", few),
        )
        if found
    )


RULES = {
    "selection": rule(
        selection, "relevant_percent full_share_percent share_tolerance_points", "method reference"
    ),
    "selection_controls": rule(
        selection_controls,
        "relevant_percent min_active_modules full_share_percent share_tolerance_points",
        "method controls decisive beside",
        optional="controls decisive beside",
    ),
}
