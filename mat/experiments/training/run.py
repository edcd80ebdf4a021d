"""One run from its specification to its folder: checked first, resumed where it was interrupted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from mat import processes
from mat.errors import InputError
from mat.experiments.config.spec import Spec
from mat.experiments.training import checkpoint, resume, sharing
from mat.experiments.training.code_version import code_hash, run_modules
from mat.experiments.training.loop import Loop
from mat.experiments.training.machine import HERE, Machine, versions
from mat.experiments.training.reference_run import reference_modules
from mat.experiments.training.resume import Report
from mat.methods.base import Observation
from mat.methods.history import sums
from mat.records.code import differences
from mat.records.columns import EPOCH_PLACE, PROBE_RECORD, SPECTRA_COLUMNS
from mat.records.files import CURVE, FINAL, PROBES, RUN, SPECTRA, missing, read_json, remove, write_json, write_record
from mat.records.run import FILES, RECORDS, read_run
from mat.records.seal import SEAL, write_seal

AGAIN = "move the folder away, or choose another one"


def train(
    spec: Spec,
    out: Path,
    machine: Machine = HERE,
    *,
    labels: Mapping[str, str] | None = None,
    report: Report = resume.silent,
    save_every: float = resume.SAVE_EVERY,
    keep: bool = False,
) -> dict[str, Any]:
    """Train ``spec`` and write its run directory ``out``; returns what ``final.json`` holds.

    ``keep``: write the weights at the end too, as a checkpoint that other runs can start from
    (``mat.experiments.training.checkpoint``). ``labels``: names of scale, task and method in tables.

    Resumes from the state of an interrupted process; a run that is finished there is not trained again. Outputs are
    written one by one, each as a whole, and sealed at the end: what lacks the seal is written again.
    ``report(line, share)`` is called at every evaluation with a line of text and the share of steps done;
    the state is saved every ``save_every`` seconds.
    Several processes, where the specification says so, share each batch; the first one writes.
    A loss that is not finite ends the run with status ``diverged`` and no error.
    Raises InputError before any training for input that cannot be used.
    """
    sharing.check_count(spec.processes)
    with ExitStack() as stack:
        code, finished = processes.of_first(lambda: _open(stack, spec, out))
        if finished is not None and (not keep or checkpoint.is_complete(out)):
            if processes.rank() == 0:  # of a process that was killed before it did
                remove(resume.state_path(out, code_hash(code)))
            report("already finished; remove the folder to train it again", 1.0)
            return finished
        return _train(spec, out, machine, labels, report, save_every, keep, code)


def _open(stack: ExitStack, spec: Spec, out: Path) -> tuple[dict[str, str], dict[str, Any] | None]:
    """Take the folder for as long as ``stack`` is open: what the run stands on, and its end if it is finished there."""
    check_writable(out)
    stack.enter_context(resume.alone(out))
    code = {**reference_modules(spec, out), **run_modules(spec)}
    return code, check_out(out, spec.name, code)


def _train(
    spec: Spec,
    out: Path,
    machine: Machine,
    labels: Mapping[str, str] | None,
    report: Report,
    save_every: float,
    keep: bool,
    code: Mapping[str, str],
) -> dict[str, Any]:
    torch.set_num_threads(spec.threads)
    loop = Loop(spec, out, machine)
    if keep:
        checkpoint.check_savable(loop.model)
    identity = {"run": spec.name, "code_hash": code_hash(code)}
    states = resume.state_path(out, identity["code_hash"])
    resume.complete(loop, states, identity, report, save_every)
    final = loop.finish()
    if processes.rank() == 0:
        _write(loop, out, final, labels, keep, code)
        remove(states)
    return final


def _write(
    loop: Loop,
    out: Path,
    final: Mapping[str, Any],
    labels: Mapping[str, str] | None,
    keep: bool,
    code: Mapping[str, str],
) -> None:
    """Every output of a finished run as a whole, and the seal at the end."""
    spec = loop.spec
    (out / SEAL).unlink(missing_ok=True)  # of a run that is finished and did not keep its weights
    kept = checkpoint.save(loop.model, loop.task, out) if keep else []
    labels = dict(labels or {"scale": "single", "task": spec.task.name, "method": spec.method.name})
    about = {**record(loop), "labels": labels, "code": code, "code_hash": code_hash(code)}
    write_json(about, out / RUN, sort_keys=True)
    write_record(pd.DataFrame(loop.progress.curve), out / CURVE)
    write_record(probes_table(loop.controller.records, loop.steps_per_epoch), out / PROBES)
    write_record(spectra_table(loop.controller.history, loop.controller.records), out / SPECTRA)
    write_json(final, out / FINAL, sort_keys=True)
    write_seal(out / SEAL, [*RECORDS, SPECTRA, *kept])


def record(loop: Loop) -> dict[str, Any]:
    """What run.json says of a run, labels and code apart."""
    spec, task, controller = loop.spec, loop.task, loop.controller
    partition, method = controller.partition, controller.method
    return {
        "name": spec.name,
        "spec": json.loads(spec.json),
        "seed": spec.seed,
        "data_hash": task.data_hash,
        "start_hash": loop.start_hash,
        "versions": versions(),
        "hardware": loop.machine.hardware(),
        "threads": spec.threads,
        "charges_probe": bool(method.reads),
        "metrics": [metric._asdict() for metric in task.metrics],
        "loss_unit": task.loss_unit,
        "bounds": task.bounds,
        "sizes": task.sizes,
        "modules": partition.table(),
        "remainder_parameters": partition.size(partition.remainder),
        "mode": "dense" if method.dense else method.mode,
        "interval": loop.extent.every,
        "probe_n": loop.extent.n,
        "probe_directions": loop.extent.directions,
    }


def check_writable(out: Path) -> None:
    """Make the folder ``out``. Raises InputError when it is none that can be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ".writable").touch()
        (out / ".writable").unlink()
    except OSError as error:
        raise InputError(f"cannot write to {out}: {error.strerror}; choose another folder with --out") from None


def check_out(out: Path, name: str, code: Mapping[str, str]) -> dict[str, Any] | None:
    """Make sure that ``out`` can take the run ``name``; what its final.json holds if it is finished there.

    ``code``: the modules that the run stands on. Raises InputError when ``out`` holds another run, or this one by
    another version of the code, or damaged.
    """
    finished = None if missing(out, FILES) else read_run(out)
    try:
        found = read_json(out / RUN) if finished is None else finished.run
    except InputError:  # nothing, or what an interrupted process left: it is written again
        return None
    if found.get("name") != name:
        raise InputError(f"{out} holds the run {found.get('name')!r}, not {name!r}; choose another folder")
    changed = differences(found.get("code", {}), code)
    if changed:
        raise InputError(f"{out} was made by other code: {', '.join(changed)} changed; {AGAIN}")
    return None if finished is None else finished.final


def probes_table(records: list[Mapping[str, Any]], steps_per_epoch: int) -> pd.DataFrame:
    """What a controller recorded, with the epoch of every probe."""
    table = pd.DataFrame(records, columns=None if records else PROBE_RECORD)
    table.insert(EPOCH_PLACE, "epoch", table["step"] / steps_per_epoch)
    return table


def spectra_table(history: Sequence[Observation], records: list[Mapping[str, Any]]) -> pd.DataFrame:
    """What a controller's probes saw of sums of modules, by probe; no row where they measured no kernel."""
    steps = {row["interval"]: row["step"] for row in records}
    rows = [
        {"interval": interval, "step": step, **row}
        for (interval, step), seen in zip(steps.items(), history, strict=False)  # without one, nothing was measured
        for row in sums(seen)
    ]
    return pd.DataFrame(rows, columns=SPECTRA_COLUMNS)
