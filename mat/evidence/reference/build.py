"""Every table, figure and page of a scale, made from the records of its runs, or from what was pooled of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import redirect_stdout
from graphlib import TopologicalSorter
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from mat.evidence.catalogue import figures
from mat.evidence.catalogue import tables as catalogue
from mat.evidence.reference.content import same
from mat.evidence.reference.places import PAGES, RESULTS, Place
from mat.evidence.report import erratum, files
from mat.evidence.runs import pool, pooled
from mat.evidence.runs.files import run_folder
from mat.evidence.tables.record import Table
from mat.evidence.trace import provenance
from mat.records import archive
from mat.records.seal import SEAL


class Steps(NamedTuple):
    """What evidence does not do itself. ``draw(script, tables, out)`` draws a figure; ``ceiling(home, tables, labels)``
    computes the table of that name for these tasks, from what was prepared for them in ``home``, and says whether it
    could."""

    draw: Callable[[Path, Path, Path], None]
    ceiling: Callable[[Path, Path, list[str]], bool]


def build(like: Place, made: Place, records: Path, steps: Steps) -> None:
    """Make in ``made``, a place of a root of its own, what is there in ``like``: from the archive ``records``, or from
    the pooled tables and the studies' tables of ``like`` where no records were kept.

    A file with the same content as in ``like`` gets its bytes. Raises InputError for records that cannot be used.
    """
    _copy_sources(like.root, made.root)
    made.tables.mkdir(parents=True)
    if (like.results / erratum.NAME).is_file():
        shutil.copy(like.results / erratum.NAME, made.results)
    if records.is_file():
        _pool(like, made, records)
    else:
        for name in (*pooled.there(like.tables), SEAL):
            shutil.copy(like.tables / name, made.tables)
    for table in _in_order([found.item for found in catalogue.there(like.tables)]):
        _write(table, like, made, steps)
    for found in figures.there(like.figures, made.root / provenance.SCRIPTS):
        with redirect_stdout(StringIO()):
            steps.draw(made.root / provenance.SCRIPTS / f"{found.item.name}.py", made.tables, made.figures)
    for path in made.files():
        if same(path, kept := made.other(path, like)):
            shutil.copy(kept, path)
    if (like.tables / provenance.NAME).is_file():
        _write_pages(like, made)


def _copy_sources(root: Path, to: Path) -> None:
    """What fixes rules and what draws: what a record of the files names beside them."""
    rules = [root / file.path for file in catalogue.rule_files().values()]
    scripts = (root / provenance.SCRIPTS).glob("*.*")
    for path in (*rules, *scripts):
        place = to / path.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)


def _pool(like: Place, made: Place, records: Path) -> None:
    results = pooled.home(made.tables).parent
    with archive.unpacked(records, made.root) as items:
        for item in items:
            archive.place(item, results)
    runs = pooled.load(like.tables).runs
    folders = [run_folder(pooled.home(made.tables), name) for name in runs["run"]]
    pooled.save(pool.collect(folders, runs["selection"].iloc[0]), made.tables)


def _in_order(wanted: list[Table]) -> list[Table]:
    """The known tables among them, each after those that it reads."""
    known = {table.name: table for table in wanted if table.name in catalogue.tables()}
    reads = {name: sorted({*table.reads} & set(known) - set(catalogue.rule_files())) for name, table in known.items()}
    return [known[name] for name in TopologicalSorter(reads).static_order()]


def _write(table: Table, like: Place, made: Place, steps: Steps) -> None:
    rules = {name: made.root / file.path for name, file in catalogue.rule_files().items()}
    measured = _measured(table, made) if table.measured else []
    if table.compute and (measured or not table.measured):
        catalogue.write(table.name, made.tables, measured, **rules)
        return
    if not (table.compute or (made.tables / f"{table.name}.csv").is_file()):
        parts = pd.read_csv(like.tables / "ceiling_parts.csv")
        labels = parts.loc[parts["source"] == "task", "label"]
        if steps.ceiling(pooled.home(made.tables), made.tables, sorted(set(labels))):
            return
    path = made.tables / f"{table.name}.csv"
    if not path.is_file():  # its study's records were not kept
        shutil.copy(made.other(path, like), path)
    catalogue.write_pages(table, made.tables, catalogue.given(table, made.tables, **rules))


def _measured(table: Table, made: Place) -> list[Path]:
    home = pooled.home(made.tables)
    pattern = table.measured.format(scale=home.relative_to((made.root / RESULTS).resolve()).as_posix())
    return sorted(made.root.glob(pattern))


def _write_pages(like: Place, made: Place) -> None:
    root = like.root
    claims, register = (made.root / catalogue.rule_files()[name].path for name in ("claims", "ambiguities"))
    files.provenance(made.tables, made.figures, made.root, like.tables)
    if (like.results / PAGES[0]).is_file():
        page, methods = root / "workflows/report", root / "mat/methods"
        files.report(made.tables, made.figures, claims, methods, page, made.results, made.root)
        files.reproducibility(made.tables, claims, register, made.results)
