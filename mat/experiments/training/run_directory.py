"""A run on disk: what identifies it, its record, and the state it resumes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from mat.errors import InputError
from mat.experiments.training.code_version import code_hash
from mat.records.files import CURVE, FINAL, PROBES, RUN, read_json, write_json, write_parquet


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
    if not (out / RUN).exists():
        return None
    found = read_json(out / RUN, "move the folder away, or choose another one")
    if found.get("name") != name:
        raise InputError(f"{out} holds the run {found.get('name')!r}, not {name!r}; choose another folder")
    if found.get("code_hash") != code_hash():
        raise InputError(
            f"{out} was made by code {str(found.get('code_hash'))[:12]}, this is {code_hash()[:12]}; "
            "move the folder away, or choose another one"
        )
    return read_json(out / FINAL) if (out / FINAL).exists() else None


def write(
    out: Path, record: dict[str, Any], curve: pd.DataFrame, probes: pd.DataFrame, final: dict[str, Any]
) -> None:
    """Write a finished run's four files, ``final.json`` last: a folder that has it is complete."""
    write_json(record, out / RUN, sort_keys=True)
    write_parquet(curve, out / CURVE)
    write_parquet(probes, out / PROBES)
    write_json(final, out / FINAL, sort_keys=True)
