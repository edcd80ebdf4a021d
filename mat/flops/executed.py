"""Ledgers of compute, in multiply-adds (MACs); one MAC is two FLOPs.

``nominal``      fvcore's count of one forward pass, split over the modules, times 1 for the forward pass and 2
                 more for every active module and the remainder: a paper-style count (``mat.flops.nominal``, where it
                 is written down what it counts differently from ``executed``).
``executed``     what ran, forward and backward, by ``torch.utils.flop_counter`` under the current active set.
``elementwise``  the optimizer's own work, one operation on one entry being one FLOP: a line beside the others,
                 in no total that anything is judged by.
The closed form per architecture is in ``mat.experiments.models`` and is the oracle of the tests.

Nominal and executed count products only, and neither reads an operator it does not know as zero
(``mat.flops.operators``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mat.flops.nominal import row_macs
from mat.flops.operators import Products, math_attention, refuse_unknown
from mat.partition.partition import Module, Partition


def executed_macs(run: Callable[[], Any], device: str = "cpu") -> tuple[int, Any]:
    """MACs that ``run()`` executed in matrix products and convolutions, and what it returned.

    On the CPU attention runs by its math path meanwhile (``math_attention``), so that the count does not depend
    on the release of PyTorch.
    Raises InputError, naming it, for an operator that neither the counter knows nor ``mat.flops.operators`` calls
    free, when it may have done more than 0.1 % of the counted work.
    """
    path = math_attention() if device == "cpu" else nullcontext()
    with path, Products(_formulas()) as counter:
        result = run()
    macs = counter.flops // 2
    refuse_unknown(counter.unknown, macs, "executed")
    return macs, result


def macs_within(run: Callable[[], Any]) -> int:
    """Of ``run()``, a part of what ``executed_macs`` is counting, which refuses unknown operators for the whole."""
    with Products(_formulas()) as counter:
        run()
    return counter.flops // 2


def _formulas() -> Mapping[Any, Callable[..., int]]:
    """FLOPs by operator: PyTorch's, those that a user has registered, and ours."""
    own = {
        torch.ops.aten.convolution_backward: _convolution_backward,
        torch.ops.aten.mkldnn_rnn_layer: _recurrent_layer,
        torch.ops.aten.mkldnn_rnn_layer_backward: _recurrent_layer_backward,
    }
    return FlopCounterMode(display=False, custom_mapping=own).flop_registry


def _recurrent_layer(
    x: torch.Size, of_input: torch.Size, of_state: torch.Size, *rest: Any, out_shape: Any = None
) -> int:
    """FLOPs of a recurrent layer in one direction (CPU): every step of a sequence is multiplied with both weights."""
    return 2 * x[:-1].numel() * (of_input.numel() + of_state.numel())


def _recurrent_layer_backward(*args: Any, out_shape: Any = None) -> int:
    """The gradients of inputs and states, and those of the weights, cost what the forward pass did, each."""
    return 2 * _recurrent_layer(*args)


def _convolution_backward(
    g: torch.Size, x: torch.Size, weight: torch.Size, *options: Any, out_shape: Any = None
) -> int:
    """FLOPs of a convolution's gradients: each costs what the forward pass did, 2·B·|pixels|·|weight|.

    The weight holds in/groups channels per filter, so groups are in its size. PyTorch's own formula charges the
    weight gradient of a grouped convolution ``groups`` times.
    """
    _bias, _stride, _padding, _dilation, transposed, _output_padding, _groups, output_mask = options
    pixels = (x if transposed else g)[2:].numel()
    return 2 * x[0] * pixels * weight.numel() * (output_mask[0] + output_mask[1])


@contextmanager
def routed_rows(model: nn.Module, experts: Mapping[str, str]) -> Iterator[Counter[str]]:
    """Counts, while it is open, the rows that reached each expert: a Counter by module name.

    ``experts``: path of the submodule by name. The hooks are gone afterwards.
    """
    rows: Counter[str] = Counter()

    def counting(name: str) -> Callable:
        return lambda module, args: rows.update({name: args[0].shape[:-1].numel()})

    hooks = [model.get_submodule(path).register_forward_pre_hook(counting(name)) for name, path in experts.items()]
    try:
        yield rows
    finally:
        for hook in hooks:
            hook.remove()


def followed_experts(model: nn.Module, partition: Partition) -> dict[str, str] | None:
    """The submodule that each expert is, by module name; None when some expert is not a whole submodule."""
    experts = [module for module in partition.modules if module.kind == "expert"]
    found = {m.name: path for m in experts if (path := _submodule(model, partition, m))}
    return found if len(found) == len(experts) else None


def _submodule(model: nn.Module, partition: Partition, module: Module) -> str | None:
    """The path whose parameters are exactly this module's, if there is one."""
    owned = {piece.parameter for piece in module.slices}
    path = module.slices[0].parameter.rpartition(".")[0]
    whole = all(partition.is_whole(piece) for piece in module.slices)
    while whole and path:
        below = {f"{path}.{name}" for name, p in model.get_submodule(path).named_parameters() if p.requires_grad}
        if below == owned:
            return path
        if not below < owned:
            return None
        path = path.rpartition(".")[0]
    return None


Memo = dict[tuple[str, ...], tuple[int, dict[str, int]]]


@dataclass(frozen=True)
class Counted:
    """One step: executed MACs, rows routed to each expert (None where they cannot be told), the result."""

    macs: int
    routed: dict[str, int] | None
    result: Any


class StepLedger:
    """Executed MACs of training steps, each active set counted once and remembered in ``memo``.

    All steps have batches of one shape. A step's products depend on the active set, on the share of the ``channels``
    that convolutions pass on and, with experts, on how many rows were routed to each: a later step costs what the
    counted one did and, for every expert, the difference in rows times the MACs of a row: the forward pass, the weight
    gradient if it is active, and the input gradient unless ``mode`` is one that detaches and it is not (experts have
    residual paths beside them). Where an expert is not a submodule of its own, every step is counted. ``mode``: of
    ``mat.modes``, or dense. A memo is plain data: active set and channels → (MACs, rows by expert).
    """

    def __init__(self, model: nn.Module, partition: Partition, mode: str, device: str = "cpu") -> None:
        self.model, self.mode, self.device = model, mode, device
        self.experts = followed_experts(model, partition)
        self.row = {m.name: row_macs(m, partition) for m in partition.modules if m.kind == "expert"}

    def step(self, run: Callable[[], Any], active: Collection[str], memo: Memo, channels: float = 1.0) -> Counted:
        """Run one step under the active set and channels it was prepared for; ``memo`` grows with every new one."""
        if self.experts is None:
            macs, result = executed_macs(run, self.device)
            return Counted(macs, None, result)
        key = (*sorted(active), *([f"{channels:g} of the channels"] if channels < 1 else []))
        with routed_rows(self.model, self.experts) as rows:
            if key not in memo:
                macs, result = executed_macs(run, self.device)
                memo[key] = (macs, dict(rows))
            else:
                result = run()
        macs, before = memo[key]
        for name, row in self.row.items():
            macs += (rows[name] - before.get(name, 0)) * row * self._passes(name in active)
        return Counted(macs, dict(rows), result)

    def _passes(self, active: bool) -> int:
        return 1 + active + (active or self.mode in ("exact", "dense"))
