"""Data sets of the Hugging Face hub, read from a mirror: one that is given, or the one that is downloaded.

Without a mirror (`storage.mirror` says how it is laid out), files come into the cache once (`storage.download`), and
the same code reads them there. Parquet files are read by name: for a local folder the cache key of `datasets` 5.2
ignores path and content, so a file replaced in place would silently give the old data.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mat.errors import InputError
from mat.experiments.tasks.storage.cache import cached_arrays
from mat.experiments.tasks.storage.download import download
from mat.experiments.tasks.storage.mirror import (
    Origin,
    PlainFile,
    Source,
    describe,
    file_digest,
    mirror_files,
    plain_file,
)
from mat.experiments.tasks.storage.parquet import read_table, readable

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = [
    "Origin",
    "PlainFile",
    "Source",
    "cached_arrays",
    "check_columns",
    "content_key",
    "fetch",
    "hub_file",
    "load_split",
    "split_files",
]


def fetch(source: Source, data: Path | None, cache: Path) -> dict[str, Any]:
    """Make ``source`` readable without the network, and say what there is of it: `describe`, and ``from`` where.

    A mirror may hold a part of a data set, and ``complete`` says so; from the hub everything must have come.

    Raises:
        InputError: what is missing or damaged, and what to do.
    """
    place = "hub" if data is None else "mirror"
    return {"from": place, **describe(source, _root(source, data, cache))}


def split_files(origin: Origin, split: str, data: Path | None, cache: Path) -> list[Path]:
    """The Parquet files of one split, sorted: in the mirror ``data`` if given, and nothing is fetched then; else in
    the cache, downloaded and checked if they are not yet there.

    Raises:
        InputError: they are missing, or the hub could not be read.
    """
    return mirror_files(origin, split, _root(origin, data, cache))


def load_split(origin: Origin, split: str, data: Path | None, cache: Path) -> Dataset:
    """The rows of one split, in memory; from ``split_files``.

    Raises:
        InputError: a file is missing or cannot be read, or the hub could not be.
    """
    import datasets
    import pyarrow

    files = split_files(origin, split, data, cache)
    tables = [read_table(path) for path in files]
    with readable(files[-1]):  # their columns may differ
        table = pyarrow.concat_tables(tables)
    # the fingerprint serves only caches of `datasets`; unless given, the whole table is pickled for it
    return datasets.Dataset(table, fingerprint=content_key(origin, split, data)[:16])


def hub_file(repo: str, revision: str, name: str, data: Path | None, cache: Path) -> Path:
    """Path of the file ``name`` of a model's repository, from the mirror ``data`` if given, else from the hub.

    Raises:
        InputError: the mirror lacks it, or the hub could not be read.
    """
    source = PlainFile(repo, revision, name)
    return plain_file(source, _root(source, data, cache))


def _root(source: Source, data: Path | None, cache: Path) -> Path:
    return download(source, cache) if data is None else data


def content_key(origin: Origin, split: str, data: Path | None) -> str:
    """The key of a cache entry: SHA-256 of the mirror's bytes, or of the pinned hub revision and split."""
    digest = hashlib.sha256()
    if data is None:
        digest.update(f"{origin.repo} {origin.config} {origin.revision} {split}".encode())
    else:
        for path in mirror_files(origin, split, data):
            digest.update(file_digest(path))
    return digest.hexdigest()


def check_columns(
    rows: Dataset, origin: Origin, split: str, columns: tuple[str, ...], text: tuple[str, ...] = ()
) -> None:
    """Refuse a split without rows, without one of ``columns``, or where one of ``text`` is not text in every row.

    Raises:
        InputError: says which columns were expected and which came.
    """
    wanted = tuple(dict.fromkeys((*columns, *text)))
    check_names(rows.column_names, len(rows), origin, split, wanted)
    for name in text:
        column = rows.data.column(name)
        # two ways of storing the same thing: offsets of 32 and of 64 bits
        if str(column.type) not in ("string", "large_string") or column.null_count:
            got = f"{column.null_count} rows without any" if column.null_count else f"{column.type}"
            raise InputError(
                f"Expected text in column '{name}' of split '{split}' of {origin.repo} ({origin.config}), got "
                f"{got}; check the files under the setting 'data' (MAT_DATA)."
            )


def check_names(names: list[str], rows: int, origin: Origin, split: str, columns: tuple[str, ...]) -> None:
    """Refuse no ``rows``, or ``names`` of columns without one of ``columns``.

    Raises:
        InputError: says which columns were expected and which came.
    """
    if rows and set(columns) <= set(names):
        return
    raise InputError(
        f"Expected rows with columns {', '.join(columns)} in split '{split}' of {origin.repo} "
        f"({origin.config}), got {rows} rows with {', '.join(names) or 'no columns'}; "
        "check the files under the setting 'data' (MAT_DATA)."
    )
