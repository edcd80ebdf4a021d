"""The register of what the paper leaves open: read strictly, written as a table and a page."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path

import pandas as pd

from mat.errors import InputError
from mat.evidence.tables.record import Given, RuleFile, Table
from mat.evidence.text import format
from mat.settings.strict import read
from mat.settings.yaml_file import read_yaml


@dataclass(frozen=True)
class Ambiguity:
    """One open choice: the question, the default taken, the alternatives, and the runs that vary it here."""

    id: str
    open: str
    default: str
    alternatives: list[str]
    sensitivity: list[str]

    def __post_init__(self) -> None:
        if not re.fullmatch(r"A[1-9]\d*", self.id):
            raise InputError(f"id: expected A and a number, got {self.id!r}")
        for name in ("open", "default"):
            if not getattr(self, name).strip():
                raise InputError(f"{self.id}: {name}: expected a text, got nothing")


def load_register(path: Path) -> list[Ambiguity]:
    """Read and check the register. Raises InputError at the first thing that is wrong."""
    content = read_yaml(path)
    if not isinstance(content, list) or not content:
        keys = ", ".join(field.name for field in fields(Ambiguity))
        raise InputError(f"{path.name}: expected a list of entries with the keys {keys}")
    entries = [read(Ambiguity, each, f"{path.name}: entry {number}") for number, each in enumerate(content, 1)]
    ids = [entry.id for entry in entries]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise InputError(f"{path.name}: each id may appear once, got {', '.join(twice)} twice")
    return entries


def markdown(entries: list[Ambiguity]) -> str:
    """The register as one table."""
    rows = [
        (entry.id, entry.open, entry.default, "; ".join(entry.alternatives) or format.MISSING,
         "; ".join(entry.sensitivity) or "none at this scale")
        for entry in entries
    ]  # fmt: skip
    table = format.markdown_table(("id", "open", "default", "alternatives", "sensitivity runs"), rows)
    source = "From `workflows/ambiguities.yaml`; verdicts name the entries they depend on."
    return f"# What the paper leaves open\n\n{source}\n\n{table}"


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
    place=160,
)
