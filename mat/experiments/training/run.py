"""One run from its specification to its folder: checked first, resumed where it was interrupted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from mat.experiments.config.spec import Spec
from mat.experiments.training import checkpoint, resume, run_directory
from mat.experiments.training.code_version import code_hash, run_modules
from mat.experiments.training.loop import Loop
from mat.experiments.training.machine import HERE, Machine, versions
from mat.experiments.training.reference_run import reference_modules
from mat.experiments.training.resume import Report


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

    Resumes from the state of an interrupted process; a run that is finished there is not trained again.
    ``report(line, share)`` is called at every evaluation with a line of text and the share of steps done;
    the state is saved every ``save_every`` seconds.
    A loss that is not finite ends the run with status ``diverged`` and no error.
    Raises InputError before any training for input that cannot be used.
    """
    code = {**reference_modules(spec, out), **run_modules(spec)}
    finished = run_directory.check_out(out, spec.name, code)
    if finished is not None and (not keep or checkpoint.is_complete(out)):
        report("already finished; remove the folder to train it again", 1.0)
        return finished
    torch.set_num_threads(spec.threads)
    loop = Loop(spec, out, machine)
    if keep:
        checkpoint.check_savable(loop.model)
    identity = {"run": spec.name, "code_hash": code_hash(code)}
    state_file = resume.state_path(out, identity["code_hash"])
    resume.complete(loop, state_file, identity, report, save_every)
    final = loop.finish()
    if keep:
        checkpoint.save(loop.model, loop.task, out)
    labels = dict(labels or {"scale": "single", "task": spec.task.name, "method": spec.method.name})
    run_directory.write(
        out,
        {**record(loop), "labels": labels, "code": code, "code_hash": identity["code_hash"]},
        pd.DataFrame(loop.progress.curve),
        run_directory.probes_table(loop.controller.records, loop.steps_per_epoch),
        final,
    )
    state_file.unlink(missing_ok=True)
    return final


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
        "interval": controller.every,
        "probe_n": spec.probe.n,
    }
