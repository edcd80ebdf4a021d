"""A mirror of hub repositories: which files of it hold a data set, and what they are.

Its layout is the hub's: ``<root>/<owner>/<name>/<config>/<split>-*.parquet``, and ``<root>/<owner>/<model>/<name>`` for
single files of a model's repository.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mat.errors import InputError
from mat.experiments.tasks.storage.parquet import read_batches


@dataclass(frozen=True)
class Origin:
    """A data set on the hub: repository, configuration and the pinned commit; ``rows`` that each split has there."""

    repo: str
    config: str
    revision: str
    rows: Mapping[str, int] = field(default_factory=dict)

    repo_type = "dataset"

    @property
    def part(self) -> str:
        """The configuration: the folder of the repository that is read."""
        return self.config

    @property
    def pattern(self) -> str:
        """What to download of the repository."""
        return f"{self.config}/*"


@dataclass(frozen=True)
class PlainFile:
    """One file of a model's repository on the hub, at the pinned commit."""

    repo: str
    revision: str
    name: str

    repo_type = "model"

    @property
    def part(self) -> str:
        """The file's name."""
        return self.name

    @property
    def pattern(self) -> str:
        """What to download of the repository."""
        return self.name


Source = Origin | PlainFile


def mirror_files(origin: Origin, split: str, root: Path) -> list[Path]:
    """The Parquet files of a split in the mirror ``root``, sorted.

    Raises:
        InputError: a folder or the files are not there; names the path that was looked for.
    """
    folder = root / origin.repo / origin.config
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

    Raises:
        InputError: it is not there; names the path that was looked for.
    """
    path = root / source.repo / source.name
    if not path.is_file():
        raise InputError(
            f"Expected a file at {path}, found none; complete the mirror that the setting 'data' (MAT_DATA) "
            f"names, or leave the setting out to read {source.repo} from the Hugging Face hub."
        )
    return path


def describe(source: Source, root: Path) -> dict[str, Any]:
    """What the mirror ``root`` holds of ``source``: per file name, bytes, SHA-256 and rows, each read to its end; rows
    found and official per split, and whether these are the same (None: no official counts are known).

    Raises:
        InputError: a split or file is missing, or cannot be read.
    """
    record = {"repo": source.repo, "part": source.part, "revision": source.revision}
    if isinstance(source, PlainFile):
        return {**record, "files": [_file(plain_file(source, root), root)], "complete": True}
    found, files = {}, []
    for split in source.rows or _splits(source, root):
        found[split] = 0
        for path in mirror_files(source, split, root):
            rows = sum(len(batch) for batch in read_batches(path))
            found[split] += rows
            files.append(_file(path, root) | {"rows": rows})
    official = dict(source.rows)
    complete = found == official if official else None
    return {**record, "files": files, "rows": found, "official_rows": official, "complete": complete}


def _splits(origin: Origin, root: Path) -> list[str]:
    folder = root / origin.repo / origin.config
    return sorted({path.name.split("-")[0] for path in folder.glob("*-*.parquet")})


def _file(path: Path, root: Path) -> dict[str, Any]:
    name = path.relative_to(root).as_posix()
    return {"name": name, "bytes": path.stat().st_size, "sha256": file_digest(path).hex()}


def file_digest(path: Path) -> bytes:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
