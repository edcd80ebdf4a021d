"""A run on disk: what identifies it, its record, and the state it resumes from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from mat.errors import InputError
from mat.experiments.training.code_version import code_hash

FILES = ("run.json", "curve.parquet", "probes.parquet", "final.json")
CHECKPOINT = ("checkpoint/config.json", "checkpoint/model.safetensors")


def check_out(out: Path, name: str) -> dict[str, Any] | None:
    """Make sure that ``out`` can take the run ``name``; what its final.json holds if it is finished there.

    Raises InputError when ``out`` is no folder that can be written, or holds another run, or this one by
    another version of the code.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ".writable").touch()
        (out / ".writable").unlink()
    except OSError as error:
        raise InputError(
            f"cannot write to {out}: {error.strerror}; choose another folder with --out"
        ) from None
    if not (out / "run.json").exists():
        return None
    try:
        found = json.loads((out / "run.json").read_text())
    except json.JSONDecodeError:
        raise InputError(
            f"{out / 'run.json'} is damaged; move the folder away, or choose another one"
        ) from None
    if found.get("name") != name:
        raise InputError(f"{out} holds the run {found.get('name')!r}, not {name!r}; choose another folder")
    if found.get("code_hash") != code_hash():
        raise InputError(
            f"{out} was made by code {str(found.get('code_hash'))[:12]}, this is {code_hash()[:12]}; "
            "move the folder away, or choose another one"
        )
    final = out / "final.json"
    return json.loads(final.read_text()) if final.exists() else None


def write(
    out: Path, record: dict[str, Any], curve: pd.DataFrame, probes: pd.DataFrame, final: dict[str, Any]
) -> None:
    """Write a finished run's four files, ``final.json`` last: a folder that has it is complete."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "run.json").write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
    curve.to_parquet(out / "curve.parquet", index=False)
    probes.to_parquet(out / "probes.parquet", index=False)
    (out / "final.json").write_text(json.dumps(final, indent=2, sort_keys=True) + "\n")
