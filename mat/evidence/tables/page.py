"""A table of its own as CSV, Markdown and LaTeX: one section per part, each saying what it stands on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from mat.evidence.runs.pooled import Tables
from mat.evidence.stats.intervals import CONFIDENCE, Interval
from mat.evidence.text import format
from mat.records.files import write_text

EXECUTED = "executed ledger, 1 MAC = 2 FLOP, charged probes included"


@dataclass(frozen=True)
class Section:
    """One table: its title, what it stands on (n, unit, ledger), and its text cells; no rows: ``about`` alone."""

    title: str
    about: str
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


@dataclass(frozen=True)
class Page:
    """``name`` is the files' stem."""

    name: str
    title: str
    about: str
    sections: Sequence[Section]
    notes: Sequence[str] = field(default_factory=tuple)


def markdown(page: Page, tables: Tables) -> str:
    """The whole page."""
    parts = [f"# {page.title} Scale {tables.scope}", f"Made by `{tables.command}`. {page.about}"]
    for section in page.sections:
        parts += [f"## {section.title}", section.about]
        parts += [format.markdown_table(section.header, section.rows)] if section.rows else []
    notes = ["## How to read it", "\n".join(f"- {note}" for note in page.notes)] if page.notes else []
    return "\n\n".join([*parts, *notes])


def latex(page: Page, tables: Tables) -> str:
    """One ``table*`` per section that has rows."""
    blocks = ["% Needs the packages booktabs and graphicx.", f"% Made by: {tables.command}"]
    for section in page.sections:
        if section.rows:
            about = f"{page.title} {section.title}. {section.about} Scale {tables.scope}. Made by: {tables.command}"
            label = f"tab:{tables.scale}-{page.name}-{section.title.replace(' ', '-')}"
            blocks.append(format.latex_table(section.header, section.rows, about, label))
    return "\n\n".join(blocks)


def save(frame: pd.DataFrame, page: Page, tables: Tables, folder: Path) -> None:
    """``NAME.csv``, ``NAME.md`` and ``NAME.tex`` into ``folder``."""
    format.csv(frame, folder / f"{page.name}.csv")
    write_text(markdown(page, tables), folder / f"{page.name}.md")
    write_text(latex(page, tables), folder / f"{page.name}.tex")


def read(row: pd.Series, name: str, n: str = "n_finished") -> Interval:
    """The interval that ``results.spread_out`` put into a row's columns."""
    return Interval(row[f"{name}_mean"], row[f"{name}_low"], row[f"{name}_high"], row[n])


def stands_on(rows: pd.DataFrame, unit: str = "") -> str:
    """One sentence: interval, n, unit and ledger of a task's rows."""
    least, most = rows["n_finished"].min(), rows["n_finished"].max()
    n = f"n = {most}" if least == most else f"n = {least} to {most}"
    compute = f"; compute in {unit}, {EXECUTED}" if unit else ""
    return f"Mean [{100 * CONFIDENCE:.0f} % t interval] over {n} finished seeds{compute}."


def count(row: pd.Series) -> str:
    """Finished runs, and diverged ones."""
    return (
        f"{row['n_finished']} (+{row['n_diverged']} diverged)"
        if row["n_diverged"]
        else str(row["n_finished"])
    )
