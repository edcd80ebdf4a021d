"""What a job asks a cluster for, by closed forms and shapes alone: minutes and memory.

Minutes are the plan's multiply-adds at a rate that is low on purpose, and a fixed part of every step; megabytes are
copies of the weights and what one pass keeps for its gradients. Both are doubled (``MARGIN``), added to what any
process takes, and multiplied by the attempt.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace

import torch

from mat.errors import InputError
from mat.experiments.config.runs import Run
from mat.experiments.config.spec import Spec
from mat.experiments.planning.rows import cost_of
from mat.experiments.planning.speed import Speed
from mat.experiments.studies.session import Job
from mat.experiments.training.cost import Cost
from mat.forward import forward

MARGIN = 2
RATES = {"cpu": 5.0, "cuda": 5000.0}  # GFLOP/s of one thread, of one GPU
STEP = 0.02  # seconds of a step beside its multiply-adds: launches, the optimizer, data, saved states
START = 10  # minutes until a process trains: imports, data, a first count
PROCESS = 1500  # MB of a process with everything imported and the data of a small task
COPIES = 6  # of the weights: themselves, gradients, two moments, those started from, a state on its way to the disk
FLOAT = 4  # bytes


def rate_of(given: object, device: str, threads: int) -> float:
    """GFLOP/s of one run: as ``given`` by the user, or else what any such device reaches. Raises InputError."""
    if given is None:
        return RATES[device] * (threads if device == "cpu" else 1)
    try:
        rate = float(str(given))
    except ValueError:
        rate = math.nan
    if not 0 < rate < math.inf:
        raise InputError(f"rate: expected GFLOP/s of one run, a number above 0, got {given!r}; change or leave it out")
    return rate


class Requests:
    """Of runs and studies' jobs on ``device`` at ``rate`` GFLOP/s; what differs in its seed alone is counted once."""

    def __init__(self, device: str, rate: float) -> None:
        self.device, self.rate = device, rate
        self._costs: dict[str, Cost] = {}
        self._bytes: dict[str, int] = {}

    def minutes(self, one: Run | Job, attempt: int = 1) -> int:
        """Of wall-clock time."""
        key = one.setup if isinstance(one, Job) else replace(one.spec, seed=0).json
        if key not in self._costs:
            self._costs[key] = cost_of(one)
        steps, *macs = self._costs[key]
        seconds = Speed.of(self.rate).seconds(*macs, runs=1) + STEP * steps
        return math.ceil(attempt * (START + MARGIN * seconds / 60))

    def megabytes(self, one: Run | Job, attempt: int = 1) -> int:
        """Of main memory: a GPU keeps what passes keep, and its libraries' share of the host is a process more."""
        samples = max(one.spec.recipe.batch, one.spec.probe.n, *_samples(one))
        key = json.dumps([one.spec.task.plain, one.spec.model.plain, samples])
        if key not in self._bytes:
            weights, kept = held(one.spec, samples)
            self._bytes[key] = COPIES * weights + (kept if self.device == "cpu" else PROCESS * 10**6)
        return math.ceil(attempt * (PROCESS + MARGIN * self._bytes[key] / 1e6))


def _samples(one: Run | Job) -> tuple[int, ...]:
    """Numbers of samples that a study sends through its model at once, beside batch and probe."""
    return (0, *getattr(one.settings, "sizes", ())) if isinstance(one, Job) else (0,)


def held(spec: Spec, samples: int) -> tuple[int, int]:
    """Bytes of the weights, and of what a forward pass of so many samples keeps for the backward one, in float32; from
    shapes, on the device ``meta``. Weights that are kept count again."""
    from transformers.models.switch_transformers.modeling_switch_transformers import SwitchTransformersExperts

    signature, family = spec.task.module.outline(spec.task.settings).signature, spec.model.module
    if signature.objective == "causal_lm":  # its mask is looked at; what sees the whole sequence keeps the rest
        signature = signature._replace(objective="masked_lm")
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage.nbytes()
        return tensor

    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model = family.build(spec.model.settings, signature)
        inputs = {
            name: torch.empty(samples, *value.shape[1:], dtype=value.dtype) for name, value in signature.example.items()
        }
        for module in model.modules():
            if isinstance(module, SwitchTransformersExperts):  # which expert a token goes to changes no memory
                module.forward = lambda tokens, *_, expert=module.expert_0: expert(tokens)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            forward(model, inputs)
    return FLOAT * sum(parameter.numel() for parameter in model.parameters()), sum(kept.values())
