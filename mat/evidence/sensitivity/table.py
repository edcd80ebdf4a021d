"""The sensitivity table: what every open choice of the register does to MAT's effects and to the verdicts on them.

An entry's ``sensitivity`` in ``workflows/ambiguities.yaml`` lists its alternatives: labels of methods, which stand in
for MAT (or for Multirate), or names of ``READINGS``, which read the same runs differently; a text with spaces points
elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from mat.errors import InputError
from mat.evidence.claims import decisions
from mat.evidence.claims.claim import Claim, Claims
from mat.evidence.claims.outcome import Effect, Outcome
from mat.evidence.claims.verdicts import outcome
from mat.evidence.runs import method_groups, over_seeds
from mat.evidence.runs.curves import Convergence
from mat.evidence.runs.pooled import Tables
from mat.evidence.sensitivity.register import Ambiguity
from mat.evidence.stats.intervals import Interval, mean_interval

DEFAULTS = {
    "mat": ("C4", "C5"),
    "multirate": ("C6",),
}  # label → the claims in which an alternative plays its role
ROLES = {"mat": "method", "multirate": "baselines"}
SHORT = 60  # characters of an open question


@dataclass(frozen=True)
class Reading:
    """Another way to read the same runs: how it changes convergence and the claim; it concerns C4 alone."""

    convergence: Callable[[Convergence], Convergence] = lambda rule: rule
    ledger: str | None = None


READINGS = {
    "last_epoch": Reading(lambda rule: replace(rule, last=True)),
    "best_epoch": Reading(lambda rule: replace(rule, epsilon=0.0)),
    "epsilon_0.002": Reading(lambda rule: replace(rule, epsilon=0.002)),
    "epsilon_0.01": Reading(lambda rule: replace(rule, epsilon=0.01)),
    "epsilon_0.02": Reading(lambda rule: replace(rule, epsilon=0.02)),
    "nominal_ledger": Reading(ledger="nominal"),
}


def alternatives(entry: Ambiguity) -> list[str]:
    """The entry's alternatives that a table can read. Raises InputError for a name that nothing is known by."""
    found = [text for text in entry.sensitivity if " " not in text]
    unknown = [name for name in found if name not in method_groups.METHOD_ORDER and name not in READINGS]
    if unknown:
        raise InputError(
            f"ambiguities.yaml: {entry.id}: sensitivity names {unknown[0]}, which is neither a known label of a "
            f"method nor one of {', '.join(READINGS)}"
        )
    return found


def sensitivity(tables: Tables, claims: Claims, register: Iterable[Ambiguity]) -> pd.DataFrame:
    """One row per register entry × alternative × task × measure, where the default and the alternative have runs.

    ``measure``: ``saving`` (percent of vanilla's compute, positive is better; C4), ``validation loss`` (MAT minus
    vanilla, percent of vanilla's best, positive is worse; C5's verdict) or ``advantage`` (over Multirate at equal
    compute, in the loss's unit; C6). ``low``, ``high``, ``n`` are of the alternative's effect, ``default_low``,
    ``default_high`` and ``n_default`` of the default's, over the alternative's own seeds. ``changes``: whether one
    decided verdict becomes another; ``says`` says how, or that it is undecided. ``id``: every entry that lists it.
    """
    entries: dict[str, list[Ambiguity]] = {}
    for entry in register:
        for name in alternatives(entry):
            entries.setdefault(name, []).append(entry)
    rows, pools = [], {frozenset(tables.runs["seed"]): tables}
    for name, found in entries.items():
        for task in tables.tasks:
            rows += _rows(tables, claims, found, name, task, pools)
    return pd.DataFrame(rows, columns=None if rows else ["id", "alternative", "task"])


Pools = dict[frozenset[int], Tables]


def of_seeds(tables: Tables, seeds: Iterable[int], pools: Pools) -> Tables:
    """The same tables with the runs of ``seeds`` alone; kept in ``pools``."""
    wanted = frozenset(seeds)
    if wanted not in pools:
        pools[wanted] = replace(tables, runs=tables.runs[tables.runs["seed"].isin(wanted)])
    return pools[wanted]


def _rows(
    tables: Tables, claims: Claims, entries: list[Ambiguity], name: str, task: str, pools: Pools
) -> list[dict[str, Any]]:
    default = next((label for label in DEFAULTS if name == label or name.startswith(f"{label}_")), "mat")
    present = tables.methods(task)
    if default not in present or (name not in READINGS and name not in present):
        return []
    wanted = ("C4",) if name in READINGS else DEFAULTS[default]
    own = tables
    if name not in READINGS and len(seeds := tables.finished(task, name)["seed"]):
        own = of_seeds(
            tables, set(tables.runs["seed"]) - (set(tables.of(task, default)["seed"]) - set(seeds)), pools
        )
    rows = []
    for claim in claims.claims:
        if claim.id in wanted and not claim.not_tested:
            other, rule = _changed(claim, default, name, claims.convergence)
            pair = outcome(own, task, claim, claims.convergence), outcome(tables, task, other, rule)
            if decisions.NOT_TESTED not in (pair[0].verdict, pair[1].verdict):
                effects = (
                    _effect(own, task, claim, default, default, pair[0]),
                    _effect(tables, task, other, default, default if name in READINGS else name, pair[1]),
                )
                rows.append(_row(tables, entries, name, task, claim, effects, pair))
    return rows


def _changed(claim: Claim, default: str, name: str, rule: Convergence) -> tuple[Claim, Convergence]:
    if name in READINGS:
        reading = READINGS[name]
        return replace(claim, ledger=reading.ledger or claim.ledger), reading.convergence(rule)
    role = ROLES[default]
    swapped = [name if label == default else label for label in claim.role(role)]
    return replace(claim, uses={**claim.uses, role: swapped}), rule


def _effect(tables: Tables, task: str, claim: Claim, default: str, label: str, found: Outcome) -> Effect:
    """The number that the alternative moves."""
    if claim.id == "C5":
        base = claim.one("reference")
        mine, theirs = (over_seeds.best_losses(tables, task, name) for name in (label, base))
        gap = mean_interval(100 * (mine - theirs) / theirs)
        return Effect("validation loss", gap, f"% of {base}'s best validation loss", "none")
    deciding = [effect for effect in found.effects if effect.decides]
    if default == "multirate":
        return next(effect for effect in deciding if effect.part.endswith(f" {label}"))._replace(
            part="advantage"
        )
    return deciding[0]


def _row(
    tables: Tables,
    entries: list[Ambiguity],
    name: str,
    task: str,
    claim: Claim,
    effects: tuple[Effect, Effect],
    pair: tuple[Outcome, Outcome],
) -> dict[str, Any]:
    before, after = (effect.interval for effect in effects)
    verdicts = [found.verdict for found in pair]
    differ, open_ = verdicts[0] != verdicts[1], decisions.INCONCLUSIVE in verdicts
    changes = differ and not open_
    says = f"{'undecided whether it changes' if open_ else 'changes'} {claim.id} on {task}: {' → '.join(verdicts)}"
    return {
        "scale": tables.scale, "id": " ".join(entry.id for entry in entries), "open": shortened(entries[0].open),
        "alternative": name, "task": task,
        "claim": claim.id, "measure": effects[1].part, "unit": effects[1].unit, "ledger": effects[1].ledger,
        "effect_default": before.mean, "default_low": before.low, "default_high": before.high,
        "n_default": before.n, "effect_alternative": after.mean, "low": after.low, "high": after.high, "n": after.n,
        "verdict_default": verdicts[0], "verdict_alternative": verdicts[1], "changes": changes,
        "says": says if differ else "",
    }  # fmt: skip


def shortened(text: str) -> str:
    """At most ``SHORT`` characters, cut at a word."""
    return text if len(text) <= SHORT else text[:SHORT].rsplit(" ", 1)[0] + " …"


def effect_of(row: pd.Series, which: str) -> Interval:
    """The default's or the alternative's effect of a row."""
    if which == "default":
        return Interval(row["effect_default"], row["default_low"], row["default_high"], row["n_default"])
    return Interval(row["effect_alternative"], row["low"], row["high"], row["n"])
