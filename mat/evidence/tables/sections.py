"""A page of one section per part, each saying what it stands on, as Markdown and as LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pandas as pd

from mat.evidence.runs.pooled import Tables
from mat.evidence.tables.record import Given
from mat.evidence.text import format, words


@dataclass(frozen=True)
class Section:
    """One table: its title, which may be a task, what it stands on (n, unit, ledger), and its text cells; no rows:
    ``about`` alone."""

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


def by_task(frame: pd.DataFrame, section: Callable[[str, pd.DataFrame], Section], nothing: str) -> list[Section]:
    """A ``section`` of each task and its rows; without a row one that says ``nothing``."""
    found = [section(task, rows) for task, rows in frame.groupby("task", sort=False)]
    return found or [Section("Not tested", nothing)]


def markdown(page: Page, tables: Tables) -> str:
    """The whole page."""
    parts = [f"# {page.title} Scale {tables.scope}", f"Made by `{tables.command}`. {page.about}"]
    for section in page.sections:
        parts += [f"## {words.heading(section.title)}", section.about]
        parts += [format.markdown_table(section.header, section.rows)] if section.rows else []
    notes = [format.how_to_read(page.notes)] if page.notes else []
    return "\n\n".join([*parts, *notes])


def latex(page: Page, tables: Tables) -> str:
    """One ``table*`` per section that has rows."""
    blocks = ["% Needs the packages booktabs and graphicx.", f"% Made by: {tables.command}"]
    for section in page.sections:
        if section.rows:
            titled = f"{page.title} {words.task(section.title)}. {section.about} Scale {tables.scope}."
            label = f"tab:{tables.scale}-{page.name}-{section.title.replace(' ', '-')}"
            about = f"{titled} Made by: {tables.command}"
            blocks.append(format.latex_table(section.header, section.rows, about, label))
    return "\n\n".join(blocks)


def both(make: Callable[[pd.DataFrame, Given], Page]) -> dict[str, Callable[[pd.DataFrame, Given], str]]:
    """``page`` and ``latex`` of a record whose page ``make`` gives."""
    return {
        "page": lambda frame, given: markdown(make(frame, given), given.tables),
        "latex": lambda frame, given: latex(make(frame, given), given.tables),
    }
