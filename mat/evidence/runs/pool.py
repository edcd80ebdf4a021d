"""Pool run directories into tables; refuse what must not be pooled.

A table stands on one scale, one version of every module of the code, one set of data per task and one specification
per (task, method). Anything else is an error that names the runs, because a mean over different things looks like any
other mean.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pandas as pd

from mat.errors import InputError
from mat.evidence.runs import metrics
from mat.evidence.runs.pool_studies import one_value
from mat.evidence.runs.pooled import Tables
from mat.records import run as records
from mat.records.code import refuse_mixture
from mat.records.columns import CURVE_COLUMNS, PROBE_COLUMNS, SPECTRA_COLUMNS

LABELS = ("scale", "task", "method", "seed", "run")
_SOME_HAVE, _ALL_HAVE = ("test_", "bound_", "version_"), ("test_loss", "test_metric")
Run = tuple[dict[str, Any], dict[str, Any], pd.DataFrame, pd.DataFrame, pd.DataFrame]


def collect(directories: Iterable[Path], selection: str = "") -> Tables:
    """Read every run directory into one set of tables, ordered by task, method and seed.

    ``selection``: what was selected of the scale, as the command line has it; "" for all of it. Raises InputError on
    an empty list, an incomplete directory, or runs that must not be pooled.
    """
    return pooled(map(read_run, map(Path, directories)), selection)


def pooled(read: Iterable[Run], selection: str = "") -> Tables:
    """The tables of runs that were ``read_run``."""
    read = list(read)
    if not read:
        raise InputError("expected at least one run directory, got none; train the runs of this scale first")
    records, specifications, curves, probes, spectra = zip(*read, strict=True)
    codes = {record["run"]: record["code"] for record in records}
    names = {record["run"]: record["method"] for record in records}
    records = [
        record | {"spec_hash": specification_hash(spec, names)}
        for record, spec in zip(records, specifications, strict=True)
    ]
    runs = pd.DataFrame(records).drop(columns="code").sort_values(["task", "method", "seed", "run"], ignore_index=True)
    refuse_mixtures(runs, codes)
    runs = _in_order(runs.assign(selection=selection))
    curves, probes, spectra = (together(records, frames) for frames in (curves, probes, spectra))
    return Tables(runs, curves, probes, spectra=spectra)


def read_run(directory: Path, name: str | None = None) -> Run:
    """One run directory, of the run ``name`` where one is given, as (row of ``runs``, specification, curve, probes,
    spectra). Raises InputError as ``mat.records.run.read_run`` does."""
    return read_of(records.read_run(directory, name))


def read_of(found: records.Record) -> Run:
    """A run's record as ``read_run`` gives it; its probes by interval, with modules as the run has them."""
    run, final, curve, probes, spectra = found
    if not probes["interval"].is_monotonic_increasing:
        probes = probes.sort_values("interval", kind="stable")
    return run_row(run, final, curve), run["spec"], curve, probes, spectra


def run_row(run: dict[str, Any], final: dict[str, Any], curve: pd.DataFrame) -> dict[str, Any]:
    """The row of ``runs`` for one run: labels, identity, outcome, circumstances."""
    last, hardware = curve.iloc[-1], run["hardware"]
    row = {
        "scale": run["labels"]["scale"], "task": run["labels"]["task"], "method": run["labels"]["method"],
        "seed": int(run["seed"]), "run": run["name"], "status": final["status"], "steps": int(final["steps"]),
        "test_loss": _number(final["test_loss"]), "test_metric": _number(final["test_metric"]),
        "best_val_loss": _number(final["best_val_loss"]), "best_step": _number(final["best_step"]),
        "metric": run["metrics"][0]["name"], "higher_is_better": bool(run["metrics"][0]["higher_is_better"]),
        "loss_unit": run["loss_unit"], "metrics": metrics.write_names(run["metrics"]),
        "task_name": _named(run["spec"]["task"]), "subset": run["spec"]["task"].get("subset") or "",
        "objective": find(run["spec"]["task"], "objective") or "",
        "mode": run["mode"], "charges_probe": bool(run["charges_probe"]),
        "interval": run["interval"], "probe_n": run["probe_n"],
        "estimator": find(run["spec"], "estimator") or "",
        "modules": len(run["modules"]), "remainder_parameters": run["remainder_parameters"],
        "seconds_train": float(last["seconds_train"]), "seconds_probe": float(last["seconds_probe"]),
        "seconds_eval": float(last["seconds_eval"]), "seconds_data": float(last["seconds_data"]),
        "epochs": float(last["epoch"]),
        "code_hash": run["code_hash"], "code": run["code"], "data_hash": run["data_hash"],
        "start_hash": run["start_hash"] or "",
        "spec_hash": "",  # set by collect
        "threads": run["threads"], "cpu": hardware.get("cpu"), "cores": hardware.get("cores"),
        "device": hardware.get("device"),
    }  # fmt: skip
    found = final["test_metrics"]
    row |= {f"test_{one['name']}": _number(found.get(one["name"])) for one in run["metrics"]}
    row |= {f"bound_{name}": float(value) for name, value in sorted(run["bounds"].items())}
    return row | {f"version_{name}": str(value) for name, value in sorted(run["versions"].items())}


def _named(plugin: Mapping[str, Any]) -> str:
    """The name of a specification's task; of one that is a file of the user's own, the file's."""
    return str(plugin.get("name") or PurePath(str(plugin.get("file"))).stem)


def _in_order(runs: pd.DataFrame) -> pd.DataFrame:
    """Columns that not every task has after the others, by name: the order of directories does not show."""
    shared = [name for name in runs.columns if not name.startswith(_SOME_HAVE) or name in _ALL_HAVE]
    return runs[shared + sorted(set(runs.columns) - set(shared))]


def specification_hash(spec: dict[str, Any], names: Mapping[str, str]) -> str:
    """SHA-256 (16 digits) of a specification without its seed: equal for runs that differ in seed only.

    A method that follows another run names that run, seed included; ``names`` maps runs to their labels,
    which stand in for the names.
    """
    rest = {key: value for key, value in spec.items() if key not in ("seed", "name")}
    return hashlib.sha256(json.dumps(_relabelled(rest, names), sort_keys=True).encode()).hexdigest()[:16]


def _relabelled(tree: Any, names: Mapping[str, str]) -> Any:
    if isinstance(tree, dict):
        return {key: _relabelled(value, names) for key, value in tree.items()}
    return names.get(tree, tree) if isinstance(tree, str) else tree


def find(tree: Any, key: str) -> Any:
    """The first value under ``key`` anywhere in nested dictionaries; None when there is none."""
    if not isinstance(tree, dict):
        return None
    if key in tree:
        return tree[key]
    return next((found for value in tree.values() if (found := find(value, key)) is not None), None)


def refuse_mixtures(runs: pd.DataFrame, codes: Mapping[str, Mapping[str, str]]) -> None:
    """InputError unless runs share scale, data per task, specification per label, and the code of every module that
    they have in common; each seed once."""
    one_value(runs, "scale", "the tables of one scale", "run")
    refuse_mixture("runs", codes)
    for task, rows in runs.groupby("task", sort=True):
        for column in ("data_hash", "metrics", "loss_unit"):
            one_value(rows, column, f"task {task}", "run")
    if runs.drop_duplicates(["task", "seed", "start_hash"]).duplicated(["task", "seed"]).any():
        for (task, seed), rows in runs.groupby(["task", "seed"], sort=True):
            one_value(rows, "start_hash", f"task {task}, seed {seed}", "run")
    for (task, method), rows in runs.groupby(["task", "method"], sort=True):
        one_value(rows, "spec_hash", f"task {task}, method {method} (seeds apart)", "run")
        twice = rows[rows.duplicated("seed", keep=False)]
        if len(twice):
            raise InputError(
                f"expected each seed once for task {task}, method {method}, got runs "
                f"{', '.join(twice['run'])} with seed {twice['seed'].iloc[0]}; give one directory per run"
            )


def together(rows: Sequence[Mapping[str, Any]], frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """What runs recorded, labelled as the ``rows`` of these runs say: by task, method and seed, what a run has in its
    order. Runs are sorted and labelled all at once: to do it one by one, or to copy all rows again, takes longest."""
    known = [pair for pair in zip(rows, frames, strict=True) if len(pair[1])]
    known.sort(key=lambda pair: [pair[0][name] for name in ("task", "method", "seed")])
    known = known or [(rows[0], frames[0])]
    pooled = pd.concat([frame for _, frame in known], ignore_index=True)
    of = np.repeat(np.arange(len(known)), [len(frame) for _, frame in known])
    labels = {name: pd.Series([row[name] for row, _ in known]).take(of).array for name in LABELS}
    pooled = pooled.assign(**labels)
    own = sorted(set(pooled.columns) - set(CURVE_COLUMNS + PROBE_COLUMNS + SPECTRA_COLUMNS + LABELS))
    return pooled[[name for name in pooled.columns if name not in own] + own]


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
