"""A run's folder: whether it can take a run, or has it already, and the four files of a finished one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from mat.errors import InputError
from mat.records.code import differences
from mat.records.columns import EPOCH_PLACE, PROBE_RECORD
from mat.records.files import CURVE, FINAL, PROBES, RUN, read_json, write_json, write_parquet

AGAIN = "move the folder away, or choose another one"


def check_out(out: Path, name: str, code: Mapping[str, str]) -> dict[str, Any] | None:
    """Make sure that ``out`` can take the run ``name``; what its final.json holds if it is finished there.

    ``code``: the modules that the run stands on. Raises InputError when ``out`` is no folder that can be written, or
    holds another run, or this one by another version of the code.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ".writable").touch()
        (out / ".writable").unlink()
    except OSError as error:
        raise InputError(f"cannot write to {out}: {error.strerror}; choose another folder with --out") from None
    if not (out / RUN).exists():
        return None
    found = read_json(out / RUN, AGAIN)
    if found.get("name") != name:
        raise InputError(f"{out} holds the run {found.get('name')!r}, not {name!r}; choose another folder")
    changed = differences(found.get("code", {}), code)
    if changed:
        raise InputError(f"{out} was made by other code: {', '.join(changed)} changed; {AGAIN}")
    return read_json(out / FINAL, AGAIN) if (out / FINAL).exists() else None


def probes_table(records: list[Mapping[str, Any]], steps_per_epoch: int) -> pd.DataFrame:
    """What a controller recorded, with the epoch of every probe."""
    table = pd.DataFrame(records, columns=None if records else PROBE_RECORD)
    table.insert(EPOCH_PLACE, "epoch", table["step"] / steps_per_epoch)
    return table


def write(
    out: Path, record: Mapping[str, Any], curve: pd.DataFrame, probes: pd.DataFrame, final: Mapping[str, Any]
) -> None:
    """Write a finished run's four files, ``final.json`` last: a folder that has it is complete."""
    write_json(record, out / RUN, sort_keys=True)
    write_parquet(curve, out / CURVE)
    write_parquet(probes, out / PROBES)
    write_json(final, out / FINAL, sort_keys=True)
