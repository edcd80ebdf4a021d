"""Train branches from checkpoints of one run: each module alone (C2), and the sets of large and small λ_max (C3).

The run is trained by its own loop and never changed: branches are trained on copies of its weights, by a new optimizer
of its recipe, at the learning rate that the schedule has at the checkpoint (``anneal``: falling from there), on the
batches that the run itself sees next. All branches of a checkpoint see the same batches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from mat.experiments.studies.branches.fork import Fork
from mat.experiments.studies.branches.settings import SETS
from mat.experiments.studies.session import Job, Session
from mat.experiments.tasks.base import Batch
from mat.experiments.training.machine import Machine
from mat.experiments.training.steps.optimizer import make_optimizer, schedule
from mat.kernels.estimators import STEP
from mat.kernels.ntk import modular_ntk
from mat.kernels.probes.gradient_norms import gradient_norms
from mat.records.columns import SPECTRUM
from mat.records.studies import READ
from mat.seeds import generator, stream_seed

MODULE, SET = "module", "set"
NONE = "none"  # the branch that trains nothing, of modules, or the remainder alone, of sets
NOT_COUNTED = -100
KNOWN = (*SPECTRUM, "gradient_norm")  # of a module at a checkpoint


class Branch(NamedTuple):
    """One branch: ``part`` is MODULE or SET, ``name`` what trains."""

    step: int
    part: str
    name: str


class Branches(Session):
    """The run in training, and the branches that are done.

    The table has one row per checkpoint and branch: what was trained, λ_max, trace, effective rank and gradient norm of
    a module at the checkpoint, and losses before and after. A branch that diverges has NaN after it, and one of a run
    that has diverged before has NaN throughout.
    """

    rows = "branches"
    kept = ("done", "seen")

    def __init__(self, job: Job, out: Path, machine: Machine) -> None:
        super().__init__(job, out, machine)
        loop = self.loop
        self.modules = loop.controller.partition.table()
        self.estimator = loop.controller.estimator
        if self.estimator.name == STEP:  # a checkpoint has no step: the estimator of the same rows
            self.estimator = replace(self.estimator, name="loss")
        job.settings.check_run(self.checkpoints[-1][0], loop.steps)
        samples = loop.task.probe(stream_seed(job.spec.seed, "branches", "samples"), job.settings.samples)
        self.samples = loop.evaluation.cut(samples)
        held_out = min(job.settings.validation_samples, loop.task.sizes["validation"])
        self.held_out = loop.evaluation.cut(next(loop.task.batches("validation", held_out)))
        self.val_samples = {MODULE: held_out, SET: loop.task.sizes["validation"]}
        self.corrupted = loop.task.corrupted()
        self.done: dict[tuple[Any, ...], dict[str, Any]] = {}
        self.seen: dict[int, dict[str, dict[str, float]] | None] = {}
        self._checkpoint: _Checkpoint | None = None

    def measured(self, step: int, share: float) -> Iterator[str]:
        """Train the branches of a checkpoint that have not been."""
        for branch in self.branches(step):
            if branch not in self.done:
                self.done[tuple(branch)] = self.row(branch, share)  # plain, as what is saved is
                yield f"{branch.part} {branch.name}"

    def branches(self, step: int) -> list[Branch]:
        names = [module["module"] for module in self.modules]
        found = [Branch(step, MODULE, name) for name in (*names, NONE)] if self.settings.steps else []
        return found + ([Branch(step, SET, name) for name in SETS] if self.settings.set_steps else [])

    def row(self, branch: Branch, share: float) -> dict[str, Any]:
        """Train one branch from the run as it is, and read it before and after."""
        if branch.step not in self.seen:
            self.seen[branch.step] = self._spectra(branch.step)
        seen = self.seen[branch.step]
        about = {"step": branch.step, "share": share, "part": branch.part, "branch": branch.name}
        names = self._names(branch, seen)
        about |= self._described(branch, names, seen)
        before, after = dict.fromkeys(READ, math.nan), dict.fromkeys(READ, math.nan)
        if seen is not None:
            if self._checkpoint is None or self._checkpoint.step != branch.step:
                self._checkpoint = _Checkpoint(self, branch.step)
            checkpoint = self._checkpoint
            before = checkpoint.before[branch.part]
            if checkpoint.train(branch.part, names):
                after = checkpoint.read(branch.part)
        about |= {f"{name}_before": value for name, value in before.items()}
        return about | {f"{name}_after": value for name, value in after.items()}

    def _spectra(self, step: int) -> dict[str, dict[str, float]] | None:
        """What is known of every module at the checkpoint; None where the run has overflowed, before or here."""
        loop = self.loop
        if loop.progress.diverged or loop.progress.step != step:
            return None
        controller, labels = loop.controller, loop.samples.labels
        probe = controller.partition, loop.samples.inputs
        try:  # by itself, because the run is vanilla's, whose controller measures nothing
            kernels = modular_ntk(loop.model, *probe, self.estimator, labels=labels)
            rows = kernels.table(controller.normalisation).to_dict("records")
            norms = gradient_norms(loop.model, *probe, labels, loop.task.sample_losses)
        except FloatingPointError:
            return None
        found = {row["module"]: {**row, "gradient_norm": norms[row["module"]]} for row in rows}
        return {name: {key: row[key] for key in KNOWN} for name, row in found.items()}

    def _names(self, branch: Branch, seen: Mapping[str, Mapping[str, float]] | None) -> tuple[str, ...]:
        """The modules that a branch trains, in the partition's order; none where λ_max is not known."""
        names = [module["module"] for module in self.modules]
        if branch.part == MODULE:
            return () if branch.name == NONE else (branch.name,)
        if seen is None or branch.name == NONE:
            return ()
        if branch.name == "all":
            return tuple(names)
        size = self.settings.set_size(len(names))
        if branch.name == "random":
            stream = generator(self.job.spec.seed, "branches", "random", branch.step)
            chosen = {names[i] for i in torch.randperm(len(names), generator=stream)[:size].tolist()}
        else:
            sign = -1 if branch.name == "top" else 1
            chosen = set(sorted(names, key=lambda name: sign * seen[name]["lambda_max"])[:size])
        return tuple(name for name in names if name in chosen)

    def _described(self, branch: Branch, names: tuple[str, ...], seen: Any) -> dict[str, Any]:
        """Depth, kind, sizes and, of a single module, what is known of it at the checkpoint."""
        own = {module["module"]: module for module in self.modules}
        single = own.get(branch.name) if branch.part == MODULE else None
        known = seen[branch.name] if single and seen is not None else dict.fromkeys(KNOWN, math.nan)
        return {
            "kind": single["kind"] if single else "",
            "layer": single["layer"] if single else -1,
            "parameters": sum(own[name]["parameters"] for name in names),
            "trained_modules": len(names),
            "members": " ".join(names) if branch.part == SET else "",
            "branch_steps": self.settings.steps if branch.part == MODULE else self.settings.set_steps,
            "val_samples": self.val_samples[branch.part],
            **known,
        }

    def table(self) -> pd.DataFrame:
        """Everything measured."""
        job, task, probe = self.job, self.loop.task, self.job.spec.probe
        settings = job.spec.task.settings
        noise = getattr(settings, "label_noise", getattr(settings, "token_noise", 0.0))
        about = {
            "modules": len(self.modules),
            "samples": self.settings.samples,
            "set_share": self.settings.set_share,
            "loss_unit": task.loss_unit,
            "metric": task.metrics[0].name,
            "noise": float(noise),
            "corrupted": 0 if self.corrupted is None else int((self.corrupted[1] != NOT_COUNTED).sum()),
            "probe_n": self.loop.extent.n,
            "estimator": self.estimator.name,
            "normalisation": probe.normalisation,
        }
        ordered = [branch for step, _ in self.checkpoints for branch in self.branches(step)]
        return pd.DataFrame([self.done[branch] for branch in ordered]).assign(**about)


class _Checkpoint:
    """The weights of one checkpoint: branches from them, and what is read off a branch."""

    def __init__(self, session: Branches, step: int) -> None:
        self.session, self.loop, self.step = session, session.loop, step
        self.fork = Fork(self.loop.model, self.loop.controller.partition)
        self.rate = schedule(self.loop.recipe, step, self.loop.steps)

    @cached_property
    def before(self) -> dict[str, dict[str, float]]:
        self.fork.reset()
        return {part: self.read(part) for part in (MODULE, SET)}

    @cached_property
    def _batches(self) -> list[tuple[int, Batch]]:
        loop, settings, found = self.loop, self.session.settings, []
        for step in range(self.step, self.step + max(settings.steps, settings.set_steps)):
            epoch, within = divmod(step, loop.steps_per_epoch)
            batch = loop.task.batch(loop.spec.seed, epoch, within, loop.recipe.batch)
            found.append((stream_seed(loop.spec.seed, "dropout", step), batch))
        return found

    def train(self, part: str, names: tuple[str, ...]) -> bool:
        """Train these modules, of a set with the remainder; False where it diverges."""
        settings = self.session.settings
        return self.fork.train(
            self._batches[: settings.steps if part == MODULE else settings.set_steps],
            names,
            lambda model, batch: self.loop.losses(model, batch)[1],
            self._optimizer,
            remainder=part == SET,
            clip=self.loop.recipe.clip,
            anneal=settings.anneal,
        )

    def _optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        optimizer = make_optimizer(self.loop.recipe, model)
        for group in optimizer.param_groups:
            group["lr"] *= self.rate
        return optimizer

    def read(self, part: str) -> dict[str, float]:
        """``READ`` of the fork's weights as they are: losses, the task's first metric, and the shares of corrupted
        samples that are answered by the given and by the true label; NaN for what is not read or not finite."""
        found = dict.fromkeys(READ, math.nan)
        found["train_loss"] = self._loss(self.session.samples)
        if part == MODULE:
            found["val_loss"] = self._loss(self.session.held_out)
        else:
            score = self.loop.evaluation.score("validation", self.fork.model)
            found["val_loss"] = score.loss
            found["val_metric"] = score.metrics[self.loop.task.metrics[0].name]
            found["memorised"], found["true"] = self._memorised()
        return {name: value if math.isfinite(value) else math.nan for name, value in found.items()}

    def _loss(self, batches: list[Batch]) -> float:
        answers = self.loop.evaluation.answers(self.fork.model, batches)
        losses = [self.loop.task.sample_losses(logits, labels) for logits, labels in answers]
        return torch.cat(losses).double().mean().item()

    def _memorised(self) -> tuple[float, float]:
        """Shares of the corrupted labels that the model answers with the given and with the true label."""
        if self.session.corrupted is None:
            return math.nan, math.nan
        batch, true = self.session.corrupted
        answered = self.loop.evaluation.answers(self.fork.model, self.loop.evaluation.cut(batch))
        found = torch.cat([logits.argmax(-1).cpu() for logits, _ in answered])
        counted = true != NOT_COUNTED
        return shares(found[counted], batch.labels[counted], true[counted])


def shares(answers: Tensor, given: Tensor, true: Tensor) -> tuple[float, float]:
    """Shares of ``answers`` [n] that are the ``given`` and the ``true`` labels; NaN without any."""
    if not len(answers):
        return math.nan, math.nan
    return tuple((answers == labels).double().mean().item() for labels in (given, true))
