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
from mat.evidence.claims.claim import Claims
from mat.evidence.claims.judge import outcome
from mat.evidence.claims.rule import Case, Effect, Outcome
from mat.evidence.claims.verdict import INCONCLUSIVE, NOT_TESTED
from mat.evidence.measures import over_seeds
from mat.evidence.runs import method_groups
from mat.evidence.runs.pooled import Tables
from mat.evidence.sensitivity.register import Ambiguity
from mat.evidence.stats.intervals import Interval, mean_interval
from mat.evidence.tables.record import Table
from mat.evidence.tables.sections import Page, Section, both
from mat.evidence.text import format, words

# label of a default → the claims in which an alternative plays its role, and that role
DEFAULTS = {"mat": (("C4", "C5"), "method"), "multirate": (("C6",), "baselines")}
SHORT = 60  # characters of an open question
HEADER = (
    "task", "alternative", "measure", "by default [95 %]", "n", "by the alternative [95 %]", "n", "unit", "ledger",
    "claim", "by default", "by the alternative", "changes",
)  # fmt: skip


def _converges(**changes: Any) -> Callable[[Case], Case]:
    return lambda case: case._replace(convergence=replace(case.convergence, **changes))


# other ways to read the same runs: how each changes what C4 is judged on
READINGS: dict[str, Callable[[Case], Case]] = {
    "last_epoch": _converges(last=True),
    "best_epoch": _converges(epsilon=0.0),
    "epsilon_0.002": _converges(epsilon=0.002),
    "epsilon_0.01": _converges(epsilon=0.01),
    "epsilon_0.02": _converges(epsilon=0.02),
    "nominal_ledger": lambda case: case._replace(claim=replace(case.claim, ledger="nominal")),
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
    pools = {tables.seeds: tables}
    rows = [
        {"scale": tables.scale, "id": " ".join(e.id for e in found), "open": _shortened(found[0].open), **row}
        for name, found in entries.items()
        for task in tables.tasks
        for row in _rows(tables, claims, name, task, pools)
    ]
    return pd.DataFrame(rows, columns=None if rows else ["id", "alternative", "task"])


def _rows(
    tables: Tables, claims: Claims, name: str, task: str, pools: dict[frozenset[int], Tables]
) -> Iterator[dict[str, Any]]:
    """What the alternative ``name`` changes on a task, claim by claim; ``pools``: ``tables`` with some seeds alone."""
    default = next((label for label in DEFAULTS if name == label or name.startswith(f"{label}_")), "mat")
    present, reading = tables.methods(task), READINGS.get(name)
    if default not in present or (reading is None and name not in present):
        return
    (wanted, role), own = DEFAULTS[default], tables
    if reading is None and len(seeds := tables.finished(task, name)["seed"]):
        kept = tables.seeds - (set(tables.of(task, default)["seed"]) - set(seeds))
        if kept not in pools:
            pools[kept] = tables.part(tables.runs[tables.runs["seed"].isin(kept)])
        own = pools[kept]
    for claim in claims.claims:
        if claim.id not in (wanted if reading is None else ("C4",)):
            continue
        case = Case(own, task, claim, claims.convergence)
        if reading is None:
            played = [name if label == default else label for label in claim.uses[role]]
            other, label = case._replace(tables=tables, claim=claim.played_by(role, played)), name
        else:
            other, label = reading(case), default
        before, after = outcome(case), outcome(other)
        if NOT_TESTED not in (before.verdict, after.verdict):
            effects = _moved(case, default, before), _moved(other, label, after)
            yield {"alternative": name, "task": task, **_compared(claim.id, task, *effects, before, after)}


def _moved(case: Case, label: str, found: Outcome) -> Effect:
    """The number that the alternative moves; ``label``: what plays its role."""
    if case.claim.id == "C5":
        base = case.claim.one("reference")
        mine, theirs = (over_seeds.best_losses(case.tables, case.place, name) for name in (label, base))
        gap = mean_interval(100 * (mine - theirs) / theirs)
        return Effect("validation loss", gap, f"% of {base}'s best validation loss")
    deciding = [effect for effect in found.effects if effect.decides]
    if case.claim.id == "C6":
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


def _shortened(text: str) -> str:
    """At most ``SHORT`` characters, cut at a word."""
    return text if len(text) <= SHORT else text[:SHORT].rsplit(" ", 1)[0] + " …"


def page(frame: pd.DataFrame, tables: Tables, register: Iterable[Ambiguity]) -> Page:
    """What changes a verdict first, then one section per entry with runs, then what was not varied."""
    register = list(register)
    ids = frame["id"].str.split() if len(frame) else pd.Series(dtype=object)
    firsts, known = set(ids.str[0]), set(ids.explode())
    says = [row for row in frame.itertuples() if row.says] if known else []
    named = (row.says.replace(f" on {row.task}:", f" on {words.task(row.task)}:") for row in says)
    changed = [f"{row.id}: {words.method(row.alternative)} {said}" for row, said in zip(says, named, strict=True)]
    about = (
        "\n".join(f"- {text}." for text in changed)
        or "No alternative that was run at this scale changes a verdict of C4, C5 or C6."
    )
    sections = [Section("What changes a verdict", about)]
    sections += [
        Section(entry.id, f"{entry.open} Default: {entry.default}", HEADER, _cells(frame[ids.str[0] == entry.id]))
        for entry in register
        if entry.id in firsts
    ]
    varied = set(frame["alternative"]) if known else set()
    absent = [
        f"- {entry.id}: {', '.join(left) or 'no alternative is fixed'}{_elsewhere(entry)}"
        for entry in register
        if (left := [name for name in alternatives(entry) if name not in varied]) or entry.id not in known
    ]
    if absent:
        sections.append(Section("Not tested at this scale", "\n".join(absent)))
    return Page(
        "sensitivity",
        "What do the paper's open choices change?",
        "Every alternative of `workflows/ambiguities.yaml` that has runs here, against the default; verdicts by the "
        "same rules and thresholds.",
        sections,
        [
            "Saving: in compute to convergence against vanilla, percent, positive is better (C4). Validation loss: "
            "best of the method minus vanilla's, percent of vanilla's, positive is worse (beside C5's verdict, which "
            "is on the test metric). Advantage: of MAT over Multirate at equal compute (C6). All paired by seed, t "
            "intervals. The default is taken over the alternative's own seeds.",
            "A verdict that becomes inconclusive, or was so, is undecided, no change. An alternative that two entries "
            "list stands under the first.",
            "last_epoch, best_epoch, epsilon_… (A11) and nominal_ledger (A7, A18) read the same runs differently.",
            "A verdict that changes between few seeds may do so by chance: look at the intervals.",
        ],
    )


def _cells(rows: pd.DataFrame) -> list[tuple[str, ...]]:
    return [
        (words.task(row.task), row.alternative, row.measure,
         format.estimate(Interval(row.effect_default, row.default_low, row.default_high)), str(row.n_default),
         format.estimate(Interval(row.effect_alternative, row.low, row.high)), str(row.n), row.unit, row.ledger,
         row.claim, row.verdict_default, row.verdict_alternative,
         format.bold("yes") if row.changes else "undecided" if row.says else "no")
        for row in rows.itertuples()
    ]  # fmt: skip


def _elsewhere(entry: Ambiguity) -> str:
    texts = [text for text in entry.sensitivity if " " in text]
    return f" (see {'; '.join(texts)})" if texts else ""


TABLE = Table(
    "sensitivity",
    "Open choices that change a number",
    lambda given: sensitivity(given.tables, given.rules["claims"], given.rules["ambiguities"]),
    **both(lambda frame, given: page(frame, given.tables, given.rules["ambiguities"])),
    reads=("runs", "claims", "ambiguities"),
    place=120,
)
