"""Files by content and by place: what a record and a trace say of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from mat.records import seal
from mat.records.files import missing
from mat.records.run import FILES
from mat.settings.yaml_file import read_yaml


def sha256(path: Path) -> str:
    """SHA-256 in hexadecimal: of a file's bytes; of a YAML file's content, so that a comment makes nothing stale."""
    if path.suffix != ".yaml":
        return seal.sha256(path)
    return hashlib.sha256(json.dumps(read_yaml(path), sort_keys=True).encode()).hexdigest()


def run_folder(home: Path, run: str) -> Path:
    """Where a run is kept in the folder of a scale's results."""
    return home / "runs" / run


def made_as(path: Path, root: Path) -> str:
    """What the workflow makes, by its place: of a reference result, the same file of one's own."""
    return relative(path, root).replace("/reference/", "/", 1)


def is_there(folder: Path) -> bool:
    """Whether a run's folder has all its files."""
    return not missing(folder, FILES)


def relative(path: Path, root: Path) -> str:
    """``path`` below ``root``, with slashes; as it is when it lies elsewhere."""
    path, root = path.resolve(), root.resolve()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def short(digest: object) -> str:
    """The first digits of a hash, as they are printed."""
    return str(digest)[:12]
