"""What a file of a table gives: one record, from which command line, workflow, report and trace follow.

``mat.evidence.catalogue.tables`` finds the records; nothing lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from mat.evidence.runs.pooled import REFERENCE, Tables
from mat.records import columns

RUNS, SPECTRA = "runs", "spectra"
MEAN, GEOMETRIC, SAVING = "mean", "geometric mean", "100 · (1 − geometric mean of 1 − saving/100)"
Labels = set[tuple[str, str]]  # (task, method)
# columns that hold texts in whichever table has them, as those of records do
_TEXTS = frozenset(
    (
        *("method", "trajectory", "label", "group", "random_label", "unit", "ledger", "measure", "checkpoint", "note"),
        *("claim", "verdict", "after_correction", "ambiguities", "seeds_needed", "sanity", "reason", "says", "source"),
        *("id", "open", "default", "alternatives", "alternative", "sensitivity", "verdict_default", "tasks", "missing"),
        *("verdict_alternative", "direction", "baselines", "converged", "win", "settings", "clock", "seeds_finished"),
        *("quantity", "given", "set", "minus", "comparison", "reference", "input", "threshold", "asked"),
    )
)
# words in columns that pair a method's runs with vanilla's
_COMPARED = ("saving", "vanilla", "advantage", "ratio", "better")


@dataclass(frozen=True)
class RuleFile:
    """A file that fixes rules: ``name`` as records and the command line name it, ``path`` from the repository's root;
    ``read`` raises InputError at the first thing that is wrong. ``found``: the package of what its entries name, which
    no import leads to."""

    name: str
    path: str
    read: Callable[[Path], Any]
    found: str = ""


@dataclass(frozen=True)
class Given:
    """What a table is computed from. ``tables``: the pooled runs with the tables that the record reads; ``made``: those
    tables by name; ``rules``: the files that fix rules, read, by name; ``measured``: what jobs of a study wrote."""

    tables: Tables | None = None
    made: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    rules: Mapping[str, Any] = field(default_factory=dict)
    measured: Sequence[Path] = ()


def is_text(column: str) -> bool:
    """Whether a table's column holds texts by its name alone."""
    return column in _TEXTS or columns.is_text(column)


def compared(given: Given, row: pd.Series, column: str) -> Labels:
    """The method's runs, and vanilla's where the column compares them."""
    with_reference = any(word in column for word in _COMPARED)
    return {(row["task"], name) for name in (row["method"], *([REFERENCE] if with_reference else []))}


def spread_mean(row: pd.Series, column: str) -> str:
    """The mean of a column of ``results.spread_out``."""
    if not column.endswith("_mean") or column.startswith("score_interquartile"):
        return ""
    return SAVING if "saving" in column else GEOMETRIC if "ratio" in column else MEAN


@dataclass(frozen=True)
class Traced:
    """How a number of a table leads to its runs. ``behind`` names whose runs a number of a row stands on, ``mean``
    which mean of its seeds' values it is ("": none), ``number`` is the column traced by default. ``by_seed``: each
    seed's own value, where that is not what one seed's runs alone would give."""

    behind: Callable[[Given, pd.Series, str], Labels] = compared
    mean: Callable[[pd.Series, str], str] = spread_mean
    number: str = ""
    by_seed: Callable[[Tables, pd.Series, str], Mapping[int, float]] | None = None


@dataclass(frozen=True)
class Table:
    """A table: ``name`` of its files, ``title`` and ``about`` in the report, which shows it at ``place``.

    ``compute`` gives its rows, which are written as ``name.csv`` and, once read again, go to ``page`` (``name.md``) and
    ``latex`` (``name.tex``). Without ``compute`` a study writes the rows. ``reads``: ``runs`` for the pooled runs and
    ``spectra`` for theirs, the names of rule files and of other tables, or paths from the repository's root, in which
    ``{scale}`` is replaced; a table that a scale does not have is not there to read. ``needs``: what a scale must ask
    for to have this table, a study or a rule file's entry; "": every scale has it. ``measured``: a pattern of the files
    that this study's jobs write, from which it is computed. ``texts``: its columns that are text, "" where nothing is,
    beside those that are so by name (``is_text``).
    """

    name: str
    title: str
    compute: Callable[[Given], pd.DataFrame] | None = None
    page: Callable[[pd.DataFrame, Given], str] | None = None
    latex: Callable[[pd.DataFrame, Given], str] | None = None
    about: str = ""
    reads: tuple[str, ...] = (RUNS,)
    needs: str = ""
    measured: str = ""
    texts: tuple[str, ...] = ()
    traced: Traced | None = None
    place: int = 1000

    @property
    def kinds(self) -> tuple[str, ...]:
        """The endings of its files."""
        return ("csv", *(["md"] if self.page else []), *(["tex"] if self.latex else []))
