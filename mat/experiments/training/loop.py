"""One run: probe → select → step → record, resumable at any step and bit-identical when it is."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mat import processes
from mat.controller import Controller
from mat.errors import InputError
from mat.experiments.config.spec import Spec
from mat.experiments.models.closed_form import ModelWork
from mat.experiments.tasks.base import Batch, Task
from mat.experiments.training import checkpoint, sharing
from mat.experiments.training.cost import extent, prices
from mat.experiments.training.machine import Machine, Spent
from mat.experiments.training.reference_run import Reference, reference
from mat.experiments.training.resume import Report
from mat.experiments.training.steps.evaluation import Evaluation
from mat.experiments.training.steps.loss_sum import LATE, LossSum
from mat.experiments.training.steps.optimizer import make_optimizer, schedule
from mat.experiments.training.steps.prefetch import Prefetch
from mat.flops import elementwise, executed
from mat.flops.nominal import nominal
from mat.forward import evaluation, forward
from mat.kernels.estimators import STEP
from mat.kernels.spectrum import eigen_macs
from mat.methods.base import probe_passes
from mat.partition.partition import Partition
from mat.records.columns import DIVERGED, FINISHED
from mat.records.costs import COST_LINES, total_macs
from mat.seeds import stream_seed

SINCE = {"share": 0.0, "reached": 0.0, "steps": 0}  # sums over the steps since the last evaluation


@dataclass
class Progress:
    """Everything that grows while a run goes on, in plain numbers: saved and restored as it is."""

    step: int = 0
    totals: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COST_LINES, 0))
    since: dict[str, float] = field(default_factory=lambda: dict(SINCE))
    curve: list[dict[str, Any]] = field(default_factory=list)
    step_macs: executed.Memo = field(default_factory=dict)
    recorded_macs: executed.Memo = field(default_factory=dict)
    optimizer_macs: dict[tuple, int] = field(default_factory=dict)
    probe_macs: dict[tuple, int] = field(default_factory=dict)
    timed: int = 0
    untimed: int = 0
    diverged: bool = False


class Loop:
    """A run in memory: ``advance`` is one step, ``state`` and ``restore`` are what a later process needs.

    ``out``: the run's folder; what it follows and starts from is beside it. ``trained``: the model as training calls
    it. Of several processes each trains on its share of the batch, as DistributedDataParallel has it: batch norms see
    the share, dropout is drawn for each, and what a model adds to the loss is of the share. The first evaluates and
    probes; costs are of all of them, the optimizer's step, which each makes, is counted once.
    """

    def __init__(self, spec: Spec, out: Path, machine: Machine) -> None:
        self.spec, self.machine, self.recipe = spec, machine, spec.recipe
        self.task: Task = spec.task.module.load(spec.task.settings, machine.data, machine.cache)
        self.steps_per_epoch = self.task.steps_per_epoch(self.recipe.batch)
        self.model, self.start_hash = initial_model(spec, self.task, out, machine)
        partition = spec.model.module.partition(spec.model.settings, self.model)
        method = spec.method.settings
        follows = reference(spec, out, len(partition.modules))
        self.steps, self.scheduled = self._length(partition, follows)
        self.budget = None if self.recipe.match_compute is None else max(follows.macs, 1)
        self.extent = extent(spec, self.task.signature, self.steps_per_epoch)
        self.samples = machine.take(self.task.probe(spec.seed, self.extent.n))
        self.nominal = nominal(self.model, partition, self.task.signature.example)
        with evaluation(self.model):  # nothing moves, batch statistics included
            self.outputs_per_sample = forward(self.model, self.task.signature.example).numel()
        self.evaluation = Evaluation(self.task, self.outputs_per_sample, machine)
        self.model.to(machine.device)
        self.controller = self._controller(partition, self.samples, follows)
        self.ledger = executed.StepLedger(
            self.model, partition, "dense" if method.dense else method.mode, machine.device
        )
        self.optimizer = make_optimizer(self.recipe, self.model)
        self.controller.adopt(self.optimizer)
        self.trained = self._trained(partition)
        if not self.controller.looked:  # here and not in the first step, whose products are counted
            self.controller.look(self.samples.inputs)
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.prefetch = Prefetch(self.task, spec.seed, self.recipe.batch, self.steps, pinned=machine.device == "cuda")
        self.progress = Progress()
        # a CPU has a loss when the call that computes it returns
        self.loss_sum = LossSum(machine.device, LATE if machine.device == "cuda" else 0)

    def _trained(self, partition: Partition) -> nn.Module:
        if processes.count() == 1:
            return self.model
        # experts may get no token: the reducer of DDP, which a dense method trains by, must be told
        routed = any(module.kind == "expert" for module in partition.modules)
        return DistributedDataParallel(self.model, find_unused_parameters=routed)

    def _length(self, partition: Partition, follows: Reference) -> tuple[int, int]:
        """Steps that are trained, at most, and steps that the learning rate's schedule goes over."""
        scheduled = self.recipe.steps(self.steps_per_epoch)
        if self.recipe.match_compute is not None:  # no step costs less than one that trains the remainder alone
            return max(-(-follows.macs // prices(self.spec, self.task.signature).step), 1), scheduled
        whole = self._closed_form().step(partition.names, "exact")
        return self.spec.method.settings.length(scheduled, whole, follows.macs)

    def _closed_form(self) -> ModelWork:
        return self.spec.model.module.work(self.spec.model.settings, self.task.signature, self.recipe.batch)

    @property
    def done(self) -> float:
        """Share of the training that lies behind, from 1 on its end: of its steps, or of the compute that it has."""
        if self.budget is None:
            return self.progress.step / self.steps
        charged = bool(self.spec.method.settings.reads)
        return total_macs(self.progress.totals, "executed", charged) / self.budget

    def _cost(self, follows: Reference) -> Callable[[Collection[str]], float] | None:
        """Of training modules throughout, by closed form, as a share of what the run that is followed spent."""
        if follows.macs is None:
            return None
        work, mode, macs = self._closed_form(), self.spec.method.settings.mode, follows.macs
        return lambda active: self.steps * work.step(active, mode) / macs

    def _controller(self, partition: Partition, samples: Batch, follows: Reference) -> Controller:
        probe = self.spec.probe
        of_step = probe.estimator == STEP
        return Controller(
            self.model,
            partition,
            self.spec.method.settings,
            None if of_step else samples.inputs,
            every=self.extent.every,
            first=self.spec.first_probe(self.scheduled),
            estimator=probe.estimator,
            normalisation=probe.normalisation,
            directions=self.extent.directions,
            positions=probe.positions,
            probe_labels=samples.labels,
            loss=self.task.sample_losses,
            n=self.extent.n if of_step else None,
            seed=self.spec.seed,
            counts=follows.counts,
            cost=self._cost(follows),
            length=self.steps,
            growth=probe.growth,
        )

    @property
    def stands_on(self) -> dict[str, Any]:
        """What its numbers come of, beside specification and code."""
        return {
            "data_hash": self.task.data_hash,
            "start_hash": self.start_hash,
            "torch": str(torch.__version__),
            "device": self.machine.device,
        }

    def work(self, report: Report) -> Iterator[None]:
        """Train to the end, step by step."""
        while self.done < 1 and not self.progress.diverged:
            self.advance(report)
            yield

    def advance(self, report: Report) -> None:
        """One training step, with the probe before it and the evaluation after it where they are due."""
        progress = self.progress
        if progress.step == 0:
            self._evaluate(report)
        place = progress.step if self.budget is None else self.done * self.scheduled
        try:
            self._begin()
        except FloatingPointError:  # a kernel that is not finite: the weights have overflowed
            progress.diverged = True
            self._evaluate(report)
            return
        active = self.controller.active
        start = Spent.until_now()
        batch = self.prefetch.take(progress.step)
        progress.totals["seconds_data"] += time.perf_counter() - start.clock
        rate = schedule(self.recipe, place, self.scheduled)
        for group, base in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = base * rate
        # a stream per step: dropout neither depends on what ran before nor needs to be saved
        rank = [processes.rank()] if processes.rank() else []
        self.machine.seed(stream_seed(self.spec.seed, "dropout", progress.step, *rank))
        known = self._counted()
        if self.controller.recording is None:
            channels = self.controller.selection.channels
            counted = self.ledger.step(lambda: self._step(batch), active, progress.step_macs, channels)
            beside = Spent()
        else:
            counted, beside = self._recorded(batch, active)
        counted = _of_all(counted, sorted(self.ledger.row))
        totals = progress.totals
        totals["macs_executed"] += counted.macs
        totals["macs_nominal"] += self.nominal.step(self.recipe.batch, active, counted.routed)
        progress.step += 1
        self._time(start + beside, counting=known != self._counted())
        for name, modules in (("share", active), ("reached", self.controller.reached)):
            progress.since[name] += len(modules) / len(self.controller.partition.modules)
        progress.since["steps"] += 1
        if not self.loss_sum.add(counted.result):
            progress.diverged = True
        if progress.diverged or progress.step % self.recipe.evaluate_every == 0 or self.done >= 1:
            self._evaluate(report)

    def _counted(self) -> tuple[int, int]:
        progress = self.progress
        return len(progress.step_macs) + len(progress.recorded_macs), len(progress.optimizer_macs)

    def _spend(self, what: str, spent: Spent) -> None:
        totals = self.progress.totals
        totals[f"seconds_{what}"] += spent.clock
        totals[f"seconds_cpu_{what}"] += spent.cpu

    def _time(self, start: Spent, counting: bool) -> None:
        """Counting is slow and no part of training: a counted step is taken to last as long as the next plain one,
        or, when none follows, as the plain ones did on average. Both are waited for, other steps only where a row of
        the curve or a probe reads what they made (``_catch_up``)."""
        progress, totals = self.progress, self.progress.totals
        if counting or progress.untimed:
            self.machine.wait()
        spent = Spent.until_now() - start
        if not counting:
            self._spend("train", spent * (1 + progress.untimed))
            progress.timed, progress.untimed = progress.timed + 1 + progress.untimed, 0
            return
        progress.untimed += 1
        if self.done >= 1:
            trained = Spent(totals["seconds_train"], totals["seconds_cpu_train"])
            mean = trained * (1 / progress.timed) if progress.timed else spent
            self._spend("train", mean * progress.untimed)

    def _catch_up(self) -> None:
        """Until the device has done the steps it was given: the time that this takes is theirs."""
        start = Spent.until_now()
        self.machine.wait()
        self._spend("train", Spent.until_now() - start)

    def _begin(self) -> None:
        if self.controller.due:
            self._catch_up()
        if not (self.controller.due and self.controller.probes) or self.controller.estimator.name == STEP:
            self.controller.begin_step()
            return
        controller, totals, first = self.controller, self.progress.totals, not self.controller.history
        start = Spent.until_now()
        controller.begin_step()
        self._spend("probe", Spent.until_now() - start)
        modules, memo = len(controller.partition.modules), self.progress.probe_macs
        key = (first, *(row.get("way", "") for row in controller.records[-modules:]))
        routes = self.ledger.experts != {}  # what a probe costs depends on where its samples are sent
        if processes.rank() > 0:
            memo[key] = 0  # the first one's ledger is written
        elif routes or key not in memo:  # apart from the probe itself, because counting is slow
            memo[key], _ = executed.executed_macs(lambda: controller.measure(first), self.machine.device)
        totals["macs_executed_probe"] += memo[key]
        self._charge_probe()

    def _charge_probe(self) -> None:
        """What the last probe costs by closed forms."""
        controller, totals = self.controller, self.progress.totals
        for passes in probe_passes(controller.measured, controller.estimator.count(self.outputs_per_sample)):
            totals["macs_nominal_probe"] += self.nominal.probe(self.extent.n, passes)
        modules = len(controller.partition.modules)
        totals["macs_eigen"] += (modules + 1) * eigen_macs(len(controller.history[-1].integral))

    def _recorded(self, batch: Batch, active: frozenset[str]) -> tuple[executed.Counted, Spent]:
        """A step whose kernels are read, and what its probe took in it.

        The probe is charged with all products beside the pass, less what the weight gradients cost by themselves. Its
        seconds, which lie within the step, include the counting where an active set is counted.
        """
        recording, progress, totals = self.controller.recording, self.progress, self.progress.totals
        assert recording is not None  # as the caller knows
        again = self.ledger.experts == {} and bool(self.controller.history)  # the first traces every row
        memo, key = progress.recorded_macs if again else {}, tuple(sorted(active))
        counting, macs, spent = key not in memo, 0, Spent()

        def watch(run: Callable[[], None]) -> None:
            nonlocal macs, spent
            start = Spent.until_now()
            if counting:
                macs += executed.macs_within(run)
            else:
                run()
            spent += Spent.until_now() - start

        recording.watch = watch
        counted = self.ledger.step(lambda: self._step(batch), active, memo)
        start = Spent.until_now()
        try:
            self.controller.end_step()
        except FloatingPointError:  # a kernel that is not finite: the gradients have overflowed
            progress.diverged = True
        else:
            self._charge_probe()
        spent += Spent.until_now() - start
        self._spend("probe", spent)
        if counting:
            progress.probe_macs[key] = macs - recording.macs
        totals["macs_executed_probe"] += processes.count() * progress.probe_macs[key]
        return replace(counted, macs=counted.macs - progress.probe_macs[key]), spent

    def losses(self, model: nn.Module, batch: Batch, weight: float = 1.0) -> tuple[Tensor, Tensor]:
        """The task's loss of ``model`` on a batch, in the recipe's precision and times ``weight``, and what a training
        step minimises: it and what the model adds; both differentiable. Of weight 0 is what has no counted label."""
        batch, half = self.machine.take(batch), self.recipe.precision == "bfloat16"
        with torch.autocast(self.machine.device, torch.bfloat16, enabled=half):
            logits = forward(model, batch.inputs)
        loss = weight * self.task.loss(logits.float(), batch.labels) if weight else 0 * logits.float().sum()
        plain = model.module if isinstance(model, DistributedDataParallel) else model
        extra = plain.extra_loss() if hasattr(plain, "extra_loss") else None
        return loss, loss if extra is None else loss + extra

    def _step(self, batch: Batch) -> Tensor:
        if not self.trained.training:  # after an evaluation; to set every module's mode takes long
            self.trained.train()
        loss, minimised = self.losses(self.trained, *sharing.share(batch))
        self.optimizer.zero_grad(set_to_none=True)
        minimised.backward()
        key, memo = elementwise.optimizer_key(self.optimizer), self.progress.optimizer_macs
        if key in memo:
            self._update()
        else:
            memo[key], _ = elementwise.elementwise_macs(self._update)
        self.progress.totals["macs_optimizer"] += memo[key]
        return sharing.mean(loss.detach())

    def _update(self) -> None:
        if self.recipe.clip:
            nn.utils.clip_grad_norm_(list(self.controller.parameters()), self.recipe.clip)
        self.optimizer.step()

    def _evaluate(self, report: Report) -> None:
        self._catch_up()
        progress, since = self.progress, self.progress.since
        start, total = time.perf_counter(), self.loss_sum.take()
        if not math.isfinite(total):
            progress.diverged = True
        score = processes.of_first(lambda: self.evaluation.score("validation", self.model))
        loss, metric = score.loss, score.metrics[self.task.metrics[0].name]
        progress.totals["macs_eval"] += self.nominal.forward * self.task.sizes["validation"]
        progress.totals["seconds_eval"] += time.perf_counter() - start
        steps = since["steps"]
        row = {
            "step": progress.step,
            "epoch": progress.step / self.steps_per_epoch,
            "train_loss": total / steps if steps else math.nan,
            "val_loss": loss,
            "val_metric": metric,
            **{f"val_{metric.name}": score.metrics.get(metric.name, math.nan) for metric in self.task.metrics},
            **progress.totals,
            "active_share": since["share"] / steps if steps else math.nan,
            "reached_share": since["reached"] / steps if steps else math.nan,
        }
        progress.curve.append(row)
        progress.since = dict(SINCE)
        said = [
            f"step {row['step']}" + (f"/{self.steps}" if self.budget is None else f", {self.done:.0%} of its compute"),
            f"epoch {row['epoch']:.2f}",
            *([f"train loss {row['train_loss']:.4f}"] if steps else []),  # nothing has been trained before the first
            f"validation loss {loss:.4f}",
            f"{self.task.metrics[0].name} {metric:.4f}",
            *([f"active {row['active_share']:.0%}, reached {row['reached_share']:.0%}"] if steps else []),
        ]
        report("  ".join(said), min(self.done, 1.0))

    def finish(self) -> dict[str, Any]:
        """The test split, read once, at the end; nothing of it for a run that diverged. Nothing trains after it."""
        self.prefetch.close()
        self.controller.close()
        curve = pd.DataFrame(self.progress.curve)
        best = curve["val_loss"].idxmin() if curve["val_loss"].notna().any() else None
        diverged = self.progress.diverged
        test = None if diverged else processes.of_first(lambda: self.evaluation.score("test", self.model))
        if test is not None and not math.isfinite(test.loss):  # the very last step overflowed
            self.progress.diverged, test = True, None
        return {
            "status": DIVERGED if self.progress.diverged else FINISHED,
            "steps": self.progress.step,
            "test_loss": None if test is None else test.loss,
            "test_metric": None if test is None else test.metrics[self.task.metrics[0].name],
            "test_metrics": {} if test is None else test.metrics,
            "best_val_loss": None if best is None else float(curve["val_loss"][best]),
            "best_step": None if best is None else int(curve["step"][best]),
        }

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "controller": self.controller.state_dict(),
            "progress": vars(self.progress),
            "loss_sum": self.loss_sum.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.controller.load_state_dict(state["controller"])
        self.progress = Progress(**state["progress"])
        self.loss_sum.restore(state["loss_sum"])


def _of_all(counted: executed.Counted, experts: list[str]) -> executed.Counted:
    """One step's costs in all processes together."""
    routed = counted.routed
    macs, *rows = sharing.total(counted.macs, *((routed or {}).get(name, 0) for name in experts))
    return replace(counted, macs=macs, routed=None if routed is None else dict(zip(experts, rows, strict=True)))


def initial_model(spec: Spec, task: Task, out: Path, machine: Machine) -> tuple[nn.Module, str | None]:
    """The model with the initial weights of its seed, or of the checkpoint that it starts from, and the checkpoint's
    SHA-256, if it does."""
    with torch.random.fork_rng():
        torch.manual_seed(stream_seed(spec.seed, "weights"))
        model = spec.model.module.build(spec.model.settings, task.signature)
    start_hash = None if spec.start is None else checkpoint.start(model, spec.start, task, out, machine)
    if spec.recipe.nudge is not None:
        _nudge(model, spec.recipe.nudge)
    return model, start_hash


@torch.no_grad()
def _nudge(model: nn.Module, share: float) -> None:
    """Move one weight by a ``share`` of it: the largest of the last matrix, which every sample goes through."""
    weights = [parameter for parameter in model.parameters() if parameter.dim() > 1][-1].view(-1)
    place = weights.abs().argmax()
    before = weights[place].item()
    weights[place] *= 1 + share
    if weights[place].item() == before:
        raise InputError(
            f"recipe: nudge: the largest weight, {before:g}, does not move by {share:g} of it; leave it out"
        )
