"""A mirror of hub repositories: which files of it hold a data set, and what they are.

Its layout is the hub's: ``<root>/<owner>/<name>/<config>/<split>-*.parquet``, and ``<root>/<owner>/<model>/<name>`` for
single files of a model's repository.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mat.errors import InputError
from mat.records.seal import sha256
from mat.regular import check_regular

if TYPE_CHECKING:
    from pyarrow import RecordBatch
    from pyarrow.parquet import ParquetFile


@dataclass(frozen=True)
class Origin:
    """A data set on the hub: repository, its configuration (a folder, ``part``), and the pinned commit; ``rows`` that
    each split has there."""

    repo: str
    part: str
    revision: str
    rows: Mapping[str, int] = field(default_factory=dict)

    repo_type = "dataset"

    @property
    def pattern(self) -> str:
        """What to download of the repository."""
        return f"{self.part}/*"


@dataclass(frozen=True)
class PlainFile:
    """One file of a model's repository on the hub, ``part``, at the pinned commit."""

    repo: str
    part: str
    revision: str

    repo_type = "model"

    @property
    def pattern(self) -> str:
        """What to download of the repository."""
        return self.part


Source = Origin | PlainFile


def mirror_files(origin: Origin, split: str, root: Path) -> list[Path]:
    """The Parquet files of a split in the mirror ``root``, sorted.

    Raises InputError: a folder or the files are not there; names the path that was looked for.
    """
    folder = root / origin.repo / origin.part
    for path in (root, folder):
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
    promised = [int(found[1]) for path in files if (found := re.search(r"-of-(\d+)", path.name))]
    if any(count != len(promised) for count in promised):
        raise InputError(
            f"Expected {promised[0]} files {folder}/{split}-*.parquet, as their names say, got {len(promised)}; "
            "complete the mirror that the setting 'data' (MAT_DATA) names."
        )
    return files


def plain_file(source: PlainFile, root: Path) -> Path:
    """The path of a single file in the mirror ``root``.

    Raises InputError: it is not there; names the path that was looked for.
    """
    path = root / source.repo / source.part
    if not path.is_file():
        raise InputError(
            f"Expected a file at {path}, found none; complete the mirror that the setting 'data' (MAT_DATA) "
            f"names, or leave the setting out to read {source.repo} from the Hugging Face hub."
        )
    return path


def describe(source: Source, root: Path) -> dict[str, Any]:
    """What the mirror ``root`` holds of ``source``: per file name, bytes, SHA-256 and rows, each read to its end; rows
    found and official per split, and whether these are the same (None: no official counts are known).

    Raises InputError: a split or file is missing, or cannot be read.
    """
    record = {"repo": source.repo, "part": source.part, "revision": source.revision}
    if isinstance(source, PlainFile):
        return {**record, "files": [_file(plain_file(source, root), root)], "complete": True}
    found, files = {}, []
    there = (root / source.repo / source.part).glob("*-*.parquet")
    for split in source.rows or sorted({path.name.split("-")[0] for path in there}):
        found[split] = 0
        for path in mirror_files(source, split, root):
            rows = sum(len(batch) for batch in read_batches(path))
            found[split] += rows
            files.append(_file(path, root) | {"rows": rows})
    official = dict(source.rows)
    complete = found == official if official else None
    return {**record, "files": files, "rows": found, "official_rows": official, "complete": complete}


def _file(path: Path, root: Path) -> dict[str, Any]:
    name = path.relative_to(root).as_posix()
    return {"name": name, "bytes": path.stat().st_size, "sha256": sha256(path)}


@contextmanager
def opened(path: Path) -> Iterator[ParquetFile]:
    """A Parquet file; what pyarrow complains of meanwhile is one InputError that names it."""
    from pyarrow import ArrowException, parquet

    try:
        check_regular(path)
        with parquet.ParquetFile(path) as file:
            yield file
    except (ArrowException, OSError, ValueError) as error:
        raise InputError(
            f"Expected a complete Parquet file at {path}, got {type(error).__name__}: "
            f"{' '.join(str(error).split())}; replace it by a whole one."
        ) from error


def read_batches(path: Path, columns: list[str] | None = None) -> Iterator[RecordBatch]:
    """The rows of a Parquet file in order, 1024 at a time, so that a large one needs little memory."""
    with opened(path) as file:
        yield from file.iter_batches(1024, columns=columns)
