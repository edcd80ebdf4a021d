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
            self.operations += sum(sizes(args[0])) * _fused_operations(name, kwargs)
        elif name in ("aten::_foreach_norm", "aten::linalg_vector_norm"):
            self.operations += 2 * sum(sizes(args[0]))
        elif is_pointwise(name):
            # in place on a list: nothing is returned, the first list is what is written
            self.operations += sum(sizes(out)) or sum(sizes(args[0]))
        return out


# Of a fused step: operations on every entry, and options that add one each.
_ADAM = (7, ("weight_decay", "amsgrad"))  # lerp; mul, addcmul; sqrt, div, add; addcdiv; and mul, maximum
_FUSED: dict[str, tuple[int, tuple[str, ...]]] = {
    "aten::_fused_adam_": _ADAM,
    "aten::_fused_adamw_": _ADAM,
    "aten::_fused_sgd_": (1, ("weight_decay", "nesterov")),  # add; and add, add
    "aten::_fused_adagrad_": (5, ("weight_decay",)),  # addcmul; sqrt, add; mul, addcdiv; and add
}


def _fused_operations(name: str, given: Mapping[str, Any]) -> int:
    always, options = _FUSED[name]
    momentum = given.get("momentum") and not given.get("is_first_step")  # mul and add, after the first step
    return always + sum(bool(given.get(option)) for option in options) + (2 if momentum else 0)


def optimizer_key(optimizer: Optimizer) -> tuple[tuple[int, int, int, int], ...]:
    """What the elementwise work of the coming step depends on, by parameter group: leaves with a gradient and
    their entries, and how many of both have a state already (the first step of a leaf only makes it)."""
    return tuple(_trained(group["params"], optimizer) for group in optimizer.param_groups)


def _trained(leaves: list[torch.Tensor], optimizer: Optimizer) -> tuple[int, int, int, int]:
    trained = [leaf for leaf in leaves if leaf.grad is not None]
    begun = [leaf for leaf in trained if leaf in optimizer.state]
    return len(trained), sum(map(torch.numel, trained)), len(begun), sum(map(torch.numel, begun))
