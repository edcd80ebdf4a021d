"""The verdicts as a table, and the file that fixes their rules."""

from __future__ import annotations

import pandas as pd

from mat.evidence.claims import page
from mat.evidence.claims.judge import SCALE
from mat.evidence.claims.load import load_claims
from mat.evidence.claims.verdicts import verdicts
from mat.evidence.tables.record import GEOMETRIC, MEAN, SAVING, Given, Labels, RuleFile, Table, Traced
from mat.evidence.text.format import ALL


def _behind(given: Given, row: pd.Series, _: str) -> Labels:
    """The runs of every method that the claim's rule names, on its task or, of the scale as a whole, on all."""
    claim = next(one for one in given.rules["claims"].claims if one.id == row["claim"])
    tasks = given.tables.tasks if row["task"] in (ALL, SCALE) else [row["task"]]
    return {(task, label) for task in tasks for label in claim.labels & set(given.tables.methods(task))}


def _mean(row: pd.Series, column: str) -> str:
    """Of an effect, whose unit says what was averaged; those of families stand on no runs of their own."""
    if column != "effect":
        return ""
    if "saving" in row["part"] and row["unit"] == "%":
        return SAVING
    return GEOMETRIC if row["unit"].startswith("ratio") else MEAN


FILE = RuleFile("claims", "workflows/claims.yaml", load_claims, found="mat.evidence.claims.rules")
TABLE = Table(
    "verdicts",
    "Verdicts by task",
    lambda given: verdicts(given.tables, given.rules["claims"]),
    lambda frame, given: page.markdown(frame, given.rules["claims"], given.tables.command),
    reads=("runs", "agreement", "sanity", "trainability", "generalisation", "claims"),
    texts=(
        *("claim", "task", "verdict", "after_correction", "part", "unit", "ledger", "scale", "ambiguities"),
        *("seeds_needed", "sanity", "reason"),
    ),
    traced=Traced(_behind, _mean, "effect"),
    place=10,
)
