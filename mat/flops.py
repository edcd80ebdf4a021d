"""Ledgers of compute, in multiply-adds (MACs); one MAC is two FLOPs.

``nominal``   fvcore's count of one forward pass, split over the modules, times 1 for the forward pass and 2
              more for every active module and the remainder: a paper-style count.
``executed``  what ran, forward and backward, by ``torch.utils.flop_counter`` under the current active set.
The third ledger, closed form per architecture, is in ``mat.models`` and is the oracle of the tests.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mat.errors import InputError
from mat.partition import Partition


def executed_macs(run: Callable[[], Any], device: str = "cpu") -> tuple[int, Any]:
    """MACs that ``run()`` executed in matrix products and convolutions, and what it returned.

    On the CPU attention runs by its math path meanwhile: a fused kernel recomputes the scores in its backward
    pass, and whether the counter knows it depends on the release of PyTorch.
    """
    path = sdpa_kernel(SDPBackend.MATH) if device == "cpu" else nullcontext()
    with path, FlopCounterMode(display=False) as counter:
        result = run()
    return counter.get_total_flops() // 2, result


@dataclass(frozen=True)
class Nominal:
    """Forward MACs of one sample: of each module, and of everything else."""

    modules: Mapping[str, int]
    remainder: int

    @property
    def forward(self) -> int:
        return sum(self.modules.values()) + self.remainder

    def step(self, batch: int, active: Collection[str]) -> int:
        """MACs of one training step of ``batch`` samples with these modules active."""
        trained = sum(self.modules[name] for name in active) + self.remainder
        return batch * (self.forward + 2 * trained)

    def probe(self, n: int, backwards: int = 1) -> int:
        """MACs of one kernel probe: a forward pass of n samples and ``backwards`` backward passes of each."""
        return (1 + 2 * backwards) * self.forward * n


def nominal(model: nn.Module, partition: Partition, example: Mapping[str, Tensor]) -> Nominal:
    """fvcore's forward count of ``example`` (one sample), attributed to the modules.

    A module gets of each weight's layer the share of the weight that it owns, a head also its share of the
    attention products; the experts of a layer share their cost evenly, because one sample's routing is chance.
    Raises InputError naming layers that own a module's weights and were never called.
    """
    from fvcore.nn import FlopCountAnalysis

    names, values = zip(*example.items(), strict=True)
    was_training = model.training
    model.eval()
    try:
        with sdpa_kernel(SDPBackend.MATH), torch.no_grad():
            analysis = FlopCountAnalysis(_Positional(model, names), tuple(values))
            analysis.set_op_handle("aten::scaled_dot_product_attention", _attention_macs)
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
            analysis.tracer_warnings("none")
            logging.getLogger("fvcore").setLevel(logging.ERROR)
            macs = {
                path.removeprefix("model").removeprefix("."): n for path, n in analysis.by_module().items()
            }
            uncalled = {path.removeprefix("model.") for path in analysis.uncalled_modules()}
    finally:
        model.train(was_training)
    modules = dict.fromkeys(partition.names, 0.0)
    for module in partition.modules:
        for piece in module.slices:
            path, _, attribute = piece.parameter.rpartition(".")
            shape = partition.shapes[piece.parameter]
            if path in uncalled and module.kind != "expert":
                raise InputError(
                    f"{path!r} belongs to module {module.name!r} but the forward pass never called it"
                )
            if attribute == "weight" and len(shape) > 1:
                modules[module.name] += macs[path] * (piece.stop - piece.start) / shape[piece.dim]
    for attention in partition.attentions:
        children = [macs[path] for path in macs if path.rpartition(".")[0] == attention.core]
        own = macs[attention.core] - sum(children)
        for name in attention.heads:
            modules[name] += own / len(attention.heads)
    for layer in {module.layer for module in partition.modules if module.kind == "expert"}:
        experts = [m.name for m in partition.modules if (m.kind, m.layer) == ("expert", layer)]
        modules |= dict.fromkeys(experts, sum(modules[name] for name in experts) / len(experts))
    rounded = {name: round(value) for name, value in modules.items()}
    return Nominal(rounded, int(macs[""]) - sum(rounded.values()))


class _Positional(nn.Module):
    """Calls a model by keyword with positional tensors, because fvcore traces positional arguments."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *values: Tensor) -> Tensor:
        output = self.model(**dict(zip(self.names, values, strict=True)))
        return output if isinstance(output, Tensor) else output.logits


def _attention_macs(inputs: list[Any], outputs: list[Any]) -> int:
    """scores q·kᵀ and their product with v: B·H·S_q·S_k·(D + D_v)."""
    q, k, v = (value.type().sizes() for value in inputs[:3])
    batch_heads = 1
    for length in q[:-2]:
        batch_heads *= length
    return batch_heads * q[-2] * k[-2] * (q[-1] + v[-1])
