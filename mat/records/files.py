"""Files of records: their names, one way to write and one to read them."""

from __future__ import annotations

import csv
import errno
import gzip
import io
import json
import math
import os
import re
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mat import regular
from mat.errors import InputError
from mat.records.columns import NEWER, is_text

RUN, CURVE, PROBES, FINAL = "run.json", "curve.csv", "probes.csv.gz", "final.json"
SPECTRA = "spectra.csv.gz"
ENDING = ".csv.gz"  # ends the names of tables that studies' jobs write
_PACKED = ".gz"
_NUMBERS = ("int64", "float64", "bool")


def missing(folder: Path, names: Sequence[str]) -> list[str]:
    """Those of ``names`` that are no file in ``folder``."""
    return [name for name in names if not (folder / name).is_file()]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A place beside ``path`` to write to, file or folder; it takes the place of ``path`` at the end, so that a reader
    or a killed process finds the old one or the new one as a whole. Makes the folders above it. Raises OSError where a
    pipe or a device is there, which would be lost."""
    if regular.is_special(path):
        raise OSError(errno.ENXIO, regular.SAID, str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield half
        if path.is_dir() and half.is_dir():  # a file takes the place of no folder: that is an OSError
            shutil.rmtree(path)
        os.replace(half, path)
    finally:
        remove(half)


def leftovers(folder: Path, start: str = ".") -> list[Path]:
    """What killed processes left half written in ``folder``, of names that begin with ``start``."""
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if path.name.startswith(start) and re.fullmatch(r"\..+\.\d+", path.name)]


def remove(path: Path) -> None:
    """Remove the file or folder ``path`` if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(content: str, path: Path) -> None:
    """Write UTF-8 with line feed endings and one newline at the end."""
    with replacing(path) as half:
        half.write_text(content.rstrip("\n") + "\n", encoding="utf-8", newline="\n")


def write_json(content: Any, path: Path, *, sort_keys: bool = False) -> None:
    """Write ``content`` indented."""
    write_text(json.dumps(content, indent=2, sort_keys=sort_keys), path)


def write_parquet(table: pd.DataFrame, path: Path) -> None:
    """Write ``table`` without its index; equal tables are equal files, however pandas holds their texts."""
    texts = [name for name, kind in table.dtypes.items() if kind == "str"]
    with replacing(path) as half:
        stored = table.astype({name: pd.StringDtype("pyarrow", na_value=math.nan) for name in texts})
        stored.to_parquet(half, index=False)


def read_json(path: Path, again: str = "repeat the run") -> dict[str, Any]:
    """A JSON object. Raises InputError, saying ``again``, where there is none."""
    try:
        content = json.loads(regular.content(path).decode())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}); was its writing interrupted? {again}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold one JSON object, got {type(content).__name__}")
    return content


def write_record(table: pd.DataFrame, path: Path) -> None:
    """Write ``table`` without its index, as CSV that ``read_record`` reads back bit for bit: floats by their shortest
    exact digits, nothing for NaN, texts in quotes; packed, the same bytes for the same table, where ``path`` ends so.

    Columns are of texts where ``is_text`` says it, else of int64, float64 or bool; anything else is a TypeError.
    """
    for name, column in table.items() if len(table) else ():
        fits = all(isinstance(one, str) for one in column) if is_text(str(name)) else column.dtype.name in _NUMBERS
        if not fits:
            raise TypeError(f"column {name!r} of {path.name} holds {column.dtype}: not what its name stands for")
    content = table.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC).encode()
    with replacing(path) as half:
        half.write_bytes(gzip.compress(content, mtime=0) if path.suffix == _PACKED else content)


def read_record(
    path: Path, columns: Sequence[str], again: str = "repeat the run", prefix: str | None = None
) -> pd.DataFrame:
    """These columns of a table, and those that begin with ``prefix``; ``NEWER`` ones are NaN where it has none. Raises
    InputError, saying ``again``, where it cannot be read or lacks some."""
    frame = read_whole(path, again)
    require(path, frame, [name for name in columns if name not in NEWER])
    more = [] if prefix is None else [name for name in frame.columns if name.startswith(prefix)]
    wanted = [*columns, *sorted(set(more) - set(columns))]
    return frame if list(frame.columns) == wanted else frame.reindex(columns=wanted)


def read_whole(path: Path, again: str = "repeat the run") -> pd.DataFrame:
    """The table that ``write_record`` wrote. Raises InputError, saying ``again``, where it cannot be read."""
    try:
        content = regular.content(path)
        content = gzip.decompress(content) if path.suffix == _PACKED else content
        names, *rows = csv.reader(io.StringIO(content.decode(), newline=""), strict=True)
        columns = zip(*rows, strict=True) if rows else ((),) * len(names)
        return pd.DataFrame({name: _typed(name, cells) for name, cells in zip(names, columns, strict=True)})
    except (OSError, ValueError, OverflowError, EOFError, zlib.error, csv.Error) as error:
        raise InputError(f"{path} is not a readable table ({' '.join(str(error).split())}); {again}") from None


def require(path: Path, found: pd.DataFrame | Mapping[str, Any], names: Sequence[str]) -> None:
    """Raise InputError unless ``found``, read from ``path``, has these columns or keys."""
    lacking = [name for name in names if name not in found]
    if lacking:
        kind = "columns" if isinstance(found, pd.DataFrame) else "keys"
        raise InputError(f"{path} lacks the {kind} {', '.join(lacking)}; was it written by this version?")


def _typed(name: str, cells: Sequence[str]) -> Any:
    """A column from its cells: texts where its name says so, else by what all cells look like. Arrays, which a frame
    takes as they are: a thousand runs have tens of thousands of columns."""
    if is_text(name) or not cells:
        return pd.array(cells, dtype="str") if cells else np.empty(0, dtype=object)
    if {"True", "False"}.issuperset(cells):
        return np.array([one == "True" for one in cells])
    try:
        return np.array(list(map(int, cells)), dtype="int64")
    except ValueError:
        return np.array([float(one or "nan") for one in cells])
