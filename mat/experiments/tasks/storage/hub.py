"""Data sets of the Hugging Face hub, read from a mirror: one that is given, or the one that is downloaded.

Without a mirror (`storage.mirror` says how it is laid out), files come into the cache once, at a pinned commit, and are
checked; the same code reads them there. Parquet files are read by name: for a local folder the cache key of `datasets`
5.2 ignores path and content, so a file replaced in place would silently give the old data.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mat.errors import InputError
from mat.experiments.tasks.storage.cache import cached
from mat.experiments.tasks.storage.mirror import Origin, PlainFile, Source, describe, mirror_files, opened, plain_file
from mat.records.files import remove
from mat.records.seal import sha256

if TYPE_CHECKING:
    from datasets import Dataset


def fetch(source: Source, data: Path | None, cache: Path) -> dict[str, Any]:
    """Make ``source`` readable without the network, and say what there is of it: `describe`, and ``from`` where.

    A mirror may hold a part of a data set, and ``complete`` says so; from the hub everything must have come. Raises
    InputError: what is missing or damaged, and what to do.
    """
    place = "hub" if data is None else "mirror"
    return {"from": place, **describe(source, _root(source, data, cache))}


def split_files(origin: Origin, split: str, data: Path | None, cache: Path) -> list[Path]:
    """The Parquet files of one split, sorted: in the mirror ``data`` if given, and nothing is fetched then; else in
    the cache, downloaded and checked if they are not yet there.

    Raises InputError: they are missing, or the hub could not be read.
    """
    return mirror_files(origin, split, _root(origin, data, cache))


def load_split(origin: Origin, split: str, data: Path | None, cache: Path) -> Dataset:
    """The rows of one split, in memory; from ``split_files``.

    Raises InputError: a file is missing or cannot be read, or the hub could not be.
    """
    import datasets
    import pyarrow

    table = None
    for path in split_files(origin, split, data, cache):
        with opened(path) as file:  # its columns may differ from those of the file before
            table = file.read() if table is None else pyarrow.concat_tables([table, file.read()])
    # the fingerprint serves only caches of `datasets`; unless given, the whole table is pickled for it
    return datasets.Dataset(table, fingerprint=content_key(origin, split, data))


def hub_file(source: PlainFile, data: Path | None, cache: Path) -> Path:
    """Path of a single file, in the mirror ``data`` if given, else from the hub.

    Raises InputError: the mirror lacks it, or the hub could not be read.
    """
    return plain_file(source, _root(source, data, cache))


def content_key(origin: Origin, split: str, data: Path | None) -> str:
    """What a cache entry's name has: the start of the SHA-256 of the mirror's bytes, or of the pinned hub revision and
    split."""
    digest = hashlib.sha256()
    if data is None:
        digest.update(f"{origin.repo} {origin.part} {origin.revision} {split}".encode())
    else:
        for path in mirror_files(origin, split, data):
            digest.update(bytes.fromhex(sha256(path)))
    return digest.hexdigest()[:16]


def check_text(rows: Dataset, origin: Origin, split: str, name: str) -> None:
    """Refuse a split without rows, without the column ``name``, or where that is not text in every row.

    Raises InputError: says what was expected and what came.
    """
    check_names(rows.column_names, len(rows), origin, split, (name,))
    column = rows.data.column(name)
    # two ways of storing the same thing: offsets of 32 and of 64 bits
    if str(column.type) not in ("string", "large_string") or column.null_count:
        got = f"{column.null_count} rows without any" if column.null_count else f"{column.type}"
        raise InputError(
            f"Expected text in column '{name}' of split '{split}' of {origin.repo} ({origin.part}), got {got}; check "
            "the files under the setting 'data' (MAT_DATA)."
        )


def check_names(names: list[str], rows: int, origin: Origin, split: str, columns: tuple[str, ...]) -> None:
    """Refuse no ``rows``, or ``names`` of columns without one of ``columns``.

    Raises InputError: says which columns were expected and which came.
    """
    if not rows or not set(columns) <= set(names):
        raise InputError(
            f"Expected rows with columns {', '.join(columns)} in split '{split}' of {origin.repo} ({origin.part}), got "
            f"{rows} rows with {', '.join(names) or 'no columns'}; check the files under the setting 'data' (MAT_DATA)."
        )


def _root(source: Source, data: Path | None, cache: Path) -> Path:
    """The mirror ``data``, or the one in ``cache`` when ``source`` has been downloaded to it.

    What is complete is not asked for again. An interrupted download goes on where it was: whole files stay.
    """
    if data is not None:
        return data
    root = cache / "hub" / source.revision
    name = f"{source.repo} {source.part}".replace("/", "--").replace(" ", "--")

    def make(partial: Path) -> None:
        _ask(source, root / source.repo)
        partial.write_text(json.dumps(_checked(source, root)))

    def read(mark: Path) -> None:
        for file in json.loads(mark.read_text())["files"]:
            if sha256(root / file["name"]) != file["sha256"]:
                raise ValueError(f"{file['name']} is not what was downloaded")

    cached(root / f"{name}.json", make, read)
    return root


def _ask(source: Source, folder: Path) -> None:
    """Download what of ``source`` is not yet in ``folder``, the repository's."""
    import huggingface_hub

    try:
        huggingface_hub.snapshot_download(
            source.repo,
            repo_type=source.repo_type,
            revision=source.revision,
            allow_patterns=[source.pattern],
            local_dir=folder,
        )
    except Exception as error:  # of the network, the server or the client: the advice is the same
        raise InputError(
            f"Expected to download {source.part} of {source.repo} at revision {source.revision[:12]} from the "
            f"Hugging Face hub, got {type(error).__name__}: {' '.join(str(error).split())}; check the connection "
            "and ask again (whole files stay), or give the root of a mirror in hub layout in the setting "
            "'data' (MAT_DATA)."
        ) from error


def _checked(source: Source, root: Path) -> dict[str, Any]:
    """`describe` of what was downloaded; what is not whole is removed, so that the next try starts anew."""
    try:
        found = describe(source, root)
        if found["complete"] is False:
            raise InputError(
                f"Expected {found['official_rows']} rows in {source.part} of {source.repo} at revision "
                f"{source.revision[:12]}, got {found['rows']}."
            )
    except InputError as error:
        for path in (root / source.repo).glob(source.pattern):
            remove(path)
        raise InputError(
            f"{error} This was downloaded from the Hugging Face hub and has been removed: ask again, or give the "
            "root of a mirror in the setting 'data' (MAT_DATA)."
        ) from error
    return found
