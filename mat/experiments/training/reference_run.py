"""What a method reads of the run that it is matched to, from that run's folder beside its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mat.errors import InputError
from mat.experiments.config.spec import Spec
from mat.records.columns import CURVE_COLUMNS
from mat.records.costs import total_macs
from mat.records.files import CURVE, FOLLOWED, PROBES, RUN, missing, read_json, read_parquet


@dataclass(frozen=True)
class Reference:
    """``counts``: active modules by the step at which each interval began; ``macs``: all that was executed, charged
    probes included, None when no run is followed."""

    counts: Mapping[int, int] = field(default_factory=dict)
    macs: int | None = None


def reference(spec: Spec, out: Path, modules: int) -> Reference:
    """What ``spec``'s method follows, if it does; ``out`` is its own run's folder. A run that diverged before it
    selected any counts as one that trained all of the ``modules`` from its first step.

    Raises InputError when that run is not there.
    """
    folder = _folder(spec, out)
    if folder is None:
        return Reference()
    lacking = missing(folder, FOLLOWED)
    if lacking:
        raise InputError(
            f"{spec.method.name} follows the run {folder.name}, which is not at {folder} ({lacking[0]} is missing); "
            "train it first"
        )
    active = read_parquet(folder / PROBES, ("step", "active"))
    counts = {int(step): int(n) for step, n in active.groupby("step")["active"].sum().items()} or {0: modules}
    last = read_parquet(folder / CURVE, CURVE_COLUMNS).iloc[-1]
    charged = read_json(folder / RUN)["charges_probe"]
    return Reference(counts, int(total_macs(last, "executed", charged)))


def reference_modules(spec: Spec, out: Path) -> Mapping[str, str]:
    """Hash by module of the code that the followed run stands on, and so does this one; empty without one there."""
    folder = _folder(spec, out)
    return {} if folder is None or missing(folder, [RUN]) else read_json(folder / RUN).get("code", {})


def _folder(spec: Spec, out: Path) -> Path | None:
    other = getattr(spec.method.settings, "match", None)
    return None if other is None else out.parent / other
