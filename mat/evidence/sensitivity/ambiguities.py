"""The register as a table: every choice that the paper leaves open."""

from __future__ import annotations

import pandas as pd

from mat.evidence.sensitivity.register import load_register, markdown
from mat.evidence.tables.record import Given, RuleFile, Table


def ambiguities(given: Given) -> pd.DataFrame:
    """One row per entry; several alternatives, or runs that vary it, are separated by semicolons."""
    return pd.DataFrame(
        {
            "id": entry.id, "open": entry.open, "default": entry.default,
            "alternatives": "; ".join(entry.alternatives), "sensitivity": "; ".join(entry.sensitivity),
        }
        for entry in given.rules["ambiguities"]
    )  # fmt: skip


FILE = RuleFile("ambiguities", "workflows/ambiguities.yaml", load_register)
TABLE = Table(
    "ambiguities",
    "What the paper leaves open",
    ambiguities,
    lambda _, given: markdown(given.rules["ambiguities"]),
    reads=("ambiguities",),
    texts=("id", "open", "default", "alternatives", "sensitivity"),
    place=160,
)
