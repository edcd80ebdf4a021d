"""A model read on a split: loss and metrics, in batches, without gradients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mat.experiments.tasks.base import Batch, Score, Task
from mat.experiments.training.machine import Machine
from mat.forward import forward

SAMPLES = 256  # in a batch, or as many as make LOGITS
LOGITS = 2**26


@dataclass(frozen=True)
class Evaluation:
    """``logits``: of one sample."""

    task: Task
    logits: int
    machine: Machine

    @property
    def size(self) -> int:
        """Samples in a batch."""
        return max(1, min(SAMPLES, LOGITS // self.logits))

    def score(self, split: str, model: nn.Module) -> Score:
        """Loss and metrics of ``model`` on a whole split."""
        return self.task.score(split, self.answers(model, self.task.batches(split, self.size)))

    def answers(self, model: nn.Module, batches: Iterable[Batch]) -> Iterator[tuple[Tensor, Tensor]]:
        """Logits and labels of each batch by ``model`` in evaluation mode, without gradients."""
        model.eval()
        for batch in map(self.machine.take, batches):
            with torch.no_grad():
                logits = forward(model, batch.inputs)
            yield logits, batch.labels

    def cut(self, batch: Batch) -> list[Batch]:
        """A large batch in batches of ``size``."""
        return [
            Batch(
                {name: value[i : i + self.size] for name, value in batch.inputs.items()},
                batch.labels[i : i + self.size],
            )
            for i in range(0, len(batch.labels), self.size)
        ]
