"""The sensitivity table to read."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from mat.evidence.runs.pooled import Tables
from mat.evidence.sensitivity.register import Ambiguity
from mat.evidence.sensitivity.table import alternatives, effect_of, sensitivity
from mat.evidence.tables.record import Table
from mat.evidence.tables.sections import Page, Section, both
from mat.evidence.text import format

HEADER = (
    "task", "alternative", "measure", "by default [95 %]", "n", "by the alternative [95 %]", "n", "unit", "ledger",
    "claim", "by default", "by the alternative", "changes",
)  # fmt: skip


def page(frame: pd.DataFrame, tables: Tables, register: Iterable[Ambiguity]) -> Page:
    """What changes a verdict first, then one section per entry with runs, then what was not varied."""
    register = list(register)
    ids = frame["id"].str.split() if len(frame) else pd.Series(dtype=object)
    firsts, known = set(ids.str[0]), set(ids.explode())
    changed = [f"{row.id} ({row.alternative}) {row.says}" for row in frame.itertuples() if row.says] if known else []
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
        (row["task"], row["alternative"], row["measure"], format.estimate(effect_of(row, "default")),
         str(row["n_default"]), format.estimate(effect_of(row, "alternative")), str(row["n"]), row["unit"],
         row["ledger"], row["claim"], row["verdict_default"], row["verdict_alternative"], _changes(row))
        for _, row in rows.iterrows()
    ]  # fmt: skip


def _changes(row: pd.Series) -> str:
    return "**yes**" if row["changes"] else "undecided" if row["says"] else "no"


def _elsewhere(entry: Ambiguity) -> str:
    texts = [text for text in entry.sensitivity if " " in text]
    return f" (see {'; '.join(texts)})" if texts else ""


TABLE = Table(
    "sensitivity",
    "Open choices that change a number",
    lambda given: sensitivity(given.tables, given.rules["claims"], given.rules["ambiguities"]),
    **both(lambda frame, given: page(frame, given.tables, given.rules["ambiguities"])),
    reads=("runs", "claims", "ambiguities"),
    texts=(
        *("scale", "id", "open", "alternative", "task", "claim", "measure", "unit", "ledger", "verdict_default"),
        *("verdict_alternative", "says"),
    ),
    place=120,
)
