"""Experts that one layer holds in common parameters, one after the other along the first dimension.

The layer's own code computes with parameters that hand each active expert's gradient to its leaf, and give the others
none. Which expert a product is of is read from where its weight lies (``x @ W[e]``), from its place in a batch of
products, or from the runs of a grouped product: a product of an inactive one costs no weight gradient where it stands
alone and, where it is to ``detach``, sends none back. Other functions send back what they always do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mat.backward.operators.once import Once
from mat.partition.partition import Slice

Pieces = Mapping[str, Sequence[tuple[Slice, nn.Parameter]]]  # attribute -> slices in order of their place, leaves
_ALONE = (F.linear, torch.matmul, torch.mm, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.Tensor.mm)
_BATCHED = (torch.bmm, torch.Tensor.bmm, *_ALONE[1:])
_GROUPED = tuple(f for f in (getattr(F, "grouped_mm", None), getattr(torch, "_grouped_mm", None)) if f is not None)


class Stacked:
    """A layer whose parameters are cut along their first dimension, in slices that are experts'."""

    def __init__(self, layer: nn.Module, pieces: Pieces) -> None:
        self.layer, self.pieces = layer, pieces
        self.own = dict(layer._parameters)

    def plan(self, is_active: Callable[[Slice], bool], detach: bool) -> None:
        """What is active of it from here on; ``detach``: the rest of it is a constant."""
        self.detach = detach
        self.active = {
            name: [(piece, leaf) for piece, leaf in found if is_active(piece)] for name, found in self.pieces.items()
        }
        self.trains = any(self.active.values())

    def __call__(self, original: Callable, *args: Any, **kwargs: Any) -> Any:
        table: dict[str, Any] = self.layer._parameters
        if any(table[name] is not parameter for name, parameter in self.own.items()):
            return original(*args, **kwargs)
        asleep = {}
        for name, active in self.active.items():
            whole = self.own[name]
            assert whole is not None
            pieces, leaves = [piece for piece, _ in active], [leaf for _, leaf in active]
            table[name] = _Parted.apply(whole.detach(), pieces, *leaves) if active else whole.detach()
            awake = torch.zeros(len(whole), dtype=torch.bool)
            for piece in pieces:
                awake[piece.start : piece.stop] = True
            asleep[whole.untyped_storage().data_ptr()] = whole, ~awake
        try:
            with _Products(asleep, self.detach):
                return original(*args, **kwargs)
        finally:
            table.update(self.own)


class _Parted(Once):
    """The ``whole`` parameter, whose gradient goes to the leaves of its ``pieces``."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, pieces: Sequence[Slice], *leaves: Tensor) -> Tensor:
        ctx.pieces = pieces
        return whole.view_as(whole)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return None, None, *(piece.of(g) for piece in ctx.pieces)


class _Products(TorchFunctionMode):
    """Makes constants of the inactive experts' products. ``asleep``: by their storage parameters, and which of their
    entries along the first dimension are inactive."""

    def __init__(self, asleep: Mapping[int, tuple[Tensor, Tensor]], detach: bool) -> None:
        super().__init__()
        self.asleep, self.detach = asleep, detach

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if len(args) > 1 and isinstance(args[1], Tensor) and (func in _ALONE or func in _BATCHED or func in _GROUPED):
            x, weight, *rest = args
            if func in _ALONE and weight.dim() == 2 and self._sleeps(weight):
                x, weight = x.detach() if self.detach else x, weight.detach()
            elif self.detach and weight.dim() == 3 and (asleep := self._entries(weight)) is not None:
                if func in _BATCHED and x.dim() == 3:
                    x = torch.where(asleep.to(x.device)[:, None, None], x.detach(), x)
                elif func in _GROUPED and x.dim() == 2 and isinstance(offs := kwargs.get("offs"), Tensor):
                    # of a row behind the last run, which is nobody's, nothing is computed
                    rows = torch.arange(len(x), device=x.device)
                    expert = torch.searchsorted(offs, rows.to(offs.dtype), right=True).clamp(max=len(asleep) - 1)
                    x = torch.where(asleep.to(x.device)[expert][:, None], x.detach(), x)
            return func(x, weight, *rest, **kwargs)
        return func(*args, **kwargs)

    def _sleeps(self, tensor: Tensor) -> bool:
        """Whether all of it lies in inactive entries of a parameter."""
        known = self.asleep.get(tensor.untyped_storage().data_ptr())
        if known is None or not tensor.numel():
            return False
        whole, asleep = known
        start = int(tensor.storage_offset() - whole.storage_offset())
        stop = start + sum((length - 1) * step for length, step in zip(tensor.shape, tensor.stride(), strict=True))
        step = max(whole.stride(0), 1)
        return bool(asleep[start // step : stop // step + 1].all())

    def _entries(self, tensor: Tensor) -> Tensor | None:
        """Which entries along the first dimension are inactive, where it is a parameter's, or its matrices turned."""
        known = self.asleep.get(tensor.untyped_storage().data_ptr())
        if known is None or len(tensor) != len(known[0]) or tensor.numel() != known[0].numel():
            return None
        return known[1] if tensor.stride(0) == known[0].stride(0) else None
