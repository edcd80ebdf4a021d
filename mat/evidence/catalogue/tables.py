"""Every table: found, read, written. A table is a file with a ``TABLE`` in one of ``ROOMS``; it is listed nowhere."""

from __future__ import annotations

import csv
import importlib
import pkgutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from mat import regular
from mat.errors import InputError
from mat.evidence.runs import pooled
from mat.evidence.runs.pooled import Tables
from mat.evidence.tables.record import RUNS, SPECTRA, Given, RuleFile, Table, is_text
from mat.evidence.text import format
from mat.records.files import write_text

ROOMS = ("mat.evidence.tables", "mat.evidence.claims", "mat.evidence.sensitivity")
POOLED = tuple(
    Table(name, title, about=about, reads=(), place=2000)
    for name, title, about in (
        ("runs", "Every run", "One row per run: seed, outcome, test metrics, seconds, hashes, versions."),
        ("curves", "Curves of every run", "One row per evaluation: losses, metrics, every ledger, seconds."),
        ("probes", "Probes of every run", "One row per probe and module: spectrum, threshold, active, frozen."),
        ("spectra", "Spectra of every run", "Eigenvalues of the integral NTK and of each kind's own, λ_max by layer."),
    )
)
_ENDINGS = (".md", ".csv", ".tex", ".parquet")


@cache
def _records() -> tuple[dict[str, Table], dict[str, RuleFile], dict[str, str]]:
    tables, files, modules = {}, {}, {}
    for room in ROOMS:
        for module in map(importlib.import_module, _modules_in(room)):
            for record, kind in ((getattr(module, "TABLE", None), tables), (getattr(module, "FILE", None), files)):
                if record is not None:
                    kind[record.name], modules[record.name] = record, module.__name__
    ordered = sorted(tables.values(), key=lambda table: (table.place, table.name))
    return {table.name: table for table in ordered}, files, modules


def tables() -> dict[str, Table]:
    """All tables by name, in the report's order."""
    return _records()[0]


def rule_files() -> dict[str, RuleFile]:
    """All files that fix rules, by name."""
    return _records()[1]


def modules_of(table: Table) -> list[str]:
    """The modules whose code gives a table, with what they import: its own and those that read its rule files."""
    modules, files = _records()[2], [rule_files()[name] for name in table.reads if name in rule_files()]
    found = [module for file in files if file.found for module in _modules_in(file.found)]
    return [*(modules[name] for name in (table.name, *(file.name for file in files))), *found]


def _modules_in(package: str) -> list[str]:
    path = importlib.import_module(package).__path__
    return sorted(f"{package}.{found.name}" for found in pkgutil.iter_modules(path))


def find(name: str) -> Table:
    """The table. Raises InputError for a name that none has."""
    if name not in tables():
        raise InputError(f"unknown table {name!r}; expected one of {', '.join(tables())}")
    return tables()[name]


def of_scale(asked: Collection[str]) -> list[Table]:
    """The tables of a scale that asks for these studies and rules."""
    return [table for table in tables().values() if not table.needs or table.needs in asked]


def sources(table: Table, scale: str) -> list[str]:
    """What a table is made from: files of its own folder by name, others by path or pattern from the root."""
    found: list[str] = []
    for name in table.reads:
        if name == RUNS:
            found += pooled.FILES
        elif name == SPECTRA:
            found.append(pooled.SPECTRA)
        elif name in rule_files():
            found.append(rule_files()[name].path)
        else:
            found.append(name.format(scale=scale) if "/" in name else f"{name}.csv")
    return found + ([table.measured.format(scale=scale)] if table.measured else [])


def read(path: Path, texts: Collection[str] = ()) -> pd.DataFrame:
    """A table as it was written; text are its columns that are so by name, and ``texts``. Raises InputError for a file
    that is none: cut within a row, emptied, not text, or with a name of a column twice or none."""
    try:
        header, *rows = csv.reader(StringIO(regular.content(path).decode(), newline=""), strict=True)
        if "" in header or len(set(header)) < len(header):
            raise ValueError("a column has no name, or one that another has")
        if wrong := [row for row in rows if len(row) != len(header)]:
            raise ValueError(f"expected {len(header)} values in a row, got {len(wrong[0])}")
        kinds = {name: str for name in header if is_text(name) or name in texts}
        empty = {name: [""] for name in header if name not in kinds}
        return pd.read_csv(path, dtype=kinds, keep_default_na=False, na_values=empty)
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path} is not a readable table ({' '.join(str(error).split())}); make it again") from None


def load(folder: Path, names: Iterable[str] | None = None) -> Tables:
    """The pooled runs of ``folder``, and of the tables made from them or beside them (or of those ``names``) the ones
    that are there. Raises InputError when there are no pooled runs."""
    return replace(pooled.load(folder), made=load_made(folder, tables() if names is None else names))


def load_made(folder: Path, names: Iterable[str]) -> dict[str, pd.DataFrame]:
    """The tables of these names that are in ``folder`` and have a row: a selection of a scale may leave nothing to
    compare. Names of anything else are passed over."""
    found = {}
    for table in [tables()[name] for name in names if name in tables()]:
        path = folder / f"{table.name}.csv"
        if path.is_file() and path.read_text(encoding="utf-8").strip():
            found[table.name] = read(path, table.texts)
    return {name: frame for name, frame in found.items() if len(frame)}


def given(table: Table, folder: Path, measured: Iterable[Path] = (), **files: Path) -> Given:
    """What the table is computed from, read. ``measured``: what the jobs of its study wrote; ``files``: rule files by
    name, by default where their records say. Raises InputError for what cannot be used."""
    unknown = sorted(set(files) - set(rule_files()))
    if unknown:
        raise InputError(f"unknown rule file {unknown[0]!r}; expected one of {', '.join(rule_files())}")
    paths = {name: files.get(name, Path(file.path)) for name, file in rule_files().items()}
    rules = {name: rule_files()[name].read(paths[name]) for name in table.reads if name in rule_files()}
    made = load_made(folder, [name for name in table.reads if name not in rule_files()])
    pool = replace(pooled.load(folder), made=made) if RUNS in table.reads else None
    return Given(pool, made, rules, tuple(map(Path, measured)))


def write(name: str, folder: Path, measured: Iterable[Path] = (), **files: Path) -> None:
    """Compute a table and write its files into ``folder``; ``measured`` and ``files`` as for ``given``."""
    table = find(name)
    if table.compute is None:
        raise InputError(f"the table {name} is written by the study {table.needs}; run that")
    sources_of = given(table, folder, measured, **files)
    store(name, table.compute(sources_of), folder, sources_of)


def store(name: str, frame: pd.DataFrame, folder: Path, sources_of: Given | None = None) -> None:
    """Write a table's rows, and its pages from the rows as they were written, so that they cannot differ."""
    format.csv(frame, folder / f"{name}.csv")
    write_pages(find(name), folder, sources_of or given(find(name), folder))


def write_pages(table: Table, folder: Path, sources_of: Given) -> None:
    """Write a table's pages from its rows in ``folder``."""
    rows = read(folder / f"{table.name}.csv", table.texts)
    for make, ending in ((table.page, "md"), (table.latex, "tex")):
        if make is not None:
            write_text(make(rows, sources_of), folder / f"{table.name}.{ending}")


@dataclass(frozen=True)
class Found:
    """A table that is there, or a figure: what is known of it, and its files by ending (".csv")."""

    item: Any
    files: Mapping[str, Path]


def there(folder: Path) -> Iterator[Found]:
    """The tables in ``folder`` in the report's order; one without a record has its name as title, so that none is
    lost."""
    known = tables() | {table.name: table for table in POOLED}
    files = by_stem(folder, _ENDINGS)
    for name in [*(name for name in known if name in files), *(name for name in files if name not in known)]:
        yield Found(known.get(name) or Table(name, titled(name), reads=()), files[name])


def by_stem(folder: Path, endings: Collection[str]) -> dict[str, dict[str, Path]]:
    """The files of ``folder`` with these endings by stem, then by ending."""
    files: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.glob("*")):
        if path.suffix in endings and not path.name.startswith(".") and path.is_file():
            files.setdefault(path.stem, {})[path.suffix] = path
    return files


def titled(name: str) -> str:
    """A title for what has none."""
    return name.replace("_", " ").capitalize()
