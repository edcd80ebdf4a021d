"""How each type of layer runs sparsely: from a layer and its slices to a forward pass that follows a plan.

``Product`` (Linear, Conv2d, Hugging Face's Conv1D, the projections of nn.MultiheadAttention) skips the weight
gradients of inactive slices; ``Assembled`` (norms, and as ``Grouped`` other convolutions) puts short parameters
together from the leaves; ``Stacked`` (``mat.backward.operators.experts``) holds several experts; ``Whole`` (any other
layer, of which modules own whole parameters only) freezes what is inactive.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from mat.backward.operators.channels import ChannelSparseConv2d
from mat.backward.operators.experts import Stacked
from mat.backward.operators.functions import (
    Constant,
    Plan,
    Rows,
    Sparse,
    SparseBatchNorm,
    SparseConv2d,
    SparseLinear,
    wanted_channels,
)
from mat.backward.operators.parts import active_columns, leave
from mat.errors import InputError
from mat.partition.partition import Slice

Pieces = Mapping[str, list[tuple[Slice, nn.Parameter]]]  # attribute -> slices in order of their place, leaves
IsActive = Callable[[Slice], bool]
BATCH_NORM = inspect.signature(F.batch_norm)
NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)


def sparse_layer(
    layer: nn.Module, path: str, pieces: Pieces, whole: bool, attends: bool = False, experts: bool = False
) -> SparseLayer:
    """The sparse form of ``layer``. ``whole``: no parameter of it is cut. ``attends``: it is part of an attention.
    ``experts``: all modules that own slices of it are experts.

    Raises InputError, naming the layer, where slices of it are modules and no sparse form is known.
    """
    if isinstance(layer, nn.Conv2d) and any(piece.dim for piece, _ in pieces.get("weight", ())):
        raise InputError(f"{path!r}: a convolution is cut along its output channels (dimension 0) only")
    if isinstance(layer, nn.MultiheadAttention) and "in_proj_weight" in pieces:
        return Product(layer, pieces, "in_proj_")
    if _is_product(layer, pieces):
        return Product(layer, pieces, transposed=_is_transposed(layer))
    if isinstance(layer, NORMS) or (set(pieces) == {"bias"} and isinstance(layer, nn.Linear | nn.Conv2d)):
        return Assembled(layer, pieces)
    if whole:
        return Whole(layer, pieces, attends)
    if isinstance(layer, nn.Conv2d) and _is_plain(layer, pieces, nn.Conv2d):
        return Grouped(layer, pieces)
    if experts and not any(piece.dim for found in pieces.values() for piece, _ in found):
        return Stacked(layer, pieces)
    raise InputError(
        f"{path!r} is a {type(layer).__name__}, or has a forward or a parametrisation of its own, so no slices of it "
        "can have a sparse backward pass; leave it to the remainder, or let a module own it as a whole. Known: "
        "Linear, Conv2d, Conv1D of transformers, MultiheadAttention, BatchNorm, LayerNorm, GroupNorm"
    )


def _is_product(layer: nn.Module, pieces: Pieces) -> bool:
    """Whether the layer's forward is one product with its own weight and nothing else."""
    if isinstance(layer, nn.Conv2d):
        simple = layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
        return simple and _is_plain(layer, pieces, nn.Conv2d)
    return _is_plain(layer, pieces, nn.Linear) or (_is_transposed(layer) and _is_plain(layer, pieces, type(layer)))


def _is_plain(layer: nn.Module, pieces: Pieces, kind: type[nn.Module]) -> bool:
    """Whether the layer's forward is that of its ``kind`` with its own weight: no subclass, patch, weight norm or
    pruning changes it. A frozen weight has no pieces, and is no matter of a plan."""
    if "weight" not in pieces or not set(pieces) <= {"weight", "bias"} or "forward" in vars(layer):
        return False
    return layer._parameters.get("weight") is not None and type(layer).forward is kind.forward


class Product:
    """A layer with one weight: its plan for the current active set, and the call that follows it.

    ``prefix``: what its parameters' names begin with. ``transposed``: the weight is (in, out), as in Hugging Face's
    Conv1D. ``channels``: share of its output channels whose gradient a convolution passes on, all of it being active.
    """

    channels = 1.0

    def __init__(self, layer: nn.Module, pieces: Pieces, prefix: str = "", transposed: bool = False) -> None:
        self.layer, self.prefix, self.transposed = layer, prefix, transposed
        self.own = self.weight, self.bias
        self.pieces = {part: pieces.get(f"{prefix}{part}", []) for part in ("weight", "bias")}
        self.dim = next((piece.dim for piece, _ in self.pieces["weight"]), 0)

    @property
    def weight(self) -> nn.Parameter:
        return getattr(self.layer, f"{self.prefix}weight")

    @property
    def bias(self) -> nn.Parameter | None:
        return getattr(self.layer, f"{self.prefix}bias")

    @property
    def lent(self) -> bool:
        """Whether the layer holds parameters that are not its own, as within ``torch.func.functional_call``."""
        return self.weight is not self.own[0] or self.bias is not self.own[1]

    def plan(self, is_active: IsActive, detach: bool) -> None:
        """What is active of it from here on; ``detach``: the rest of it is a constant."""
        self.detach = detach
        self.active = {piece for found in self.pieces.values() for piece, _ in found if is_active(piece)}
        self.trains = bool(self.active)
        self.current, self.leaves = self._planned(0, self.weight.shape[self.dim])
        self._parts: dict[tuple[int, int], tuple[Plan, list[nn.Parameter]]] = {}

    def _planned(self, start: int, stop: int) -> tuple[Plan, list[nn.Parameter]]:
        """The plan for entries ``start:stop``, whose pieces lie in it wholly, and the active leaves in it."""
        rows, leaves, bias = {}, [], self.bias
        length = 0 if bias is None else len(bias) if self.dim else stop - start
        for part, first, count in (("weight", start, stop - start), ("bias", 0 if self.dim else start, length)):
            active = [(p, leaf) for p, leaf in self.pieces[part] if p in self.active]
            inside = [(p, leaf) for p, leaf in active if first <= p.start < first + count]
            rows[part] = Rows.of([(p.start - first, p.stop - first) for p, _ in inside], count)
            leaves += [leaf for _, leaf in inside]
        dim = 1 - self.dim if self.transposed else self.dim
        conv = isinstance(self.layer, nn.Conv2d)
        geometry = (self.layer.stride, self.layer.padding, self.layer.dilation) if conv else ()
        return Plan(dim, rows["weight"], rows["bias"], self.detach, geometry), leaves

    def part(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor | None:
        """The product of ``x`` with rows of the weight, as an attention takes it that is given a query of its own; None
        where ``weight`` and ``bias`` are other views, or cut a slice."""
        own = self.bias
        start = int(weight.storage_offset() - self.weight.storage_offset()) // max(self.weight.stride(0), 1)
        stop = start + len(weight)
        same: bool = weight.stride() == self.weight.stride() and weight.shape[1:] == self.weight.shape[1:]
        if bias is None or own is None:
            same = same and bias is own
        else:
            same = same and bias._base is own and int(bias.storage_offset() - own.storage_offset()) == start
        cut = any(p.start < edge < p.stop for found in self.pieces.values() for p, _ in found for edge in (start, stop))
        if self.lent or self.dim or self.transposed or cut or not same:
            return None
        if (start, stop) not in self._parts:
            self._parts[start, stop] = self._planned(start, stop)
        return self._product(x, self.weight[start:stop], bias, *self._parts[start, stop])

    def __call__(self, original: Callable, *args: Any, **kwargs: Any) -> Tensor:
        (x,) = (*args, *kwargs.values())
        if self.lent:
            return original(x)
        if isinstance(self.layer, nn.Conv2d) and x.dim() == 3:
            return self(original, x[None])[0]
        return self._product(x, self.weight, self.bias, self.current, self.leaves)

    def _product(self, x: Tensor, weight: Tensor, bias: Tensor | None, plan: Plan, leaves: Sequence[Tensor]) -> Tensor:
        if plan.detach and plan.weight.empty:
            x = x.detach()
        wanted = wanted_channels(x) if isinstance(self.layer, nn.Conv2d) else None
        weight, bias = weight.detach(), None if bias is None else bias.detach()
        if self.transposed:
            weight, leaves = weight.T, [leaf.T if leaf.dim() > 1 else leaf for leaf in leaves]
        kind = x.device.type
        if torch.is_autocast_enabled(kind):
            x, weight = as_autocast(x, kind), as_autocast(weight, kind)
            bias = None if bias is None else as_autocast(bias, kind)
        if isinstance(self.layer, nn.Conv2d):
            if self.channels < 1:
                return ChannelSparseConv2d.apply(x, weight, bias, plan, self.channels, *leaves)
            return SparseConv2d.apply(x, weight, bias, plan, wanted, *leaves)
        part = None
        if plan.detach and plan.dim == 1 and (part := active_columns(x, plan.weight)) is not None:
            x = x.detach()
        out, active = SparseLinear.apply(x, weight, bias, plan, part, *leaves)
        if active is not None:
            leave(out, active, plan.weight.runs)
        return out


def lent(layer: nn.Module, own: Mapping[str, Any]) -> bool:
    """Whether the layer holds parameters that are not its ``own``, as within ``torch.func.functional_call``."""
    return any(layer._parameters[name] is not parameter for name, parameter in own.items())


def as_autocast(tensor: Tensor, device: str) -> Tensor:
    """The tensor as autocast on ``device`` would cast it for a product: to its type, unless it is float64 or no real
    number."""
    if tensor.dtype == torch.float64 or not tensor.is_floating_point():
        return tensor
    return tensor.to(torch.get_autocast_dtype(device))


class Assembled:
    """A layer with short parameters: they are put together from the leaves, inactive ones as constants.

    Where it is to ``detach``, the inactive channels of a batch norm, which belong to filters that send nothing back,
    are constants; other norms lie on residual paths and let gradients through, as does one over several processes.
    """

    def __init__(self, layer: nn.Module, pieces: Pieces) -> None:
        self.layer, self.pieces = layer, pieces
        self.own = dict(layer._parameters)
        norm = isinstance(layer, nn.modules.batchnorm._BatchNorm) and not isinstance(layer, nn.SyncBatchNorm)
        self.channels = norm and len(pieces) == 2

    def plan(self, is_active: IsActive, detach: bool) -> None:
        self.active = {piece for found in self.pieces.values() for piece, _ in found if is_active(piece)}
        self.trains = bool(self.active)
        self.rows = None
        if detach and self.channels:
            scales, shifts = ([(p.start, p.stop) for p, _ in found if p in self.active] for found in self._both())
            if scales == shifts:  # anything else is cut by its owner in a way of their own
                self.rows = Rows.of(scales, self.layer.get_parameter("weight").numel())

    def __call__(self, original: Callable, *args: Any, **kwargs: Any) -> Tensor:
        table: dict[str, Any] = self.layer._parameters
        if lent(self.layer, self.own):
            return original(*args, **kwargs)
        if self.rows is not None and not self.rows.whole:
            if self.rows.empty:
                with torch.no_grad():
                    return original(*args, **kwargs)
            with _BatchNorms(self.rows, [leaf for found in self._both() for p, leaf in found if p in self.active]):
                return original(*args, **kwargs)
        for attribute, found in self.pieces.items():
            parts = [leaf if piece in self.active else leaf.detach() for piece, leaf in found]
            table[attribute] = parts[0] if len(parts) == 1 else torch.cat(parts, found[0][0].dim)
        try:
            return original(*args, **kwargs)
        finally:
            table.update(self.own)

    def _both(self) -> tuple[list[tuple[Slice, nn.Parameter]], ...]:
        return self.pieces["weight"], self.pieces["bias"]


class Grouped(Assembled):
    """A convolution with several groups, or with padding of its own: put together from its leaves as well, which saves
    no weight gradient unless all of them are inactive. Where it is to ``detach``, inactive channels send nothing back.
    """

    def plan(self, is_active: IsActive, detach: bool) -> None:
        super().plan(is_active, detach)
        runs = [[(p.start, p.stop) for p, _ in found if p in self.active] for found in self.pieces.values()]
        same = all(other == runs[0] for other in runs)  # anything else is cut by its owner in a way of their own
        self.sends_back = Rows.of(runs[0], len(self.layer.get_parameter("weight"))) if detach and same else None

    def __call__(self, original: Callable, *args: Any, **kwargs: Any) -> Tensor:
        out, rows = super().__call__(original, *args, **kwargs), self.sends_back
        if rows is None or rows.whole or lent(self.layer, self.own):
            return out
        return out.detach() if rows.empty else Sparse.apply(out, rows)


class _BatchNorms(TorchFunctionMode):
    """Runs the batch norm of one layer's forward pass, which updates its statistics itself, with constants."""

    def __init__(self, rows: Rows, leaves: Sequence[Tensor]) -> None:
        super().__init__()
        self.rows, self.leaves = rows, leaves

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.batch_norm:
            return func(*args, **(kwargs or {}))
        given = BATCH_NORM.bind(*args, **(kwargs or {}))
        given.apply_defaults()
        x, mean, var, weight, bias, *options = given.arguments.values()
        return SparseBatchNorm.apply(x, weight.detach(), bias.detach(), (mean, var, *options), self.rows, *self.leaves)


class Whole:
    """A layer of any type whose parameters are not cut: those that are inactive require no gradient while it runs.

    Where it is to ``detach``, it is a constant without an active parameter, unless its parameters are short (a norm),
    or it holds other layers: residual paths may lead through it, and carry their gradient.

    ``attends``: as part of an attention (a table of position biases) it may choose the kernel, which rounds in its own
    way, by what takes a gradient: then what is inactive does, and sends none back.
    """

    def __init__(self, layer: nn.Module, pieces: Pieces, attends: bool = False) -> None:
        self.layer, self.pieces, self.attends = layer, pieces, attends
        self.own = dict(layer._parameters)
        long = any(leaf.dim() > 1 for found in pieces.values() for _, leaf in found)
        self.ends = long and not any(True for _ in layer.children())

    def plan(self, is_active: IsActive, detach: bool) -> None:
        self.detach = detach and self.ends
        found = [(name, piece, leaf) for name, pairs in self.pieces.items() for piece, leaf in pairs]
        self.asleep = {name: leaf for name, piece, leaf in found if not is_active(piece)}
        self.trains = len(self.asleep) < len(found)

    def __call__(self, original: Callable, *args: Any, **kwargs: Any) -> Any:
        if lent(self.layer, self.own):
            return original(*args, **kwargs)
        if self.attends:
            return self._held(original, *args, **kwargs)
        for leaf in self.asleep.values():
            leaf.requires_grad_(False)
        try:
            with torch.set_grad_enabled(self.trains or not self.detach):
                return original(*args, **kwargs)
        finally:
            for leaf in self.asleep.values():
                leaf.requires_grad_(True)

    def _held(self, original: Callable, *args: Any, **kwargs: Any) -> Any:
        table: dict[str, Any] = self.layer._parameters
        constant = self.detach and not self.trains
        table.update({name: Constant.apply(leaf) for name, leaf in self.asleep.items()})
        try:
            output = original(*args, **kwargs)
        finally:
            table.update(self.own)
        return tree_map_only(Tensor, Constant.apply, output) if constant else output


SparseLayer = Product | Assembled | Stacked | Whole


def _is_transposed(layer: nn.Module) -> bool:
    """Hugging Face's Conv1D: y = x W + b with W (in, out), its width in ``nf``."""
    weight = layer._parameters.get("weight")
    return type(layer).__name__ == "Conv1D" and weight is not None and getattr(layer, "nf", -1) == weight.shape[-1]
