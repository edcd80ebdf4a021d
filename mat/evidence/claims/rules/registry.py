"""The measure behind every claim: intervals from the tables, a verdict, and a sentence that says why.

Each rule declares the threshold names and method roles that its entry in ``workflows/claims.yaml``
must give; ``RULES`` is the register.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from mat.errors import InputError
from mat.evidence.claims import decisions
from mat.evidence.claims.outcome import Effect, Outcome, Rule, among_survivors, decided, rule, say
from mat.evidence.claims.rules import beyond, branches, selection
from mat.evidence.claims.rules.gain import quality, saving
from mat.evidence.runs import over_seeds, spectra
from mat.evidence.runs.curves import Convergence
from mat.evidence.runs.pooled import Tables
from mat.evidence.stats.intervals import geometric_interval, mean_interval, saving_percent
from mat.evidence.tables import agreement_page
from mat.records.costs import LEDGERS

if TYPE_CHECKING:
    from mat.evidence.claims.claim import Claim


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
    rho = mean_interval(spectra.rank_correlation(probes, kind) for probes in runs.values()).cut(-1, 1)
    effects = [
        Effect(f"λ_max spread over modules of kind {kind}", spread, "ratio max/min", "none"),
        Effect("rank correlation of λ_max and effective rank", rho, "Spearman ρ", "none"),
    ]
    return decided(
        effects,
        lambda values: decisions.spread_and_rank(*values, claim.thresholds),
        f"In {method} runs, {say(effects[0])} and {say(effects[1])}.",
    )


def beats_baselines(tables: Tables, task: str, claim: Claim, _: Convergence) -> Outcome:
    """C6: validation loss at equal compute against each baseline."""
    method = claim.one("method")
    effects = [
        Effect(
            f"advantage over {baseline}",
            over_seeds.equal_compute_advantage(tables, task, method, baseline, claim.ledger),
            f"{tables.loss_unit(task)} of validation loss",
            claim.ledger,
            zero=True,
        )
        for baseline in claim.role("baselines")
    ]
    reason = (
        "; ".join(say(effect) for effect in effects) + ". The dearer run is read before its schedule ends."
    )
    found = decided(effects, decisions.better_than_all, reason)
    return among_survivors(found, tables, task, method, claim.role("baselines"))


def active_share(tables: Tables, task: str, claim: Claim, _: Convergence) -> Outcome:
    """C7: mean share of active modules over training."""
    share = mean_interval(over_seeds.active_share_percent(tables, task, claim.one("method"))).cut(0, 100)
    effect = Effect("mean active share", share, "%", "none")
    bounds = f"{claim.thresholds['min_percent']:g} to {claim.thresholds['max_percent']:g} %"
    return decided(
        [effect],
        lambda values: decisions.within(values[0], claim.thresholds),
        f"{say(effect)}; the rule asks for {bounds}.",
    )


def probe_cost(tables: Tables, task: str, claim: Claim, _: Convergence) -> Outcome:
    """C8: probes and eigen-solves as a share of total compute."""
    method = claim.one("method")
    effects = [
        Effect(
            "probe share of total compute",
            mean_interval(over_seeds.probe_share_percent(tables, task, method, ledger)).cut(0, 100),
            "%",
            ledger,
            ledger == claim.ledger,
        )
        for ledger in (claim.ledger, *(name for name in LEDGERS if name != claim.ledger))
    ]
    first = tables.of(task, method).iloc[0]
    reason = f"{say(effects[0])} with a probe of {first['probe_n']} samples every {first['interval']} steps."
    return decided(effects, lambda values: decisions.cheap(values[0], claim.thresholds), reason)


def bias_of_detach(tables: Tables, task: str, claim: Claim, convergence: Convergence) -> Outcome:
    """X3: the saving with exact gradients, and what detach saves beyond it."""
    exact, detach, reference = (claim.one(role) for role in ("exact", "detach", "reference"))
    modes = {name: tables.of(task, name)["mode"].iloc[0] for name in (exact, detach)}
    if modes != {exact: "exact", detach: "detach"}:
        return Outcome(
            decisions.NOT_TESTED, f"The runs' backward modes are {modes[exact]} and {modes[detach]}."
        )
    macs = {
        name: over_seeds.convergence_macs(tables, task, name, claim.ledger, convergence)
        for name in (exact, detach, reference)
    }
    saved, extra = saving_percent(macs[exact], macs[reference]), saving_percent(macs[detach], macs[exact])
    effects = [
        Effect(f"saving of {exact} against {reference}", saved, "%", claim.ledger, zero=True),
        Effect(f"saving of {detach} beyond {exact}", extra, "%", claim.ledger, zero=True),
    ]
    reach = over_seeds.macs_to_reference_best(tables, task, exact, claim.ledger, convergence).notna()
    reason = (
        f"{say(effects[0])}; {say(effects[1])}; {exact} reached {reference}'s best loss in {reach.sum()} of "
        f"{len(reach)} seeds."
    )
    share = reach.mean()
    return decided(
        effects, lambda values: decisions.saving_without_bias(*values, share, claim.thresholds), reason
    )


def rankings(tables: Tables, family: str, claim: Claim, _: Convergence) -> Outcome:
    """X6: the default ranking of modules beside the one with another estimator, n, probe set, normalisation."""
    parts = agreement_page.changes(tables.agreement, family)
    effects = [
        Effect(f"change {agreement_page.SAYS[part]}", value, "Kendall τ_b", "none")
        for part, value in parts.items()
    ]
    first = tables.agreement[tables.agreement["family"] == family].iloc[0]
    choice = agreement_page.choose(tables.agreement, claim.thresholds["choice_margin"])
    reason = (
        "; ".join(say(effect) for effect in effects)
        + f". Default {first['default_estimator']}, {first['default_normalisation']}, n = {first['default_n']}; "
        f"reference {first['reference'] or 'none'}. {choice.reason}"
    )
    return decided(effects, lambda values: decisions.survives(values, claim.thresholds), reason)


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
    "rankings": rule(rankings, "survive_tau lost_tau choice_margin", "references", families="agreement"),
    "bias_of_detach": rule(bias_of_detach, "extra_percent min_reached_share", "exact detach reference"),
    **branches.RULES,
    **beyond.RULES,
    **selection.RULES,
}
