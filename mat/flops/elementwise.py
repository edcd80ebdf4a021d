"""The optimizer's own work, counted operation by operation: one on one entry is one FLOP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode

from mat.flops.operators import is_pointwise, sizes


def elementwise_macs(run: Callable[[], Any]) -> tuple[int, Any]:
    """Half the elementwise operations of ``run()``, and what it returned.

    One pointwise operator on one entry is one FLOP, so half a MAC, whatever it computes (addcmul is one). A norm
    is two per entry, a square and a sum; a fused optimizer step is what the same step costs unfused.
    """
    with _Elementwise() as counter:
        result = run()
    return counter.operations // 2, result


class _Elementwise(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = func._schema.name
        if name in _FUSED:
            self.operations += sum(sizes(args[0])) * _FUSED[name](kwargs)
        elif name in ("aten::_foreach_norm", "aten::linalg_vector_norm"):
            self.operations += 2 * sum(sizes(args[0]))
        elif is_pointwise(name):
            # in place on a list: nothing is returned, the first list is what is written
            self.operations += sum(sizes(out)) or sum(sizes(args[0]))
        return out


def _adamw_operations(options: Mapping[str, Any]) -> int:
    """lerp; mul, addcmul; sqrt, div, add; addcdiv; and for the options mul (decay), maximum (amsgrad)."""
    return 7 + bool(options.get("weight_decay")) + bool(options.get("amsgrad"))


def _sgd_operations(options: Mapping[str, Any]) -> int:
    """add; and for the options add (decay), mul and add (momentum, after the first step), add (Nesterov)."""
    momentum = 0 if options.get("is_first_step") or not options.get("momentum") else 2
    return 1 + bool(options.get("weight_decay")) + momentum + bool(options.get("nesterov"))


def _adagrad_operations(options: Mapping[str, Any]) -> int:
    """addcmul; sqrt, add; mul, addcdiv; and add for decay."""
    return 5 + bool(options.get("weight_decay"))


def optimizer_key(optimizer: Optimizer) -> tuple[tuple[int, int, int, int], ...]:
    """What the elementwise work of the coming step depends on, by parameter group: leaves with a gradient and
    their entries, and how many of both have a state already (the first step of a leaf only makes it)."""
    return tuple(_trained(group["params"], optimizer) for group in optimizer.param_groups)


def _trained(leaves: list[torch.Tensor], optimizer: Optimizer) -> tuple[int, int, int, int]:
    trained = [leaf for leaf in leaves if leaf.grad is not None]
    begun = [leaf for leaf in trained if leaf in optimizer.state]
    return len(trained), sum(map(torch.numel, trained)), len(begun), sum(map(torch.numel, begun))


_FUSED = {
    "aten::_fused_adam_": _adamw_operations,
    "aten::_fused_adamw_": _adamw_operations,
    "aten::_fused_sgd_": _sgd_operations,
    "aten::_fused_adagrad_": _adagrad_operations,
}
