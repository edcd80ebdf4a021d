"""Time steps of a run's recipe at active shares, in turn with dense steps, and its probe.

Machines are noisy and shared: every measurement stands between two of dense steps on the same batch, and what counts is
the ratio to them, on the clock and in CPU seconds. Weights and optimizer are those of the run's beginning, after a step
or two: a step lasts as long whatever has been learned.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from mat.backward.optimizers import adopt
from mat.backward.promises import FIRST
from mat.backward.sparse import SparseBackward
from mat.experiments.studies.session import Job, Session
from mat.experiments.training.loop import initial_model
from mat.experiments.training.machine import Machine, Spent
from mat.experiments.training.steps.optimizer import make_optimizer
from mat.flops.executed import executed_macs
from mat.kernels.estimators import STEP
from mat.kernels.ntk import modular_ntk
from mat.kernels.spectrum import eigen_macs
from mat.partition.draw import draw
from mat.partition.partition import Partition
from mat.seeds import stream_seed

PROBE = "probe"
Probe = tuple[Callable[[], object], int]  # makes one, and its MACs


class StepTimes(Session):
    """The table has one row per round, mode and active share: executed MACs and seconds of a step, and those of a dense
    step beside it; and one per round of the run's probe, its mode ``probe``, where its estimator has one of its own."""

    rows = "times"
    kept = ("done", "dense_macs")

    def __init__(self, job: Job, out: Path, machine: Machine) -> None:
        super().__init__(job, out, machine)
        self.done: dict[int, list[dict[str, Any]]] = {}
        self.dense_macs = 0
        self.batch = self.loop.task.batch(job.spec.seed, 0, 0, self.loop.recipe.batch)  # none is made beside

    def measured(self, step: int, share: float) -> Iterator[str]:
        """Time what has not been, round by round."""
        if len(self.done) == self.settings.rounds:
            return
        dense = _Side(self, None)
        self.dense_macs = dense.macs()
        sparse, probe = {mode: _Side(self, mode) for mode in self.settings.modes}, self._probe()
        for turn in range(self.settings.rounds):
            if turn not in self.done:
                self.done[turn] = list(self._round(turn, dense, sparse, probe))
                yield f"round {turn + 1} of {self.settings.rounds}"

    def _round(
        self, turn: int, dense: _Side, sparse: dict[str, _Side], probe: Probe | None
    ) -> Iterator[dict[str, Any]]:
        partition = self.loop.controller.partition
        before = dense.timed()
        for share in self.settings.active_shares:
            active = draw(partition, share, stream_seed(self.job.spec.seed, "step_times", turn, share))
            for mode, side in sparse.items():
                side.set_active(active)
                macs, spent, after = side.macs(), side.timed(), dense.timed()
                about = {"turn": turn, "mode": mode, "active_share": share, "active": len(active), "macs": macs}
                yield about | _beside(spent, before, after)
                before = after
        if probe is not None:
            run, macs = probe
            spent, after = self._time(run), dense.timed()
            about = {"turn": turn, "mode": PROBE, "active_share": 1.0, "active": len(partition.modules), "macs": macs}
            yield about | _beside(spent, before, after)

    def _probe(self) -> Probe | None:
        """The run's probe with its eigenvalues, and the MACs of both; None where steps themselves are read."""
        controller, loop = self.loop.controller, self.loop
        if controller.estimator.name == STEP:
            return None
        inputs, labels = loop.samples.inputs, loop.samples.labels
        kernels = partial(modular_ntk, loop.model, controller.partition, inputs, controller.estimator, labels=labels)
        macs, found = executed_macs(kernels, self.machine.device)
        size = len(next(iter(found.values())))
        return lambda: kernels().table(controller.normalisation), macs + len(found) * eigen_macs(size)

    def _time(self, run: Callable[[], object]) -> Spent:
        self.machine.wait()
        start = Spent.until_now()
        run()
        self.machine.wait()
        return Spent.until_now() - start

    def table(self) -> pd.DataFrame:
        """Everything measured."""
        rows = [row for turn in sorted(self.done) for row in self.done[turn]]
        modules = len(self.loop.controller.partition.modules)
        return pd.DataFrame(rows).assign(dense_macs=self.dense_macs, modules=modules, timed=self.settings.steps)


class _Side:
    """A model of its own that makes steps of the recipe, plain ones where ``mode`` is None."""

    def __init__(self, session: StepTimes, mode: str | None) -> None:
        self.session, loop = session, session.loop
        self.model, _ = initial_model(loop.spec, loop.task, Path(), session.machine)
        self.model.to(session.machine.device)
        self.optimizer = make_optimizer(loop.recipe, self.model)
        self.sparse = None if mode is None else self._sparse(loop.controller.partition, mode)
        # the optimizer's state of every module is there, and the checks of its first steps are over, before any time is
        for _ in range(FIRST):
            self.step()

    def _sparse(self, partition: Partition, mode: str) -> SparseBackward:
        sparse = SparseBackward(self.model, partition, mode)
        sparse.look(self.session.loop.samples.inputs)
        adopt([self.optimizer], self.model, partition, sparse.leaves, {})
        return sparse

    def set_active(self, active: Collection[str]) -> None:
        assert self.sparse is not None  # the dense side trains everything
        self.sparse.set_active(active)

    def passes(self) -> None:
        """Forward and backward."""
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        self.session.loop.losses(self.model, self.session.batch)[1].backward()

    def step(self) -> None:
        self.passes()
        clip = self.session.loop.recipe.clip
        if clip:
            nn.utils.clip_grad_norm_([p for group in self.optimizer.param_groups for p in group["params"]], clip)
        self.optimizer.step()

    def macs(self) -> int:
        return executed_macs(self.passes, self.session.machine.device)[0]

    def timed(self) -> Spent:
        """Of one step, from several after one that is not timed: memory settles into the sizes of the active set."""
        self.step()
        count = self.session.settings.steps
        spent = self.session._time(lambda: [self.step() for _ in range(count)])
        return spent * (1 / count)


def _beside(spent: Spent, before: Spent, after: Spent) -> dict[str, float]:
    """Seconds, and those of the dense steps before and after as their mean."""
    dense = (before + after) * 0.5
    return {
        "seconds": spent.clock,
        "cpu_seconds": spent.cpu,
        "dense_seconds": dense.clock,
        "dense_cpu_seconds": dense.cpu,
    }
