"""The runs behind a number: what they are, and what their folders say where they are there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from mat.evidence.runs import pool
from mat.evidence.runs.files import is_there, made_as, relative, run_folder
from mat.evidence.runs.pooled import Tables
from mat.evidence.text.format import command
from mat.records.files import FINAL, RUN


@dataclass(frozen=True)
class Run:
    """A run behind a number; ``there``: whether its folder is here; ``command`` makes it again."""

    run: str
    task: str
    method: str
    seed: int
    status: str
    folder: str
    there: bool
    hashes: Mapping[str, str]
    hardware: str
    versions: Mapping[str, str]
    command: str


def from_folders(tables: Tables, tasks: Collection[str]) -> Tables:
    """The tables, with every run of these tasks whose folder is there read from that folder again."""
    named = tables.runs.loc[tables.runs["task"].isin(tasks), "run"]
    places = {run: run_folder(tables.home, run) for run in named}
    read = {run: pool.read_run(folder, run) for run, folder in places.items() if is_there(folder)}
    if not read:
        return tables
    records, _, curves, probes, spectra = map(list, zip(*read.values(), strict=True))
    rows = pd.DataFrame(records).set_index("run")
    runs = tables.runs.set_index("run")
    for name in runs.columns.intersection(rows.columns).difference(["spec_hash"]):
        runs[name] = rows[name].reindex(runs.index).where(runs.index.isin(rows.index), runs[name])
    return replace(
        tables,
        runs=runs.reset_index().astype(tables.runs.dtypes.to_dict())[list(tables.runs.columns)],
        curves=_replaced(tables.curves, pool.together(records, curves), set(read)),
        probes=_replaced(tables.probes, pool.together(records, probes), set(read)),
        spectra=_replaced(tables.spectra, pool.together(records, spectra), set(read)),
    )


def _replaced(pooled: pd.DataFrame, own: pd.DataFrame, names: set[str]) -> pd.DataFrame:
    frames = [frame for frame in (pooled[~pooled["run"].isin(names)], own) if len(frame)]
    return pd.concat(frames, ignore_index=True) if frames else pooled


def run_of(tables: Tables, run: pd.Series, root: Path) -> Run:
    """What a row of ``runs`` says of a run, where it lies and what makes it again."""
    folder = run_folder(tables.home, run["run"])
    target = f"{made_as(folder, root)}/{FINAL}"
    names = {"specification": "spec_hash", "code": "code_hash", "data": "data_hash", "start": "start_hash"}
    versions = {
        name.removeprefix("version_"): str(run[name])
        for name in run.index
        if name.startswith("version_") and pd.notna(run[name])
    }
    return Run(
        run["run"], run["task"], run["method"], int(run["seed"]), run["status"], relative(folder, root),
        (folder / RUN).is_file(), {name: run[key] for name, key in names.items() if run[key]},
        f"{run['device']}, {run['cpu']}, {run['cores']} cores, {run['threads']} threads", versions,
        command(tables.scale, tables.selection, target),
    )  # fmt: skip
