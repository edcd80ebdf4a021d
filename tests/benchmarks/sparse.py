"""What a sparse training step costs beside a dense one: ``python -m tests.benchmarks.sparse``.

A step is forward, backward and AdamW; the dense one is plain PyTorch on the unwrapped model. For an active share s,
round(s · count) modules of every kind are drawn at random, anew in each round; times and executed FLOPs are of the
same set, the dense step is timed before and after each sparse one, and what counts is how far the ratio of times, on
the clock and in CPU seconds, lies above the ratio of FLOPs. No test asserts these numbers. Parts are chosen by name
(``--only bert memory``); ``--device cuda`` runs the timings and the memory on a GPU, ``--precision bfloat16`` under
autocast, and ``--json`` keeps the numbers.
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mat.backward.sparse import SparseBackward
from mat.experiments.models import switch
from mat.experiments.task_signature import Signature
from mat.flops.executed import executed_macs
from mat.partition.discovery import partition_model
from mat.partition.draw import draw
from tests.benchmarks.kernel import bert, outputs, vgg16
from tests.benchmarks.timing import peak_memory, peak_tensors, table

SHARES = (1.0, 0.66, 0.34, 0.1)
MODES = ("detach", "exact")


def switch_small(n: int = 16, length: int = 128, words: int = 2048):
    torch.manual_seed(0)
    ids = torch.randint(words, (n, length))
    model = switch.build(
        switch.Settings(layers=4, width=512, heads=8), Signature("masked_lm", {"input_ids": ids[:1]}, words)
    )
    return model, {"input_ids": ids}, ids


MODELS = {
    "bert": ("BERT-small (4 × 512, 8 heads, sequence 128 × 32), two classes", lambda: bert(4, 512, 8, 32)),
    "mlm": ("the same with a head of 30,522 words", lambda: bert(4, 512, 8, 32, labels=None)),
    "vgg": ("VGG16 at 32×32, batch 128", lambda: vgg16(128)),
    "bert_base": ("BERT-base (12 × 768, sequence 128 × 32), 30,522 words", lambda: bert(12, 768, 12, 32, labels=None)),
    "tiny": ("BERT (2 × 32, sequence 16 × 4), 100 words", lambda: bert(2, 32, 2, 4, 16, None, 100)),
    "switch": ("Switch (4 × 512, 4 experts, sequence 128 × 16, 2,048 words)", switch_small),
}


ASKED_FOR = ("bert_base", "tiny")  # timed where they are named


def forward_backward(model: nn.Module, inputs: dict[str, Tensor], labels: Tensor, half: bool = False) -> None:
    with torch.autocast(labels.device.type, torch.bfloat16, enabled=half):
        logits = outputs(model, inputs)
    F.cross_entropy(logits.float().flatten(0, -2), labels.flatten()).backward()


def stepper(
    model: nn.Module, parameters, inputs: dict[str, Tensor], labels: Tensor, half: bool = False
) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(parameters, lr=1e-5)
    model.train()

    def step() -> None:
        forward_backward(model, inputs, labels, half)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


class Spent(NamedTuple):
    """Seconds on the clock, and of the process's own computing, which other processes disturb less."""

    clock: float
    cpu: float

    @classmethod
    def by(cls, run: Callable[[], object]) -> Spent:
        clock, cpu = time.perf_counter(), time.process_time()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return cls(time.perf_counter() - clock, time.process_time() - cpu)

    def beside(self, before: Spent, after: Spent) -> Spent:
        """As ratios to the mean of two others."""
        return Spent(*(2 * own / (a + b) for own, a, b in zip(self, before, after, strict=True)))


def step_times(name: str, device: str, rounds: int, half: bool) -> dict[str, Any]:
    """Prints the table of a model; its numbers, of a dense step and by mode and active share."""
    title, make = MODELS[name]
    model, inputs, labels = make()
    model.to(device)
    inputs, labels = {k: v.to(device) for k, v in inputs.items()}, labels.to(device)
    runs = {}
    for mode in MODES:
        twin = copy.deepcopy(model)
        sparse = SparseBackward(twin, partition_model(twin), mode)
        step = stepper(twin, sparse.parameters(), inputs, labels, half)
        step()  # every module's optimizer state is there before any time is taken
        runs[mode] = (twin, sparse, step)
    dense = stepper(model, model.parameters(), inputs, labels, half)
    dense_macs, _ = executed_macs(functools.partial(forward_backward, model, inputs, labels, half), device)
    model.zero_grad(set_to_none=True)
    dense()
    found: dict[tuple[str, float], list[tuple[Spent, float]]] = {}
    changes, plain = [], []
    for turn in range(rounds):
        before = Spent.by(dense)
        for mode, (twin, sparse, step) in runs.items():
            for share in SHARES:
                active = draw(sparse.partition, share, turn)
                changes.append(Spent.by(functools.partial(sparse.set_active, active)).clock / before.clock)
                macs, _ = executed_macs(functools.partial(forward_backward, twin, inputs, labels, half), device)
                for leaf in sparse.parameters():
                    leaf.grad = None
                step()  # memory settles into the new set's sizes, as within an interval between probes
                taken = Spent.by(step)
                after = Spent.by(dense)
                plain.append(after.clock)
                found.setdefault((mode, share), []).append((taken.beside(before, after), macs / dense_macs))
                before = after
    rows = []
    for (mode, share), pairs in found.items():
        row = [mode, f"{share:g}", f"{statistics.median(macs for _, macs in pairs):.3f}"]
        for kind in Spent._fields:
            above = sorted(getattr(taken, kind) - macs for taken, macs in pairs)
            row += [
                f"{statistics.median(getattr(taken, kind) for taken, _ in pairs):.3f}",
                f"{statistics.median(above):+.3f} [{above[0]:+.3f}, {above[-1]:+.3f}]",
            ]
        rows.append(row)
    header = ["mode", "active share", "FLOPs / dense", "time / dense", "time − FLOPs [range]"]
    header += ["CPU seconds / dense", "CPU seconds − FLOPs [range]"]
    table(f"{title}: {dense_macs / 1e9:.1f} GMAC, {len(sparse.partition.modules)} modules", header, rows)
    print(f"\nchanging the active set / dense step: at most {max(changes):.4f}")
    sparse_steps = [
        {
            "mode": mode,
            "share": share,
            "macs_to_dense": statistics.median(macs for _, macs in pairs),
            "time_to_dense": [taken.clock for taken, _ in pairs],
        }
        for (mode, share), pairs in found.items()
    ]
    seconds = statistics.median(plain)
    return {"model": title, "dense_macs": dense_macs, "dense_seconds": seconds, "sparse": sparse_steps}


def memory_run(name: str, device: str = "cpu") -> Callable[[], None]:
    """Builds the model and trains five steps; ``name`` is ``model/dense`` or ``model/share``."""
    key, share = name.split("/")

    def run() -> None:
        model, inputs, labels = MODELS[key][1]()
        model.to(device)
        inputs, labels = {k: v.to(device) for k, v in inputs.items()}, labels.to(device)
        if share == "dense":
            step = stepper(model, model.parameters(), inputs, labels)
        else:
            partition = partition_model(model)
            sparse = SparseBackward(model, partition, "detach")
            sparse.set_active(draw(partition, float(share), 0))
            step = stepper(model, sparse.parameters(), inputs, labels)
        for _ in range(5):
            step()

    return run


def memory(device: str) -> None:
    rows = []
    for key in [key for key in MODELS if key not in ASKED_FOR]:
        title = MODELS[key][0]
        names = [f"{key}/{share}" for share in ("dense", "1", "0.34")]
        if device == "cuda":
            held, resident = [], []
            for name in names:
                torch.cuda.reset_peak_memory_stats()
                memory_run(name, device)()
                held.append(torch.cuda.max_memory_allocated())
        else:
            threads = torch.get_num_threads()
            held = [peak_tensors(memory_run, name, threads) for name in names]
            resident = [peak - before for before, peak in (peak_memory(memory_run, n, threads) for n in names)]
        mib = [f"{size / 2**20:.0f}" for size in held]
        ratios = [f"{size / sizes[0]:.2f}" for sizes in (held, resident) for size in sizes[1:]]
        rows.append([title, *mib, *ratios])
    header = ["model", "dense, MiB", "share 1, MiB", "share 0.34, MiB", "share 1 / dense", "share 0.34 / dense"]
    if device == "cpu":
        header += ["resident, share 1 / dense", "resident, share 0.34 / dense"]
    table("Peak memory of model, optimizer and five steps, in tensors, mode detach", header, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parts = (*MODELS, "memory")
    usual = [part for part in parts if part not in ASKED_FOR]
    parser.add_argument("--only", nargs="+", choices=parts, default=usual, metavar="PART")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    where = torch.cuda.get_device_name() if args.device == "cuda" else platform.machine()
    print(f"torch {torch.__version__}, {where}, {args.precision}, {args.threads} threads, {args.rounds} rounds")
    numbers = []
    for part in args.only:
        if part == "memory":
            memory(args.device)
        else:
            numbers.append(step_times(part, args.device, args.rounds, args.precision == "bfloat16"))
        if args.json:
            args.json.write_text(json.dumps(numbers, indent=2))


if __name__ == "__main__":
    main()
