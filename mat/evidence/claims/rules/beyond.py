"""The questions beyond the paper that are asked of runs: X2, X4, X5; X1 is in ``rules_selection``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mat.evidence.claims import decisions
from mat.evidence.claims.outcome import Effect, Outcome, among_survivors, decided, rule, say
from mat.evidence.claims.rules.gain import quality, saving
from mat.evidence.runs import over_seeds
from mat.evidence.runs.curves import Convergence
from mat.evidence.runs.pooled import Tables
from mat.evidence.stats.intervals import Interval, saving_percent

if TYPE_CHECKING:
    from mat.evidence.claims.claim import Claim

FINE_TUNING, SCRATCH = "fine-tuning", "from scratch"


def time_saved(tables: Tables, task: str, claim: Claim, convergence: Convergence) -> Outcome:
    """X2: what is left in seconds of the saving in compute; whole runs decide, convergence is shown beside."""
    labels = claim.one("method"), claim.one("reference")
    compute = [over_seeds.whole_run_macs(tables, task, name, claim.ledger) for name in labels]
    seconds = [over_seeds.wall_clock(tables, task, name) for name in labels]
    to_macs = [over_seeds.convergence_macs(tables, task, name, claim.ledger, convergence) for name in labels]
    to_seconds = [over_seeds.wall_clock_to_convergence(tables, task, name, convergence) for name in labels]
    effects = [
        Effect("saving in FLOP of the whole run", saving_percent(*compute), "%", claim.ledger, zero=True),
        Effect("saving in seconds of the whole run", saving_percent(*seconds), "%", "none", zero=True),
        Effect("saving in FLOP to convergence", saving_percent(*to_macs), "%", claim.ledger, False, True),
        Effect("saving in seconds to convergence", saving_percent(*to_seconds), "%", "none", False, True),
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

    reach = over_seeds.macs_to_reference_best(tables, task, claim.one("method"), claim.ledger, convergence)
    reached = reach.notna().mean()

    def decide(values: list[Interval]) -> str:
        saved, kept = parts[0].decide(values[:1]), parts[1].decide(values[1:])
        return decisions.gains_at_all(saved, kept, decisions.no_gain(values[0], reached))

    found = decided(effects, decide, reason)
    return among_survivors(found, tables, task, claim.one("method"), [claim.one("reference")])


def fine_tuning(tables: Tables, _: str, claim: Claim, convergence: Convergence) -> Outcome:
    """X5: C4's and C5's rules over the tasks that start from trained weights; beside, over those that do not."""
    labels = {claim.one("method"), claim.one("reference")}
    groups: dict[str, list[str]] = {FINE_TUNING: [], SCRATCH: []}
    for task in tables.tasks:
        if labels <= set(tables.methods(task)):
            groups[FINE_TUNING if tables.is_fine_tuning(task) else SCRATCH].append(task)
    if not groups[FINE_TUNING]:
        return Outcome(
            decisions.NOT_TESTED, "No task of this scale that starts from trained weights was run."
        )
    found = {
        name: [
            [(task, rule_(tables, task, claim, convergence)) for task in tasks] for rule_ in (saving, quality)
        ]
        for name, tasks in groups.items()
    }
    effects = [
        effect._replace(part=f"{effect.part} on {task}, {name}", decides=name == FINE_TUNING)
        for name, kinds in found.items()
        for outcomes in kinds
        for task, outcome in outcomes
        for effect in outcome.effects
        if effect.decides
    ]

    def verdict_of(outcome: Outcome, values: list[Interval]) -> str:
        few = outcome.decide is not None and min(value.n for value in values) < claim.min_seeds
        if few:
            return decisions.INCONCLUSIVE
        return outcome.verdict if outcome.decide is None else outcome.decide(values)

    def over_tasks(name: str, values: list[Interval]) -> list[str]:
        """C4's and C5's outcomes over a group's tasks."""
        left = list(values)
        return [
            decisions.combine(
                [verdict_of(outcome, [left.pop(0) for _ in outcome.deciding]) for _, outcome in outcomes],
                *claim.overall,
            )
            for outcomes in found[name]
        ]

    said = "; ".join(
        "{}: saving {}, quality {}".format(name, *over_tasks(name, values))
        for name, tasks in groups.items()
        if tasks
        for values in [[e.interval for e in effects if e.decides == (name == FINE_TUNING)]]
    )
    reason = (
        f"{said}. From small to large is not tested by one scale: it needs the same tasks trained at a second "
        "one, and these rules on both."
    )
    return decided(
        effects, lambda values: decisions.saves_and_keeps(*over_tasks(FINE_TUNING, values)), reason
    )


RULES = {
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
