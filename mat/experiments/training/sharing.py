"""The processes of one run: begun by ``torchrun``, each with its share of every batch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from mat import processes
from mat.errors import InputError
from mat.experiments.tasks.base import Batch

UNCOUNTED = -100


def asked() -> int:
    """How many processes ``torchrun`` has started for this; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def joined(device: str) -> Iterator[None]:
    """Within it the processes that ``torchrun`` has started are one group: gloo on CPUs, nccl on GPUs, one to each."""
    if asked() == 1:
        yield
        return
    if device == "cuda":
        place = int(os.environ["LOCAL_RANK"])
        if place >= torch.cuda.device_count():
            raise InputError(
                f"--device cuda: process {place} of this machine has no GPU, there are {torch.cuda.device_count()}; "
                "give --nproc-per-node at most as many"
            )
        torch.cuda.set_device(place)
    # gloo beside nccl: what processes tell each other stays on their hosts
    dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def check_count(wanted: int | None) -> None:
    """Raise InputError unless there are as many processes as a run is of; None: one."""
    if processes.count() != (wanted or 1):
        raise InputError(
            f"the run is of {wanted or 1} processes, here are {processes.count()}: start it by "
            f"torchrun --nproc-per-node {wanted or 1} -m mat train …, or leave processes out of the specification"
        )


def share(batch: Batch) -> tuple[Batch, float]:
    """This process's samples of a batch, and what its mean loss over the counted labels is to be multiplied with: the
    mean of that over the processes is then the mean over the whole batch, wherever its counted labels lie."""
    number = processes.count()
    if number == 1:
        return batch, 1.0
    size = len(batch.labels) // number
    rows = slice(processes.rank() * size, (processes.rank() + 1) * size)
    labels = batch.labels[rows]
    weight = number * int((labels != UNCOUNTED).sum()) / max(int((batch.labels != UNCOUNTED).sum()), 1)
    return Batch({name: value[rows] for name, value in batch.inputs.items()}, labels), weight


def mean(value: Tensor) -> Tensor:
    """Of a number, the mean over the processes; the same in all, to the bit."""
    if processes.count() > 1:
        dist.all_reduce(value := value.clone())
        value /= processes.count()
    return value


def total(*numbers: int) -> list[int]:
    """The sum over the processes of each whole number."""
    return _reduced(numbers, dist.ReduceOp.SUM)


def anywhere(*flags: bool) -> list[bool]:
    """Of each flag, whether it is true in any process."""
    return [bool(number) for number in _reduced([int(flag) for flag in flags], dist.ReduceOp.MAX)]


def _reduced(numbers: list[int] | tuple[int, ...], way: dist.ReduceOp.RedOpType) -> list[int]:
    if processes.count() == 1:
        return list(numbers)
    message = torch.tensor(numbers, dtype=torch.int64)
    dist.all_reduce(message, way)
    return message.tolist()
