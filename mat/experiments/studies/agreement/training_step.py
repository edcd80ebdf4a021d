"""A training step of a run on samples that it is not trained on, and the kernels that are read from it.

The step is made on a copy of the model, in training mode and the recipe's precision: modes, gradients, batch statistics
and generators of the run stay as they are.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from mat.experiments.tasks.base import Batch
from mat.experiments.training.loop import Loop
from mat.kernels.probes.step import step_kernels


class TrainingStep:
    """The forward and backward pass of ``loop``'s run, as it is at this moment, on ``batch``; ``seed`` draws what is
    random in it (dropout)."""

    def __init__(self, loop: Loop, batch: Batch, seed: int) -> None:
        self.loop, self.batch, self.seed = loop, batch, seed
        self.model = copy.deepcopy(loop.model).train()

    def kernels(self, n: int) -> dict[str, Tensor]:
        """Module -> (n, n) float64, of the first ``n`` samples of the batch, read as after a run's first recorded step.

        Raises InputError where the model has a use of parameters that no rule follows (``mat.kernels.probes.step``).
        """
        with step_kernels(self.model, self.loop.controller.partition, n, verify=False) as step:
            self.plain()
        assert step.kernels is not None  # else step_kernels has refused
        return dict(step.kernels)

    def plain(self) -> dict[str, Tensor]:
        """The same passes, of which nothing is read: no kernels."""
        self.model.zero_grad(set_to_none=True)
        cuda = [self.loop.machine.device] if self.loop.machine.device == "cuda" else []
        with torch.random.fork_rng(cuda):
            self.loop.machine.seed(self.seed)
            _, minimised = self.loop.losses(self.model, self.batch)
            minimised.backward()
        return {}
