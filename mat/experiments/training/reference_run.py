"""What a run reads of the one that it is matched to, from that run's folder beside its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mat.errors import InputError
from mat.experiments.config.spec import Spec
from mat.records.costs import total_macs
from mat.records.files import RUN, missing, read_json
from mat.records.run import FILES, read_run


@dataclass(frozen=True)
class Reference:
    """``counts``: active modules by the step at which each interval began; ``macs``: all that was executed, charged
    probes included, None when no run is followed."""

    counts: Mapping[int, int] = field(default_factory=dict)
    macs: int | None = None


def reference(spec: Spec, out: Path, modules: int) -> Reference:
    """What ``spec`` follows, if it does; ``out`` is its own run's folder. A run that diverged before it
    selected any counts as one that trained all of the ``modules`` from its first step.

    Raises InputError when that run is not there, or not as it was written.
    """
    folder = _folder(spec, out)
    if folder is None:
        return Reference()
    lacking = missing(folder, FILES)
    if lacking:
        raise InputError(
            f"{spec.method.name} follows the run {folder.name}, which is not at {folder} ({lacking[0]} is missing); "
            "train it first"
        )
    found = read_run(folder, folder.name)
    active = found.probes.groupby("step")["active"].sum()
    counts = {int(step): int(n) for step, n in active.items()} or {0: modules}
    return Reference(counts, int(total_macs(found.curve.iloc[-1], "executed", found.run["charges_probe"])))


def reference_modules(spec: Spec, out: Path) -> Mapping[str, str]:
    """Hash by module of the code that the followed run stands on, and so does this one; empty without one there."""
    folder = _folder(spec, out)
    return {} if folder is None or missing(folder, [RUN]) else read_json(folder / RUN).get("code", {})


def _folder(spec: Spec, out: Path) -> Path | None:
    return None if spec.follows is None else out.parent / spec.follows
