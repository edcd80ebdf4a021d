"""Tables written by the repository's own rule files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from mat.evidence.catalogue import tables as catalogue
from mat.evidence.runs import pool, pooled

ROOT = Path(__file__).parents[2]
RULE_FILES = {name: ROOT / file.path for name, file in catalogue.rule_files().items()}
CLAIMS, REGISTER, LEVELS = (RULE_FILES[name] for name in ("claims", "ambiguities", "levels"))


def write(folder: Path, *names: str, measured: Iterable[Path] = (), **files: Path) -> None:
    """Write these tables into ``folder``; ``files``: rule files other than the repository's."""
    for name in names:
        catalogue.write(name, folder, measured, **RULE_FILES | files)


def measured(frames: Iterable[pd.DataFrame], folder: Path) -> list[Path]:
    """The tables that jobs of a study would write, in files of ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, frame in enumerate(frames):
        files.append(folder / f"{number}.parquet")
        frame.to_parquet(files[-1], index=False)
    return files


def collect_into(runs: Iterable[Path], folder: Path, selection: str = "") -> None:
    """Pool run directories into ``folder``."""
    pooled.save(pool.collect(runs, selection), folder)
