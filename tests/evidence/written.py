"""Tables written by the repository's own rule files."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from mat.evidence.catalogue import tables as catalogue
from mat.evidence.runs import pool, pooled
from mat.records.files import ENDING, write_record
from mat.records.seal import beside, write_seal

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
        files.append(folder / f"{number}{ENDING}")
        write_record(frame, files[-1])
        write_seal(beside(files[-1]), [files[-1].name])
    return files


def collect_into(runs: Iterable[Path], folder: Path, selection: str = "") -> None:
    """Pool run directories into ``folder``."""
    pooled.save(pool.collect(runs, selection), folder)


@cache
def _claims() -> dict[str, Any]:
    return yaml.safe_load(RULE_FILES["claims"].read_text(encoding="utf-8"))


def changed_claims(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The repository's claims file with one change, made to its content in place."""
    change(content := copy.deepcopy(_claims()))
    path = folder / "claims.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def claim(content: dict[str, Any], name: str) -> dict[str, Any]:
    """The entry of a claim in the file's content."""
    return next(entry for entry in content["claims"] if entry["id"] == name)
