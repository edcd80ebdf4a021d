"""Reading a split of a Hugging Face data set from the hub or from a mirror, and caching what was made.

A mirror has the hub's layout: ``<root>/<owner>/<name>/<config>/<split>-*.parquet``. It is read with explicit
``data_files`` and a cache directory named by the files' content: for a local folder the cache key of
`datasets` 5.2 ignores path and content, so a file replaced in place would silently give the old data.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mat.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Origin:
    """A data set on the hub: repository, configuration and the pinned commit; ``rows`` that each split has there."""

    repo: str
    config: str
    revision: str
    rows: Mapping[str, int] = field(default_factory=dict)


def load_split(origin: Origin, split: str, data: Path | None, cache: Path) -> Dataset:
    """The rows of one split, from the mirror ``data`` if given (nothing is fetched then), else from the hub.

    Raises:
        InputError: the mirror lacks the files, or the hub could not be read.
    """
    import datasets

    datasets.disable_progress_bars()
    if data is not None:
        files = mirror_files(origin, split, data)
        folder = cache / "datasets" / content_key(origin, split, data)[:16]
        return datasets.load_dataset(
            "parquet",
            data_files={split: [str(path) for path in files]},
            split=split,
            cache_dir=str(folder),
        )
    try:
        return datasets.load_dataset(
            origin.repo,
            origin.config,
            split=split,
            revision=origin.revision,
            cache_dir=str(cache / "hub"),
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"Expected to read split '{split}' of {origin.repo} ({origin.config}) at revision "
            f"{origin.revision[:12]} from the Hugging Face hub, got {type(error).__name__}: {error}; check "
            "the connection, or give the root of a mirror in hub layout in the setting 'data' (MAT_DATA)."
        ) from error


def mirror_files(origin: Origin, split: str, data: Path) -> list[Path]:
    """The Parquet files of a split in the mirror ``data``, sorted.

    Raises:
        InputError: a folder or the files are not there; names the path that was looked for.
    """
    folder = data / origin.repo / origin.config
    for path in (data, folder):
        if not path.is_dir():
            raise InputError(
                f"Expected a folder at {path}, found none; the setting 'data' (MAT_DATA) must be the root of "
                f"a mirror in hub layout, or be left out to read {origin.repo} from the Hugging Face hub."
            )
    files = sorted(folder.glob(f"{split}-*.parquet"))
    if not files:
        raise InputError(
            f"Expected files {folder}/{split}-*.parquet, found none; complete the mirror that the setting "
            "'data' (MAT_DATA) names, or leave the setting out to read from the Hugging Face hub."
        )
    return files


def content_key(origin: Origin, split: str, data: Path | None) -> str:
    """The key of a cache entry: SHA-256 of the mirror's bytes, or of the pinned hub revision and split."""
    digest = hashlib.sha256()
    if data is None:
        digest.update(f"{origin.repo} {origin.config} {origin.revision} {split}".encode())
    else:
        for path in mirror_files(origin, split, data):
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def check_columns(rows: Dataset, origin: Origin, split: str, columns: tuple[str, ...]) -> None:
    """Refuse a split without rows or without one of ``columns``.

    Raises:
        InputError: says which columns were expected and which came.
    """
    missing = [name for name in columns if name not in rows.column_names]
    if missing or not len(rows):
        raise InputError(
            f"Expected rows with columns {', '.join(columns)} in split '{split}' of {origin.repo} "
            f"({origin.config}), got {len(rows)} rows with {', '.join(rows.column_names) or 'no columns'}; "
            "check the files under the setting 'data' (MAT_DATA)."
        )


def cached_arrays(path: Path, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of the .npz file ``path``, made by ``make`` and stored there if it does not exist.

    The file appears at once or not at all (written beside, then renamed), so several processes may ask
    together; the name must say all that the arrays depend on.
    """
    if not path.exists():
        arrays = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=path.parent, suffix=".partial")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, **arrays)
            Path(partial).replace(path)
        finally:
            Path(partial).unlink(missing_ok=True)
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}
