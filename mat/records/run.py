"""A run's folder, read as a whole: sealed, of known keys and columns, and at one with itself."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from mat.errors import InputError
from mat.records.columns import (
    CURVE_COLUMNS,
    FINAL_KEYS,
    METRIC_PREFIX,
    PROBE_COLUMNS,
    RUN_KEYS,
    SPECTRA_COLUMNS,
    STATUSES,
)
from mat.records.files import CURVE, FINAL, PROBES, RUN, SPECTRA, missing, read_json, read_record
from mat.records.seal import SEAL, check_seal
from mat.records.shape import unlike

RECORDS = (RUN, CURVE, PROBES, FINAL)
FILES = (*RECORDS, SEAL)  # of a run's folder; it is complete with the last
WRITTEN = (*RECORDS, SPECTRA, SEAL)  # by a run; those recorded before spectra were have none
CHECKPOINT = ("checkpoint/config.json", "checkpoint/model.safetensors")
AGAIN = "move the folder away and train the run again"
_NO_SPECTRA = pd.DataFrame(columns=SPECTRA_COLUMNS)


class Record(NamedTuple):
    """What a run wrote: ``run.json``, ``final.json``, its curve by step, its probes, the spectra of their sums (no row
    where there are none)."""

    run: dict[str, Any]
    final: dict[str, Any]
    curve: pd.DataFrame
    probes: pd.DataFrame
    spectra: pd.DataFrame


def kept(folder: Path) -> tuple[str, ...]:
    """The records that are in ``folder``, which has all of ``RECORDS``."""
    return (*RECORDS, SPECTRA) if (folder / SPECTRA).is_file() else RECORDS


def read_run(folder: Path, name: str | None = None, also: Iterable[str] = ()) -> Record:
    """The record in ``folder``, sealed together with ``also``; of the run ``name``, where one is given.

    Raises InputError, naming the file and what to do, for an incomplete folder, for a file that is not as it was
    written, and for a record that contradicts itself.
    """
    lacking = missing(folder, (*FILES, *also))
    if lacking:
        raise InputError(
            f"run directory {folder} is incomplete: expected {', '.join((*FILES, *also))}, missing "
            f"{', '.join(lacking)}; let the run finish (it resumes from its own state) or leave the directory out"
        )
    names = kept(folder)
    check_seal(folder / SEAL, (*names, *also), AGAIN)
    run, final = read_json(folder / RUN), read_json(folder / FINAL)
    for file, content, shape in ((RUN, run, RUN_KEYS), (FINAL, final, FINAL_KEYS)):
        if (other := unlike(content, shape, file)) is not None:
            raise InputError(f"{folder} holds no record of a run: {other}; was it written by this version? {AGAIN}")
    curve = read_record(folder / CURVE, CURVE_COLUMNS, prefix=METRIC_PREFIX)
    if not (curve["step"].is_monotonic_increasing and curve["step"].is_unique):
        curve = curve.sort_values("step", ignore_index=True)
    spectra = read_record(folder / SPECTRA, SPECTRA_COLUMNS) if SPECTRA in names else _NO_SPECTRA
    found = Record(run, final, curve, read_record(folder / PROBES, PROBE_COLUMNS), spectra)
    wrong = _contradiction(found)
    if wrong is None and name not in (None, run["name"]):
        wrong = f"{RUN} is of the run {run['name']!r}, expected {name!r}"
    if wrong is not None:
        raise InputError(f"{folder} contradicts itself or its place: {wrong}; {AGAIN}")
    return found


def _contradiction(found: Record) -> str | None:
    """What of a record cannot be, in words; None where all agrees."""
    run, final, steps = found.run, found.final, found.curve["step"]
    if final["status"] not in STATUSES:
        return f"{FINAL} has status {final['status']!r}, expected one of {', '.join(STATUSES)}"
    if run["seed"] != run["spec"].get("seed"):
        return f"{RUN} has seed {run['seed']}, its specification {run['spec'].get('seed')}"
    if steps.empty:
        return f"{CURVE} holds no evaluation, expected one at step 0 at least"
    if final["steps"] != steps.iloc[-1]:
        return f"{FINAL} has {final['steps']} steps, {CURVE} ends at {steps.iloc[-1]}"
    if final["best_step"] is not None and not (steps == final["best_step"]).any():
        return f"{FINAL} has the best step {final['best_step']}, {CURVE} has no such evaluation"
    return None
