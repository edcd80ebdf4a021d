"""One run from its specification to its folder: checked first, resumed where it was interrupted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from mat.experiments.config.spec import Spec
from mat.experiments.tasks.base import Task
from mat.experiments.training import checkpoint, resume, run_directory
from mat.experiments.training.loop import Loop
from mat.records.columns import EPOCH_PLACE, PROBE_RECORD


def train(
    spec: Spec,
    out: Path,
    *,
    labels: Mapping[str, str] | None = None,
    data: Path | None = None,
    cache: Path = Path(".mat-cache"),
    device: str = "cpu",
    report: Callable[[str, float], None] = lambda line, share: None,
    save_every: float = 30.0,
    keep: bool = False,
) -> dict[str, Any]:
    """Train ``spec`` and write its run directory ``out``; returns what ``final.json`` holds.

    ``keep``: write the weights at the end too, as a checkpoint that other runs can start from (``mat.experiments.training.checkpoint``).

    Resumes from the state of an interrupted process; a run that is finished there is not trained again.
    ``report(line, share)`` is called at every evaluation with a line of text and the share of steps done;
    the state is saved every ``save_every`` seconds.
    A loss that is not finite ends the run with status ``diverged`` and no error.
    Raises InputError before any training for input that cannot be used.
    """
    finished = run_directory.check_out(out, spec.name)
    if finished is not None and (not keep or checkpoint.is_complete(out)):
        report("already finished; remove the folder to train it again", 1.0)
        return finished
    torch.set_num_threads(spec.threads)
    loop = Loop(spec, out, data, cache, device)
    if keep:
        checkpoint.check_savable(loop.model)
    state_file = resume.state_path(out)
    loop.restore(resume.load_state(state_file, loop.identity))
    saved = time.monotonic()
    while loop.progress.step < loop.steps and not loop.progress.diverged:
        loop.advance(report)
        if time.monotonic() - saved > save_every:
            resume.save_state(state_file, loop.state())
            saved = time.monotonic()
    final = loop.finish()
    if keep:
        checkpoint.save(loop.model, loop.task, out)
    labels = dict(labels or {"scale": "single", "task": spec.task.name, "method": spec.method.name})
    probes = pd.DataFrame(loop.controller.records, columns=None if loop.controller.records else PROBE_RECORD)
    probes.insert(EPOCH_PLACE, "epoch", probes["step"] / loop.steps_per_epoch)
    run_directory.write(
        out, {"labels": labels, **loop.record()}, pd.DataFrame(loop.progress.curve), probes, final
    )
    state_file.unlink(missing_ok=True)
    return final


def check(spec: Spec, data: Path | None, cache: Path) -> dict[str, Any]:
    """Read the task of ``spec`` and make sure that its batches, probe, model and partition fit it.

    Returns sizes, data hash, known bounds, and the shapes of one sample's inputs and the number of outputs.
    Raises InputError, before any compute is spent, otherwise.
    """
    task: Task = spec.task.module.load(spec.task.settings, data, cache)
    task.steps_per_epoch(spec.recipe.batch)
    task.probe(spec.seed, spec.probe.n)
    family, settings, start = spec.model.module, spec.model.settings, spec.start
    model = family.build(settings, task.signature)
    family.partition(settings, model)
    if start is not None and start.hub is not None:
        checkpoint.start(model, start, task, Path(), data, cache)
    return {
        "task": task.name,
        "sizes": task.sizes,
        "data_hash": task.data_hash,
        "bounds": task.bounds,
        "truncated": dict(task.truncated),
        "objective": task.signature.objective,
        "shapes": {name: list(value.shape) for name, value in task.signature.example.items()},
        "outputs": task.signature.outputs,
    }
