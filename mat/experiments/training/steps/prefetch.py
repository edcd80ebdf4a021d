"""Training batches a few steps ahead: the next ones are made in the background while a step computes."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import torch

from mat.experiments.tasks.base import Batch, Task

AHEAD = 4  # batches; more than one, because the background thread may get its turn late in a short step


class Prefetch:
    """The batches of a run, by step. A batch is a pure function of (seed, epoch, step), so looking ahead changes
    nothing, and neither does a run that goes on in the middle of an epoch.

    Args:
        size: samples per batch.
        steps: of the whole run; nothing is made beyond them.
        pinned: in memory that a GPU reads by itself (``Machine.take``).
    """

    def __init__(self, task: Task, seed: int, size: int, steps: int, pinned: bool = False) -> None:
        self.task, self.seed, self.size, self.steps, self.pinned = task, seed, size, steps, pinned
        self.per_epoch = task.steps_per_epoch(size)
        # the number of threads of an operator is each thread's own setting
        self._pool = ThreadPoolExecutor(1, "prefetch", torch.set_num_threads, (torch.get_num_threads(),))
        self._made: dict[int, Future[Batch]] = {}

    def take(self, step: int) -> Batch:
        """The batch of ``step``, on the CPU; those after it are begun."""
        for number in range(step, min(step + AHEAD + 1, self.steps)):
            if number not in self._made:
                self._made[number] = self._begin(number)
        return self._made.pop(step).result()

    def _begin(self, step: int) -> Future[Batch]:
        epoch, within = divmod(step, self.per_epoch)
        return self._pool.submit(self._make, epoch, within)

    def _make(self, epoch: int, within: int) -> Batch:
        batch = self.task.batch(self.seed, epoch, within, self.size)
        if not self.pinned:
            return batch
        return Batch({name: value.pin_memory() for name, value in batch.inputs.items()}, batch.labels.pin_memory())

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
