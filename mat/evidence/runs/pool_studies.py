"""Tables that jobs measured, pooled: one version of everything, each seed of a family once."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from mat.errors import InputError
from mat.records.code import refuse_mixture
from mat.records.files import read_record
from mat.records.seal import beside, check_seal
from mat.records.studies import JOB

AGAIN = "move it and its seal away and measure it again"


def pool(files: Iterable[Path], columns: tuple[str, ...]) -> pd.DataFrame:
    """Pool measurement tables with these columns beside those that say what a row is of, in the order of the files'
    names, however they are given.

    Raises InputError for none, for one that is not as it was written, and for mixtures: of scales or code versions, of
    setups or data within a family, or a family's seed given twice.
    """
    frames = [_read(path, columns) for path in sorted(map(Path, files), key=lambda path: path.name)]
    if not frames:
        raise InputError("expected at least one table of measurements, got none; measure the families first")
    pooled = pd.concat(frames, ignore_index=True)
    jobs = pooled.drop_duplicates("job")
    one_value(jobs, "scale", "one table", "job")
    codes = zip(jobs["job"], map(json.loads, jobs["code"]), strict=True)
    refuse_mixture("measurements", dict(codes))
    for family, rows in jobs.groupby("family"):
        for column in ("setup", "data_hash"):
            one_value(rows, column, f"family {family}", "job")
        if rows["seed"].duplicated().any() or len(frames) > len(jobs):
            raise InputError(f"expected each seed of family {family} once; give one table per job")
    return pooled.drop(columns="code")


def _read(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    check_seal(beside(path), [path.name], AGAIN)
    return read_record(path, (*JOB, *columns), AGAIN)


def one_value(rows: pd.DataFrame, column: str, where: str, what: str) -> None:
    """Raise InputError unless ``rows`` have one value in ``column``. ``what``: the column that names them, "run"."""
    firsts = rows.drop_duplicates(column)
    if len(firsts) > 1:
        found = ", ".join(f"{value} ({what} {name})" for value, name in zip(firsts[column], firsts[what], strict=True))
        raise InputError(
            f"refusing to pool {what}s of different {column}: expected one in {where}, got {found}; leave out or "
            f"repeat the {what}s of the other version"
        )
