"""The sensitivity table: what every open choice of the register does to MAT's effects and to the verdicts on them.

An entry's ``sensitivity`` in ``workflows/ambiguities.yaml`` lists its alternatives: labels of methods, which stand in
for MAT (or for Multirate), or names of ``READINGS``, which read the same runs differently; a text with spaces points
elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import pandas as pd

from mat.errors import InputError
from mat.evidence.claims.claim import Claim, Claims
from mat.evidence.claims.judge import outcome
from mat.evidence.claims.outcome import Effect, Outcome
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_TESTED
from mat.evidence.runs import method_groups, over_seeds
from mat.evidence.runs.curves import Convergence
from mat.evidence.runs.pooled import Tables
from mat.evidence.sensitivity.register import Ambiguity
from mat.evidence.stats.intervals import Interval, mean_interval

# label of a default → the claims in which an alternative plays its role, and that role
DEFAULTS = {"mat": (("C4", "C5"), "method"), "multirate": (("C6",), "baselines")}
SHORT = 60  # characters of an open question


def _converges(**changes: Any) -> Callable[[Claim, Convergence], tuple[Claim, Convergence]]:
    return lambda claim, rule: (claim, replace(rule, **changes))


# other ways to read the same runs: how each changes C4 and convergence
READINGS: dict[str, Callable[[Claim, Convergence], tuple[Claim, Convergence]]] = {
    "last_epoch": _converges(last=True),
    "best_epoch": _converges(epsilon=0.0),
    "epsilon_0.002": _converges(epsilon=0.002),
    "epsilon_0.01": _converges(epsilon=0.01),
    "epsilon_0.02": _converges(epsilon=0.02),
    "nominal_ledger": lambda claim, rule: (replace(claim, ledger="nominal"), rule),
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
    pools = {frozenset(tables.runs["seed"]): tables}
    rows = [
        {"scale": tables.scale, "id": " ".join(e.id for e in found), "open": shortened(found[0].open), **row}
        for name, found in entries.items()
        for task in tables.tasks
        for row in _rows(tables, claims, name, task, pools)
    ]
    return pd.DataFrame(rows, columns=None if rows else ["id", "alternative", "task"])


Pools = dict[frozenset[int], Tables]


def of_seeds(tables: Tables, seeds: Iterable[int], pools: Pools) -> Tables:
    """The same tables with the runs of ``seeds`` alone; kept in ``pools``."""
    wanted = frozenset(seeds)
    if wanted not in pools:
        pools[wanted] = replace(tables, runs=tables.runs[tables.runs["seed"].isin(wanted)])
    return pools[wanted]


def _rows(tables: Tables, claims: Claims, name: str, task: str, pools: Pools) -> Iterator[dict[str, Any]]:
    """What the alternative ``name`` changes on a task, claim by claim."""
    default = next((label for label in DEFAULTS if name == label or name.startswith(f"{label}_")), "mat")
    present, reading = tables.methods(task), READINGS.get(name)
    if default not in present or (reading is None and name not in present):
        return
    (wanted, role), own = DEFAULTS[default], tables
    if reading is None and len(seeds := tables.finished(task, name)["seed"]):
        without = set(tables.of(task, default)["seed"]) - set(seeds)
        own = of_seeds(tables, set(tables.runs["seed"]) - without, pools)
    for claim in claims.claims:
        if claim.id not in (wanted if reading is None else ("C4",)):
            continue
        if reading is None:
            played = [name if label == default else label for label in claim.role(role)]
            other, rule, label = claim.played_by(role, played), claims.convergence, name
        else:
            (other, rule), label = reading(claim, claims.convergence), default
        before, after = (outcome(own, task, claim, claims.convergence), outcome(tables, task, other, rule))
        if NOT_TESTED not in (before.verdict, after.verdict):
            effects = _moved(own, task, claim, default, before), _moved(tables, task, other, label, after)
            yield {"alternative": name, "task": task, **_compared(claim.id, task, *effects, before, after)}


def _moved(tables: Tables, task: str, claim: Claim, label: str, found: Outcome) -> Effect:
    """The number that the alternative moves; ``label``: what plays its role."""
    if claim.id == "C5":
        base = claim.one("reference")
        mine, theirs = (over_seeds.best_losses(tables, task, name) for name in (label, base))
        gap = mean_interval(100 * (mine - theirs) / theirs)
        return Effect("validation loss", gap, f"% of {base}'s best validation loss")
    deciding = [effect for effect in found.effects if effect.decides]
    if claim.id == "C6":
        return next(each for each in deciding if each.part.endswith(f" {label}"))._replace(part="advantage")
    return deciding[0]


def _compared(
    claim: str, task: str, default: Effect, alternative: Effect, before: Outcome, after: Outcome
) -> dict[str, Any]:
    old, new = default.interval, alternative.interval
    differ, open_ = before.verdict != after.verdict, INCONCLUSIVE in (before.verdict, after.verdict)
    what = "undecided whether it changes" if open_ else "changes"
    return {
        "claim": claim, "measure": alternative.part, "unit": alternative.unit, "ledger": alternative.ledger,
        "effect_default": old.mean, "default_low": old.low, "default_high": old.high, "n_default": old.n,
        "effect_alternative": new.mean, "low": new.low, "high": new.high, "n": new.n,
        "verdict_default": before.verdict, "verdict_alternative": after.verdict,
        "changes": differ and not open_,
        "says": f"{what} {claim} on {task}: {before.verdict} → {after.verdict}" if differ else "",
    }  # fmt: skip


def shortened(text: str) -> str:
    """At most ``SHORT`` characters, cut at a word."""
    return text if len(text) <= SHORT else text[:SHORT].rsplit(" ", 1)[0] + " …"


def effect_of(row: pd.Series, which: str) -> Interval:
    """The default's or the alternative's effect of a row."""
    if which == "default":
        return Interval(row["effect_default"], row["default_low"], row["default_high"], row["n_default"])
    return Interval(row["effect_alternative"], row["low"], row["high"], row["n"])
