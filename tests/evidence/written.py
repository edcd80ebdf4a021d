"""Tables written by the repository's own rule files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mat.evidence.catalogue import tables as catalogue
from mat.evidence.runs import pool, pooled

ROOT = Path(__file__).parents[2]
RULE_FILES = {name: ROOT / file.path for name, file in catalogue.rule_files().items()}


def write(folder: Path, *names: str, measured: Iterable[Path] = (), **files: Path) -> None:
    """Write these tables into ``folder``; ``files``: rule files other than the repository's."""
    for name in names:
        catalogue.write(name, folder, measured, **RULE_FILES | files)


def collect_into(runs: Iterable[Path], folder: Path, selection: str = "") -> None:
    """Pool run directories into ``folder``."""
    pooled.save(pool.collect(runs, selection), folder)
