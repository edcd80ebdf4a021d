"""The runs behind tables: what is recorded of them, and whether tables and run folders still say it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from mat.errors import InputError
from mat.evidence.runs.files import is_there, relative, run_folder, sha256, short
from mat.evidence.runs.pool import read_run, specification_hash, together
from mat.evidence.runs.pooled import Tables
from mat.evidence.text import format
from mat.records.run import kept as kept_in
from mat.records.seal import SEAL

_RUN = ("run", "task", "method", "seed", "status", "spec_hash", "code_hash", "data_hash", "start_hash")
_DIGITS = 1e-8  # relative: runs.csv has ten significant digits
_TOGETHER = 250  # runs whose records are compared at a time


def record(tables: Tables) -> list[dict[str, Any]]:
    """One entry per run: what it is, its hashes, its test metrics (``tested``), and where its folder is there the
    SHA-256 of its ``files``."""
    runs = [_recorded(row) for row in tables.runs.to_dict("records")]
    for run in runs:
        folder = run_folder(tables.home, run["run"])
        if is_there(folder):
            run["files"] = {name: sha256(folder / name) for name in (*kept_in(folder), SEAL)}
    return runs


def kept(tables: Tables) -> int:
    """How many of the runs have their records here."""
    return sum(is_there(run_folder(tables.home, run)) for run in tables.runs["run"])


def check(recorded: list[dict[str, Any]], tables: Tables, root: Path) -> Iterator[str]:
    """What is not as recorded, one sentence each: in ``runs.csv``, and in the run folders that are there."""
    here = {row["run"]: row for row in tables.runs.to_dict("records")}
    names = {name: row["method"] for name, row in here.items()}
    there = []
    for run in recorded:
        name = run["run"]
        row = here.pop(name, None)
        said = {key: value for key, value in run.items() if key != "files"}
        if row is None or not _same(said, _recorded(row)):
            yield f"run {name} is recorded otherwise than runs.csv has it"
        folder = run_folder(tables.home, name)
        if row is not None and is_there(folder):
            there.append((folder, run.get("files", {}), row))
    yield from (f"run {name} is in runs.csv and not in the record" for name in here)
    for start in range(0, len(there), _TOGETHER):
        yield from _check_folders(there[start : start + _TOGETHER], tables, names, root)


def _check_folders(
    there: list[tuple[Path, dict[str, str], dict[str, Any]]], tables: Tables, names: dict[str, str], root: Path
) -> Iterator[str]:
    """The folders of runs beside the record of their files, and beside what the pooled tables say of them: of all of
    them together, which is quick, and of each where that differs."""
    rows, curves, probes = {}, {}, {}
    for folder, files, row in there:
        said, run = relative(folder, root), row["run"]
        for name, digest in files.items():
            if sha256(folder / name) != digest:
                yield f"{said}/{name} is not the file that was recorded: the run was made again since"
        try:
            again, spec, curves[run], probes[run], _ = read_run(folder, run)
        except InputError as error:
            yield str(error)
            continue
        rows[run] = again
        again["spec_hash"] = specification_hash(spec, names)
        for key in sorted(set(again) & set(row)):
            if not _same(again[key], row[key]):
                yield (
                    f"{said} has the {key} {short(again[key])}, the tables stand on {short(row[key])}: it was trained "
                    "again since, or the tables were edited"
                )
    for file, read, pooled, keys in (
        ("curves.parquet", curves, tables.curves, ["step"]),
        ("probes.parquet", probes, tables.probes, ["interval", "module"]),
    ):
        if not read:
            continue
        own = together([rows[run] for run in read], list(read.values()))
        if not _differ(own, pooled[pooled["run"].isin(read)], ["run", *keys]):
            continue
        for run, frame in read.items():
            if apart := _differ(frame, pooled[pooled["run"] == run], keys):
                yield f"{file} has other rows of {run} than {relative(run_folder(tables.home, run), root)} has: {apart}"


def _differ(own: pd.DataFrame, ours: pd.DataFrame, keys: list[str]) -> str:
    """``_apart`` of the columns that both have, by ``keys``."""
    columns = [column for column in own.columns if column in ours.columns]
    return _apart(_ordered(own[columns], keys), _ordered(ours[columns], keys))


def _ordered(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """By ``keys``; what is in order already, as most are, is not sorted again."""
    index = frame.set_index(keys).index if len(keys) > 1 else pd.Index(frame[keys[0]])
    return frame.reset_index(drop=True) if index.is_monotonic_increasing else frame.sort_values(keys, ignore_index=True)


def _apart(first: pd.DataFrame, second: pd.DataFrame) -> str:
    """In what two frames of the same columns differ; "" where they do not. Seconds are no run's result: another run of
    the same code has others."""
    if len(first) != len(second):
        return f"{len(second)} rows beside {len(first)}"
    columns = [name for name in first if not first[name].astype(second[name].dtype).equals(second[name])]
    if not columns:
        return ""
    if all(name.startswith("seconds") for name in columns):
        return "in seconds alone, all other numbers are the same"
    return format.listed(columns)


def _recorded(row: dict[str, Any]) -> dict[str, Any]:
    """What the record says of a run, read off its row of ``runs.csv``; None for what is not a number."""
    tested = {key: value for key, value in row.items() if key.startswith("test_")}
    numbers = {key: None if pd.isna(value) else float(f"{value:.10g}") for key, value in tested.items()}
    return {key: row[key] for key in _RUN} | {"tested": numbers}


def _same(first: Any, second: Any) -> bool:
    """Whether two values are equal to the digits of ``runs.csv``; nothing equals nothing."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_same(first[key], second[key]) for key in first)
    if pd.isna(first) or pd.isna(second):
        return bool(pd.isna(first) and pd.isna(second))
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (first, second))
    return math.isclose(first, second, rel_tol=_DIGITS, abs_tol=1e-12) if numbers else first == second
