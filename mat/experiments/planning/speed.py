"""How fast this machine trains, probes and evaluates a run's own model, and what a run takes beside that.

Timed is a model of the run's shapes with random weights on random inputs, on the CPU, for a fraction of a second each;
of a large model as many samples as make ``ENOUGH`` multiply-adds. Seconds are the processor's, by thread, so that what
else runs here does not count.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mat.errors import InputError
from mat.experiments.config.spec import Spec
from mat.experiments.task_signature import Signature
from mat.experiments.training.cost import Shape
from mat.experiments.training.steps.optimizer import make_optimizer
from mat.flops.executed import executed_macs
from mat.flops.nominal import nominal
from mat.forward import forward
from mat.kernels.ntk import modular_ntk
from mat.records.costs import FLOPS_PER_MAC

ENOUGH = 10**10
SECONDS = 0.2
LEAST = 0.02  # seconds that are told from none by a processor's clock that counts in hundredths
RATES = (1e-6, 1e9)  # GFLOP/s, of a calculator and of the largest machine
SQUARE = 256  # rows and columns of a product that is timed alone
START = "import json, sys; from mat.experiments.planning.speed import begin; begin(json.loads(sys.argv[1]))"


class Speed(NamedTuple):
    """GFLOP/s of the closed forms of training, probes and evaluation, and seconds that a run takes before its first
    step: what it builds and what it counts."""

    training: float
    probes: float
    evaluation: float
    setup: float

    @classmethod
    def of(cls, rate: float) -> Speed:
        """One rate for everything, and no more. Raises InputError for an impossible one."""
        if not RATES[0] <= rate <= RATES[1]:
            raise InputError(f"--rate must be a number of GFLOP/s from {RATES[0]:g} to {RATES[1]:g}, got {rate}")
        return cls(rate, rate, rate, 0.0)

    def seconds(self, training: int, probes: int, evaluation: int, runs: int) -> float:
        """Of one worker; the first three in MACs."""
        flop = (FLOPS_PER_MAC * macs for macs in (training, probes, evaluation))
        return sum(one / rate for one, rate in zip(flop, self[:3], strict=True)) / 1e9 + runs * self.setup


def shapes(spec: Spec) -> str:
    """What the speed of a run depends on, as text: runs that share it are timed once."""
    signature, recipe = _signature(spec), spec.recipe
    inputs = {name: list(value.shape) for name, value in signature.example.items()}
    seen = (spec.model.plain, signature.objective, inputs, signature.outputs, recipe.batch, recipe.precision)
    return json.dumps((*seen, recipe.optimizer, list(Shape(spec).extent)), sort_keys=True)


def measured(spec: Spec) -> Speed:
    """Of this machine, with the run's number of threads. Raises InputError where task and model do not fit."""
    threads, family, signature, shape = torch.get_num_threads(), spec.model.module, _signature(spec), Shape(spec)
    torch.set_num_threads(spec.threads)
    begun = time.process_time()
    try:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = family.build(spec.model.settings, signature)
            samples = _drawn(signature, _few(3 * shape.forward, spec.recipe.batch))
            work = (1 + 2 * shape.extent.directions) * shape.forward
            probed = _drawn(signature, max(2, _few(work, shape.extent.n)))
        partition = family.partition(spec.model.settings, model)
        batch, n = (len(next(iter(inputs.values()))) for inputs in (samples, probed))
        optimizer = make_optimizer(spec.recipe, model)

        def step() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=spec.recipe.precision == "bfloat16"):
                logits = forward(model, samples).float()
            functional.cross_entropy(logits.flatten(0, -2), torch.zeros(logits[..., 0].numel(), dtype=int)).backward()
            optimizer.step()
            optimizer.zero_grad()

        def probe(first: bool = False) -> None:
            modular_ntk(model, partition, probed, directions=shape.extent.directions, verify=first)

        def evaluate() -> None:
            with torch.no_grad():
                forward(model, samples)

        nominal(model, partition, {name: value[:1] for name, value in samples.items()})
        executed_macs(step)
        executed_macs(lambda: probe(True))
        setup = (time.process_time() - begun) / spec.threads
        whole = family.work(spec.model.settings, signature, batch).step(partition.names, "exact")
        costs = ((step, whole), (probe, n * work), (evaluate, batch * shape.forward))
        return Speed(*(FLOPS_PER_MAC * macs / _seconds(run, spec.threads) / 1e9 for run, macs in costs), setup)
    finally:
        torch.set_num_threads(threads)


def bfloat16_ratio() -> float:
    """How many times as long a product of matrices takes here in bfloat16 as in float32: below 1 with AMX or AVX-512
    for it, tens without either."""
    seconds = []
    for dtype in (torch.bfloat16, torch.float32):
        square = torch.ones(SQUARE, SQUARE, dtype=dtype)
        seconds.append(_seconds(lambda square=square: square @ square, torch.get_num_threads()))
    return seconds[0] / seconds[1]


def begin(given: dict[str, Any]) -> None:
    """What a process does before it has a run's model: import what it takes, build it without its weights."""
    from mat.experiments.training import run  # noqa: F401

    spec = Spec.of(given)
    with torch.device("meta"):
        spec.model.module.partition(spec.model.settings, spec.model.module.build(spec.model.settings, _signature(spec)))


def start_seconds(spec: Spec) -> float:
    """Processor seconds of a new process that does so."""
    before = os.times()
    subprocess.run([sys.executable, "-c", START, spec.json], check=True, stderr=subprocess.DEVNULL)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def _signature(spec: Spec) -> Signature:
    return spec.task.module.outline(spec.task.settings).signature


def _few(macs: int, samples: int) -> int:
    """So many of the ``samples`` of so many ``macs`` that they are enough to be timed."""
    return max(1, min(samples, ENOUGH // macs))


def _drawn(signature: Signature, n: int) -> dict[str, Tensor]:
    """Random inputs (n, …): images, or tokens of which all are seen."""
    found = {}
    for name, value in signature.example.items():
        size = (n, *value.shape[1:])
        if value.dtype.is_floating_point:
            found[name] = torch.randn(size)
        elif name == "input_ids":
            found[name] = torch.randint(signature.vocabulary or signature.outputs, size)
        else:
            found[name] = torch.full(size, int(name == "attention_mask"), dtype=value.dtype)
    return found


def _seconds(run: Callable[[], Any], threads: int) -> float:
    """Of the fastest within ``SECONDS``, after a first that also sets things up; as many are timed together as take
    ``LEAST`` seconds."""
    run()
    best, end, count = float("inf"), time.process_time() + SECONDS * threads, 1
    while best == float("inf") or time.process_time() < end:
        start = time.process_time()
        for _ in range(count):
            run()
        spent = time.process_time() - start
        if spent < LEAST:
            count *= 2
        else:
            best = min(best, spent / count)
    return best / threads
