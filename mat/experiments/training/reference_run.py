"""What a method reads of the run that it is matched to, from that run's folder beside its own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mat.errors import InputError
from mat.experiments.config.spec import Spec

FILES = ("run.json", "probes.parquet", "curve.parquet")


@dataclass(frozen=True)
class Matched:
    """``counts``: active modules per interval; ``macs``: all that was executed, charged probes included, None when
    no run is followed."""

    counts: tuple[int, ...] = ()
    macs: int | None = None


def matched(spec: Spec, out: Path, modules: int) -> Matched:
    """What ``spec``'s method follows, if it does; ``out`` is its own run's folder. A run that diverged before it
    selected any counts as one that trained all of the ``modules``.

    Raises InputError when that run is not there.
    """
    other = getattr(spec.method.settings, "match", None)
    if other is None:
        return Matched()
    folder = out.parent / other
    missing = [name for name in FILES if not (folder / name).exists()]
    if missing:
        raise InputError(
            f"{spec.method.name} follows the run {other}, which is not at {folder} ({missing[0]} is missing); "
            "train it first"
        )
    active = pd.read_parquet(folder / "probes.parquet", columns=["interval", "active"])
    counts = tuple(int(n) for n in active.groupby("interval", sort=True)["active"].sum()) or (modules,)
    last = pd.read_parquet(folder / "curve.parquet").iloc[-1]
    spent = last["macs_executed"]
    if json.loads((folder / "run.json").read_text())["charges_probe"]:
        spent += last["macs_executed_probe"] + last["macs_eigen"]
    return Matched(counts, int(spent))
