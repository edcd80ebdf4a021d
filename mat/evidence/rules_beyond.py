"""The questions beyond the paper that are asked of runs: X1, X2, X4, X5."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mat.evidence import decisions, results, write
from mat.evidence.measures import Convergence
from mat.evidence.outcomes import Effect, Outcome, decided, rule, say
from mat.evidence.rules_gain import quality, saving
from mat.evidence.statistics import Interval, mean_interval, paired_difference, saving_percent
from mat.evidence.tables import Tables

if TYPE_CHECKING:
    from mat.evidence.claims import Claim

FINE_TUNING, SCRATCH = "fine-tuning", "from scratch"


def selection(tables: Tables, task: str, claim: Claim, _: Convergence) -> Outcome:
    """X1: best validation loss of selection by λ_max against selections of equal active share.

    Where the method has no runs, its ``fallback`` stands against the one ``reference``. A control in another backward
    mode than the method's is none: then selection is not all that differs.
    """
    present, method = set(tables.methods(task)), claim.one("method")
    controls = [label for label in _alike(tables, task, claim) if label in claim.role("controls")]
    if method in present and controls:
        return _against_controls(tables, task, claim, controls)
    method, reference = claim.one("fallback"), claim.one("reference")
    absent = [label for label in (method, reference) if label not in present]
    if absent:
        return Outcome(decisions.NOT_TESTED, f"No runs of {', '.join(absent)} at this scale.")
    effects = _selections(tables, task, method, [reference])
    empty = _empty(effects, method, claim)
    if empty:
        return decided(effects, _undecided, empty)
    reason = (
        f"{say(effects[0])} at active shares that differ by {write.number(effects[-1].interval.mean, 2)} "
        f"percentage points. No runs of {claim.one('method')}: {method} stands for it."
    )
    return decided(effects, lambda values: decisions.advantage(values[0], claim.thresholds), reason)


def _against_controls(tables: Tables, task: str, claim: Claim, controls: list[str]) -> Outcome:
    method, present = claim.one("method"), set(tables.methods(task))
    effects = _selections(tables, task, method, controls)
    empty = _empty(effects, method, claim)
    beside = [label for label in _alike(tables, task, claim) if label in claim.role("beside")]
    effects += [_advantage(tables, task, method, label)._replace(decides=False) for label in beside]
    if empty:
        return decided(effects, _undecided, empty)

    def decide(values: list[Interval]) -> str:
        gains = dict(zip(controls, values, strict=True))
        return decisions.better_selection(gains, claim.role("decisive"), claim.thresholds)

    absent = [label for label in claim.role("controls") if label not in present]
    unlike = [label for label in claim.role("controls") if label in present and label not in controls]
    said = [say(effect) for effect in effects[: len(controls)] + effects[len(effects) - len(beside) :]]
    missing = f" Not run: {', '.join(absent)}." if absent else ""
    other = f" Left out, as the backward mode is another: {', '.join(unlike)}." if unlike else ""
    return decided(effects, decide, "; ".join(said) + f".{missing}{other}")


def _alike(tables: Tables, task: str, claim: Claim) -> list[str]:
    """Controls and labels shown beside that have runs in the method's backward mode."""
    modes = {label: set(tables.of(task, label)["mode"]) for label in tables.methods(task)}
    own = modes.get(claim.one("method"))
    return [label for label in claim.role("controls") + claim.role("beside") if modes.get(label) == own]


def _advantage(tables: Tables, task: str, method: str, other: str) -> Effect:
    gain = results.best_loss_advantage_percent(tables, task, method, other)
    return Effect(f"advantage in best validation loss over {other}", gain, "% of its loss", "none")


def _selections(tables: Tables, task: str, method: str, others: list[str]) -> list[Effect]:
    """The advantages, which decide; then the method's active share, and how far it is from each other's."""
    mine = results.active_share_percent(tables, task, method)
    gaps = [
        Effect(
            f"active share minus that of {other}",
            paired_difference(mine, results.active_share_percent(tables, task, other)),
            "percentage points",
            "none",
            False,
        )
        for other in others
    ]
    share = Effect("mean active share", mean_interval(mine).cut(0, 100), "%", "none", False)
    return [*(_advantage(tables, task, method, other) for other in others), share, *gaps]


def _empty(effects: list[Effect], method: str, claim: Claim) -> str:
    """Why these selections cannot be compared; "" where they can."""
    beside = [effect.interval.mean for effect in effects if not effect.decides]
    share, gap = beside[0], max(beside[1:], key=abs)
    if share > claim.thresholds["full_share_percent"]:
        return f"The comparison is empty: {method} keeps {share:.1f} % of the modules active."
    if abs(gap) > claim.thresholds["share_tolerance_points"]:
        return f"The active shares differ by {gap:.1f} points, so selection is not all that differs."
    return ""


def _undecided(_: list[Interval]) -> str:
    return decisions.INCONCLUSIVE


def time_saved(tables: Tables, task: str, claim: Claim, convergence: Convergence) -> Outcome:
    """X2: what is left in seconds of the saving in compute; whole runs decide, convergence is shown beside."""
    labels = claim.one("method"), claim.one("reference")
    compute = [results.whole_run_macs(tables, task, name, claim.ledger) for name in labels]
    seconds = [results.wall_clock(tables, task, name) for name in labels]
    to_macs = [results.convergence_macs(tables, task, name, claim.ledger, convergence) for name in labels]
    to_seconds = [results.wall_clock_to_convergence(tables, task, name, convergence) for name in labels]
    effects = [
        Effect("saving in FLOP of the whole run", saving_percent(*compute), "%", claim.ledger),
        Effect("saving in seconds of the whole run", saving_percent(*seconds), "%", "none"),
        Effect("saving in FLOP to convergence", saving_percent(*to_macs), "%", claim.ledger, False),
        Effect("saving in seconds to convergence", saving_percent(*to_seconds), "%", "none", False),
    ]
    none = "" if effects[0].interval.low > 0 else " There is no FLOP saving that could survive."
    reason = f"{'; '.join(map(say, effects))}.{none} Seconds are of this machine, and of what else ran there beside."
    return decided(effects, lambda values: decisions.survives_as_time(*values, claim.thresholds), reason)


def gains(tables: Tables, task: str, claim: Claim, convergence: Convergence) -> Outcome:
    """X4: C4's and C5's rules on one task; a saving of any size without a loss of quality. ``beside``: the same
    numbers of other methods."""
    parts = [saving(tables, task, claim, convergence), quality(tables, task, claim, convergence)]
    reason = " ".join(part.reason for part in parts)
    effects = [effect for part in parts for effect in part.effects]
    if any(part.decide is None for part in parts):
        return Outcome(decisions.NOT_TESTED, reason, effects)
    for label in claim.role("beside"):
        if label in tables.methods(task):
            other = claim.played_by("method", label)
            found = [rule_(tables, task, other, convergence).effects for rule_ in (saving, quality)]
            shown = [
                effect._replace(part=f"{label}: {effect.part}", decides=False)
                for effects_ in found
                for effect in effects_
                if effect.decides
            ]
            effects += shown
            reason += f" Beside it {'; '.join(map(say, shown))}."

    def decide(values: list[Interval]) -> str:
        return decisions.gains_at_all(parts[0].decide(values[:1]), parts[1].decide(values[1:]))

    return decided(effects, decide, reason)


def fine_tuning(tables: Tables, _: str, claim: Claim, convergence: Convergence) -> Outcome:
    """X5: do C4's and C5's outcomes on tasks that start from trained weights equal those on tasks that do not?"""
    labels = {claim.one("method"), claim.one("reference")}
    tasks = [task for task in tables.tasks if labels <= set(tables.methods(task))]
    groups = {FINE_TUNING: [], SCRATCH: []}
    for task in tasks:
        groups[FINE_TUNING if tables.is_fine_tuning(task) else SCRATCH].append(task)
    absent = [name for name, found in groups.items() if not found]
    if absent:
        return Outcome(decisions.NOT_TESTED, f"No task of this scale is {' or '.join(absent)}.")
    found = {
        (name, rule_.__name__, task): rule_(tables, task, claim, convergence)
        for name, own in groups.items()
        for rule_ in (saving, quality)
        for task in own
    }
    effects = [
        effect._replace(part=f"{effect.part} on {task}, {name}")
        for (name, _, task), outcome in found.items()
        for effect in outcome.effects
        if effect.decides
    ]

    def verdicts_of(values: list[Interval]) -> list[list[str]]:
        left = list(values)
        verdicts: dict[tuple[str, str], list[str]] = {}
        for (name, kind, _), outcome in found.items():
            own = [left.pop(0) for _ in outcome.deciding]
            enough = outcome.decide is None or min(value.n for value in own) >= claim.min_seeds
            verdict = outcome.verdict if outcome.decide is None else outcome.decide(own)
            verdicts.setdefault((name, kind), []).append(verdict if enough else decisions.INCONCLUSIVE)
        both = decisions.PARTLY, decisions.INCONCLUSIVE
        return [
            [decisions.combine(verdicts[name, rule_.__name__], *both) for rule_ in (saving, quality)]
            for name in groups
        ]

    tuned, scratch = verdicts_of([effect.interval for effect in effects])
    reason = (
        f"Saving: {FINE_TUNING} {tuned[0]}, {SCRATCH} {scratch[0]}. Quality: {FINE_TUNING} {tuned[1]}, {SCRATCH} "
        f"{scratch[1]}. Equal outcomes are no success: both may be refuted. From small to large is not tested by one "
        "scale: it needs the same tasks trained at a second one, and these rules on both."
    )
    return decided(effects, lambda values: decisions.same_outcome(*verdicts_of(values)), reason)


RULES = {
    "selection": rule(
        selection,
        "relevant_percent full_share_percent share_tolerance_points",
        "method controls decisive beside fallback reference",
        optional="method controls decisive beside fallback reference",
    ),
    "time_saved": rule(time_saved, "kept_share", "method reference"),
    "gains": rule(
        gains,
        "reported_low_percent min_reached_share accuracy_points log_perplexity_percent score_points",
        "method reference beside",
        optional="beside",
    ),
    "fine_tuning": rule(
        fine_tuning,
        "reported_low_percent min_reached_share accuracy_points log_perplexity_percent score_points",
        "method reference",
        scale=True,
        optional="method reference",
    ),
}
