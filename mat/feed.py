"""Training batches one step ahead: the next is made in the background while a step computes."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import torch

from mat.tasks.base import Batch, Task


class Feed:
    """The batches of a run, by step. A batch is a pure function of (seed, epoch, step), so looking ahead changes
    nothing, and neither does a run that goes on in the middle of an epoch.

    Args:
        size: samples per batch.
        steps: of the whole run; nothing is made beyond them.
    """

    def __init__(self, task: Task, seed: int, size: int, steps: int) -> None:
        self.task, self.seed, self.size, self.steps = task, seed, size, steps
        self.per_epoch = task.steps_per_epoch(size)
        # the number of threads of an operator is each thread's own setting
        self._pool = ThreadPoolExecutor(1, "feed", torch.set_num_threads, (torch.get_num_threads(),))
        self._ahead: tuple[int, Future[Batch]] | None = None

    def take(self, step: int) -> Batch:
        """The batch of ``step``, on the CPU; the one after it is begun."""
        step_ahead, batch = self._ahead or (None, None)
        if step_ahead != step:
            batch = self._begin(step)
        self._ahead = (step + 1, self._begin(step + 1)) if step + 1 < self.steps else None
        return batch.result()

    def _begin(self, step: int) -> Future[Batch]:
        epoch, within = divmod(step, self.per_epoch)
        return self._pool.submit(self.task.batch, self.seed, epoch, within, self.size)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
