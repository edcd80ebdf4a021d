"""The measure behind every claim: intervals from the tables, a verdict, and a sentence that says why.

Each rule declares the threshold names and method roles that its entry in ``workflows/claims.yaml``
must give; ``RULES`` is the register.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from mat.errors import InputError
from mat.evidence import agreement_table, branch_rules, decisions, metrics, results, spectra, write
from mat.evidence.measures import LEDGERS, Convergence
from mat.evidence.outcomes import Effect, Outcome, Rule, rule, say
from mat.evidence.statistics import (
    geometric_interval,
    mean_interval,
    paired_difference,
    saving_percent,
)
from mat.evidence.tables import Tables

if TYPE_CHECKING:
    from mat.evidence.claims import Claim


SCORES = ("f1", *metrics.HUNDREDFOLD)  # metrics in [−1, 1] that are no accuracy


def spread_and_rank(tables: Tables, task: str, claim: Claim, _: Convergence) -> Outcome:
    """C1: spread of λ_max over modules of one kind, and its rank correlation with effective rank."""
    for method in claim.role("sources"):
        runs = {
            int(run["seed"]): tables.probes_of(run["run"])
            for _, run in tables.finished(task, method).iterrows()
        }
        runs = {seed: probes for seed, probes in runs.items() if spectra.has_spectra(probes)}
        if runs:
            break
    else:
        return Outcome(
            decisions.NOT_TESTED, f"No finished run of {' or '.join(claim.role('sources'))} recorded spectra."
        )
    kind = spectra.kind_present(pd.concat(runs.values()), claim.role("kinds"))
    if kind is None:
        return Outcome(
            decisions.NOT_TESTED, f"The model has no modules of kind {' or '.join(claim.role('kinds'))}."
        )
    spread = geometric_interval(spectra.spread(probes, kind) for probes in runs.values())
    rho = mean_interval(spectra.rank_correlation(probes, kind) for probes in runs.values())
    effects = [
        Effect(f"λ_max spread over modules of kind {kind}", spread, "ratio max/min", "none"),
        Effect("rank correlation of λ_max and effective rank", rho, "Spearman ρ", "none"),
    ]
    verdict = decisions.spread_and_rank(spread, rho, claim.thresholds)
    return Outcome(verdict, f"In {method} runs, {say(effects[0])} and {say(effects[1])}.", effects)


def saving(tables: Tables, task: str, claim: Claim, convergence: Convergence) -> Outcome:
    """C4: saving in compute to convergence, charged probes included."""
    method, reference = claim.one("method"), claim.one("reference")
    effects = []
    for ledger in (claim.ledger, *(name for name in LEDGERS if name != claim.ledger)):
        macs = [
            results.convergence_macs(tables, task, name, ledger, convergence) for name in (method, reference)
        ]
        effects.append(Effect("saving", saving_percent(*macs), "%", ledger, ledger == claim.ledger))
    reach = results.macs_to_reference_best(tables, task, method, claim.ledger, convergence)
    base = results.convergence_macs(tables, task, reference, claim.ledger, convergence)
    effects.append(
        Effect(f"saving at {reference}'s best", saving_percent(reach, base), "%", claim.ledger, False)
    )
    late = results.still_improving(tables, task, method, convergence)
    base_late = results.still_improving(tables, task, reference, convergence)
    reason = (
        f"{say(effects[0])}, {say(effects[1])}; {method} reached {reference}'s best loss in "
        f"{reach.notna().sum()} of {len(reach)} seeds; still improving at the end of the budget: {method} "
        f"{late}, {reference} {base_late}."
    )
    verdict = decisions.saving(effects[0].interval, reach.notna().mean(), claim.thresholds)
    return Outcome(verdict, reason, effects)


def quality(tables: Tables, task: str, claim: Claim, _: Convergence) -> Outcome:
    """C5: paired difference of the test metric, in the better direction, against a margin."""
    method, reference = claim.one("method"), claim.one("reference")
    mine, theirs = (
        tables.finished(task, name).set_index("seed")["test_metric"] for name in (method, reference)
    )
    metric = tables.of(task, method)["metric"].iloc[0]
    if metrics.is_accuracy(metric):
        gain, margin, unit = (
            paired_difference(100 * mine, 100 * theirs),
            "accuracy_points",
            "percentage points",
        )
    elif metric == "log_perplexity":
        gain, margin, unit = mean_interval(100 * (theirs - mine) / theirs), "log_perplexity_percent", "%"
    elif metric in SCORES:
        gain, margin, unit = paired_difference(100 * mine, 100 * theirs), "score_points", "points (× 100)"
    else:
        return Outcome(decisions.NOT_TESTED, f"No margin is fixed for the metric {metric}.")
    effect = Effect(f"gain in test {metric.replace('_', ' ')}", gain, unit, "none")
    reason = f"{say(effect)} against {reference}; the margin is {claim.thresholds[margin]:g} {unit}."
    return Outcome(decisions.not_worse(gain, claim.thresholds[margin]), reason, [effect])


def beats_baselines(tables: Tables, task: str, claim: Claim, _: Convergence) -> Outcome:
    """C6: validation loss at equal compute against each baseline."""
    method = claim.one("method")
    effects = [
        Effect(
            f"advantage over {baseline}",
            results.equal_compute_advantage(tables, task, method, baseline, claim.ledger),
            f"{tables.loss_unit(task)} of validation loss",
            claim.ledger,
        )
        for baseline in claim.role("baselines")
    ]
    reason = (
        "; ".join(say(effect) for effect in effects) + ". The dearer run is read before its schedule ends."
    )
    return Outcome(decisions.better_than_all(effect.interval for effect in effects), reason, effects)


def active_share(tables: Tables, task: str, claim: Claim, _: Convergence) -> Outcome:
    """C7: mean share of active modules over training."""
    share = mean_interval(results.active_share_percent(tables, task, claim.one("method"))).cut(0, 100)
    effect = Effect("mean active share", share, "%", "none")
    bounds = f"{claim.thresholds['min_percent']:g} to {claim.thresholds['max_percent']:g} %"
    return Outcome(
        decisions.within(share, claim.thresholds), f"{say(effect)}; the rule asks for {bounds}.", [effect]
    )


def probe_cost(tables: Tables, task: str, claim: Claim, _: Convergence) -> Outcome:
    """C8: probes and eigen-solves as a share of total compute."""
    method = claim.one("method")
    effects = [
        Effect(
            "probe share of total compute",
            mean_interval(results.probe_share_percent(tables, task, method, ledger)).cut(0, 100),
            "%",
            ledger,
            ledger == claim.ledger,
        )
        for ledger in (claim.ledger, *(name for name in LEDGERS if name != claim.ledger))
    ]
    first = tables.of(task, method).iloc[0]
    reason = f"{say(effects[0])} with a probe of {first['probe_n']} samples every {first['interval']} steps."
    return Outcome(decisions.cheap(effects[0].interval, claim.thresholds), reason, effects)


def selection(tables: Tables, task: str, claim: Claim, _: Convergence) -> Outcome:
    """X1: best validation loss against a selection of equal active share."""
    method, reference = claim.one("method"), claim.one("reference")
    gain = results.best_loss_advantage_percent(tables, task, method, reference)
    shares = [results.active_share_percent(tables, task, name) for name in (method, reference)]
    share, gap = mean_interval(shares[0]), paired_difference(*shares)
    effects = [
        Effect(f"advantage in best validation loss over {reference}", gain, "% of its loss", "none"),
        Effect("mean active share", share, "%", "none", False),
        Effect(f"active share minus that of {reference}", gap, "percentage points", "none", False),
    ]
    if share.mean > claim.thresholds["full_share_percent"]:
        empty = f"The comparison is empty: {method} keeps {share.mean:.1f} % of the modules active."
        return Outcome(decisions.INCONCLUSIVE, empty, effects)
    if abs(gap.mean) > claim.thresholds["share_tolerance_points"]:
        unequal = f"The active shares differ by {gap.mean:.1f} points, so selection is not all that differs."
        return Outcome(decisions.INCONCLUSIVE, unequal, effects)
    reason = (
        f"{say(effects[0])} at active shares that differ by {write.number(gap.mean, 2)} percentage points."
    )
    return Outcome(decisions.advantage(gain, claim.thresholds), reason, effects)


def bias_of_detach(tables: Tables, task: str, claim: Claim, convergence: Convergence) -> Outcome:
    """X3: the saving with exact gradients, and what detach saves beyond it."""
    exact, detach, reference = (claim.one(role) for role in ("exact", "detach", "reference"))
    modes = {name: tables.of(task, name)["mode"].iloc[0] for name in (exact, detach)}
    if modes != {exact: "exact", detach: "detach"}:
        return Outcome(
            decisions.NOT_TESTED, f"The runs' backward modes are {modes[exact]} and {modes[detach]}."
        )
    macs = {
        name: results.convergence_macs(tables, task, name, claim.ledger, convergence)
        for name in (exact, detach, reference)
    }
    saved, extra = saving_percent(macs[exact], macs[reference]), saving_percent(macs[detach], macs[exact])
    effects = [
        Effect(f"saving of {exact} against {reference}", saved, "%", claim.ledger),
        Effect(f"saving of {detach} beyond {exact}", extra, "%", claim.ledger),
    ]
    reach = results.macs_to_reference_best(tables, task, exact, claim.ledger, convergence).notna()
    verdict = decisions.saving_without_bias(saved, extra, reach.mean(), claim.thresholds)
    reason = (
        f"{say(effects[0])}; {say(effects[1])}; {exact} reached {reference}'s best loss in {reach.sum()} of "
        f"{len(reach)} seeds."
    )
    return Outcome(verdict, reason, effects)


def rankings(tables: Tables, family: str, claim: Claim, _: Convergence) -> Outcome:
    """X6: the default ranking of modules beside the one with another estimator, n, probe set, normalisation."""
    parts = agreement_table.changes(tables.agreement, family)
    effects = [
        Effect(f"change {agreement_table.SAYS[part]}", value, "Kendall τ_b", "none")
        for part, value in parts.items()
    ]
    first = tables.agreement[tables.agreement["family"] == family].iloc[0]
    choice = agreement_table.choose(tables.agreement, claim.thresholds["choice_margin"])
    reason = (
        "; ".join(say(effect) for effect in effects)
        + f". Default {first['default_estimator']}, {first['default_normalisation']}, n = {first['default_n']}; "
        f"reference {first['reference'] or 'none'}. {choice.reason}"
    )
    return Outcome(decisions.survives(parts.values(), claim.thresholds), reason, effects)


def rule_named(name: str) -> Rule:
    """The registered rule. Raises InputError listing the known ones."""
    if name not in RULES:
        raise InputError(
            f"unknown measure '{name}' in the claims file: expected one of {', '.join(sorted(RULES))}"
        )
    return RULES[name]


RULES = {
    "spread_and_rank": rule(spread_and_rank, "min_spread min_abs_correlation", "sources kinds", "sources"),
    "saving": rule(saving, "reported_low_percent min_reached_share", "method reference"),
    "quality": rule(quality, "accuracy_points log_perplexity_percent score_points", "method reference"),
    "beats_baselines": rule(beats_baselines, "", "method baselines"),
    "active_share": rule(active_share, "min_percent max_percent", "method"),
    "probe_cost": rule(probe_cost, "cheap_percent bearable_percent", "method"),
    "selection": rule(
        selection, "relevant_percent full_share_percent share_tolerance_points", "method reference"
    ),
    "rankings": rule(rankings, "survive_tau lost_tau choice_margin", "references", families="agreement"),
    "bias_of_detach": rule(bias_of_detach, "extra_percent min_reached_share", "exact detach reference"),
    **branch_rules.RULES,
}
