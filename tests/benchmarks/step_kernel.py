"""What reading a training step's kernels adds to the step: ``python -m tests.benchmarks.step_kernel``.

Every row is a ratio of runs that took turns in one process: a forward and backward pass with every weight gradient,
read or not, without tracing (as at every recorded step but the first), and without the optimizer, whose work is the
same. No test asserts these numbers.
"""

from __future__ import annotations

import argparse
import functools

import torch
from torch import Tensor, nn

from mat.flops.executed import executed_macs
from mat.kernels.probes.step import step_kernels
from mat.partition.discovery import partition_model
from mat.partition.partition import Partition
from tests.benchmarks.kernel import bert, step, vgg16
from tests.benchmarks.timing import ratio, side_by_side, table

SHAPES = {
    "BERT-small (4 × 512, 8 heads, S 128), batch 32": (lambda: bert(4, 512, 8, 32), (32, 8)),
    "the same, batch 8": (lambda: bert(4, 512, 8, 8), (8,)),
    "VGG16 at 32×32, batch 64": (vgg16, (64, 8)),
}


def read_step(model: nn.Module, inputs: dict[str, Tensor], labels: Tensor, partition: Partition, n: int) -> None:
    with step_kernels(model, partition, n, verify=False):
        step(model, inputs, labels)


def measure(device: str, rounds: int) -> None:
    rows = []
    for name, (make, sizes) in SHAPES.items():
        model, inputs, labels = make()
        model.to(device)
        given = {key: value.to(device) for key, value in inputs.items()}, labels.to(device)
        partition = partition_model(model)
        plain = functools.partial(step, model, *given)
        for n in sizes:
            runs = {"plain": plain, "read": functools.partial(read_step, model, *given, partition, n)}
            took = side_by_side(runs, rounds)
            macs = {key: executed_macs(run, device)[0] for key, run in runs.items()}
            rows.append([name, str(n), ratio(took, "read", "plain"), f"{macs['read'] / macs['plain']:.3f}"])
    table("A step whose kernels are read / the step", ["model", "n", "seconds", "multiply-adds"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    measure(given.device, given.rounds)


if __name__ == "__main__":
    main()
