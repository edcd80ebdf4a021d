"""Linear and convolution whose backward pass computes gradients for active slices only.

The forward pass is the plain operator on the whole weight. The weight enters as data, and the active
slices, each a leaf tensor sharing the weight's storage, enter beside it to receive their gradients. In
``exact`` the gradient of the input is the full one; in ``detach`` inactive slices are constants, so only
active rows (or columns) carry gradient to the input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mat.backward.operators.once import Once
from mat.partition.projections import runs_of


@dataclass(frozen=True)
class Rows:
    """Which of the ``total`` entries along one dimension of a tensor are active.

    ``runs``: sorted, disjoint (start, stop), none touching the next; ``lengths`` splits the active entries into the
    pieces that own them, in order. Entries are copied run by run: on a CPU ten times faster than by their indices.
    """

    runs: tuple[tuple[int, int], ...]
    lengths: tuple[int, ...]
    total: int

    @classmethod
    def of(cls, pieces: Sequence[tuple[int, int]], total: int) -> Rows:
        """From the sorted, disjoint (start, stop) of the active pieces."""
        return cls(tuple(runs_of(pieces)), tuple(stop - start for start, stop in pieces), total)

    @property
    def empty(self) -> bool:
        return not self.lengths

    @property
    def whole(self) -> bool:
        return sum(self.lengths) == self.total

    def take(self, tensor: Tensor, dim: int) -> Tensor:
        """The active entries of ``tensor`` along ``dim``; a view where they are one run."""
        if self.whole:
            return tensor
        parts = self.views(tensor, dim)
        return torch.cat(parts, dim) if len(parts) > 1 else parts[0] if parts else tensor.narrow(dim, 0, 0)

    def copy(self, tensor: Tensor, dim: int) -> Tensor:
        """The active entries in memory of their own, so that keeping them does not keep all of ``tensor``."""
        taken = self.take(tensor, dim)
        return taken.clone(memory_format=torch.contiguous_format) if len(self.runs) == 1 and not self.whole else taken

    def views(self, tensor: Tensor, dim: int) -> list[Tensor]:
        """The active entries of ``tensor`` along ``dim``, one view for each run."""
        return [tensor.narrow(dim, start, stop - start) for start, stop in self.runs]

    def cut(self, values: Tensor, dim: int) -> tuple[Tensor, ...]:
        """The active entries ``values``, one after the other along ``dim``, as one view for each run."""
        return values.split([stop - start for start, stop in self.runs], dim) if self.runs else ()

    def put_into(self, out: Tensor, values: Sequence[Tensor], dim: int) -> Tensor:
        """Write ``values``, one for each run, to the active entries of ``out`` along ``dim``; returns ``out``."""
        for (start, stop), part in zip(self.runs, values, strict=True):
            out.narrow(dim, start, stop - start).copy_(part)
        return out

    def fill(self, out: Tensor, values: Tensor, dim: int) -> Tensor:
        """Overwrite ``out``, whatever is in it: ``values`` at the active entries of ``dim``, zeros elsewhere."""
        stops, starts = (0, *(stop for _, stop in self.runs)), (*(start for start, _ in self.runs), self.total)
        for stop, start in zip(stops, starts, strict=True):
            if start > stop:
                out.narrow(dim, stop, start - stop).zero_()
        return self.put_into(out, self.cut(values, dim), dim)

    def put(self, values: Tensor, dim: int) -> Tensor:
        """``values`` at the active entries of ``dim``, zeros elsewhere."""
        if self.whole:
            return values
        shape = list(values.shape)
        shape[dim] = self.total
        return self.fill(values.new_empty(shape), values, dim)

    def blocks(self, width: int) -> tuple[tuple[int, int], ...]:
        """The runs of entries that are ``width`` times as many, in blocks of ``width``."""
        return tuple((start * width, stop * width) for start, stop in self.runs)


class Constant(Once):
    """``x``, which takes a gradient and sends none back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return None


class Sparse(Once):
    """``x`` (…, C, H, W), of which only the channels ``rows`` send a gradient back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Rows) -> Tensor:
        ctx.rows = rows
        ctx.sends_back = rows if x.dim() == 4 else None
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return ctx.rows.put(ctx.rows.take(g, -3), g.dim() - 3), None


class Take(Once):
    """``rows.copy(x, dim)``; the gradient of the other entries is zero, in memory laid out as ``x`` is."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Rows, dim: int) -> Tensor:
        # of an expanded tensor no memory is written twice
        ctx.rows, ctx.dim, ctx.layout = rows, dim, (x.shape, torch.empty_like(x, device="meta").stride())
        return rows.copy(x, dim)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        full = torch.empty_strided(*ctx.layout, dtype=g.dtype, device=g.device)
        return ctx.rows.fill(full, g, ctx.dim), None, None


class Join(Once):
    """``active`` and the parts of ``constant`` in their places along dimension 1: (B, H, S, D) in the memory order
    (B, S, H, D) that fused kernels give."""

    @staticmethod
    def forward(ctx: Any, active: Tensor, on: Rows, off: Rows, *constant: Tensor) -> Tensor:
        ctx.on = on
        batch, _, length, width = active.shape
        strides = (length * on.total * width, width, on.total * width, 1)
        out = torch.empty_strided((batch, on.total, length, width), strides, dtype=active.dtype, device=active.device)
        off.put_into(out, constant, 1)
        return on.put_into(out, on.cut(active, 1), 1)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return ctx.on.take(g, 1), None, None, *(None for _ in ctx.needs_input_grad[3:])


class Composed(Once):
    """softmax(scale · Q Kᵀ + mask) V as PyTorch composes it, product for product, of which some heads are constants.

    ``whole``: query, key, value (B, H, S, D) and mask (…, S, S) or None, of all heads. ``noise``: for dropout, which
    of the (B, H, S, S) are kept and their share. ``on``: the active heads. Extra arguments are the active ones of
    query, key and value, and the mask that goes with them, which receive the gradients.
    """

    @staticmethod
    def forward(
        ctx: Any, whole: tuple, noise: tuple | None, scale: float | None, on: Rows, *active: Tensor | None
    ) -> Tensor:
        q, k, v, mask = whole
        ctx.kind, ctx.on = q.dtype, on
        wide = torch.float32 if q.dtype in (torch.float16, torch.bfloat16) else q.dtype
        q, k, v = q.to(wide), k.to(wide), v.to(wide)
        root = math.sqrt(1 / math.sqrt(q.shape[-1]) if scale is None else abs(scale))
        ctx.roots = -root if scale is not None and scale < 0 else root, root
        scores = (q * ctx.roots[0]) @ (k.transpose(-2, -1) * root)
        weights = torch.ops.aten._safe_softmax(scores if mask is None else scores + mask, -1)
        kept = None if noise is None else noise[0].to(wide).div_(noise[1])
        ctx.save_for_backward(*active, *(None if t is None else on.copy(t, 1) for t in (weights, kept)))
        return ((weights if kept is None else weights * kept) @ v).to(ctx.kind)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        q, k, v, mask, weights, kept = ctx.saved_tensors
        # a backward pass may be made under autocast, which these products are not
        with torch.autocast(g.device.type, enabled=False):
            wide, (first, second) = weights.dtype, ctx.roots
            g = ctx.on.take(g, 1).to(wide)
            sent = g @ v.to(wide).transpose(-2, -1)
            dropped = weights if kept is None else weights * kept
            scores = torch.ops.aten._softmax_backward_data(sent if kept is None else sent * kept, weights, -1, wide)
            gq = scores @ (k.to(wide) * second) * first
            gk = scores.transpose(-2, -1) @ (q.to(wide) * first) * second
            gv = dropped.transpose(-2, -1) @ g
            gm = scores.sum_to_size(mask.shape).to(mask.dtype) if ctx.needs_input_grad[7] else None
        return None, None, None, None, gq.to(ctx.kind), gk.to(ctx.kind), gv.to(ctx.kind), gm


@dataclass(frozen=True)
class Plan:
    """Active entries of one layer's weight W (out, in): ``weight`` along ``dim`` (0 rows, 1 columns); ``bias``
    along its only one. ``geometry``: a convolution's stride, padding and dilation."""

    dim: int
    weight: Rows
    bias: Rows
    detach: bool
    geometry: tuple = ()

    @property
    def active(self) -> int:
        """Entries of the weight along ``dim`` that are active."""
        return sum(self.weight.lengths)

    @property
    def sends_part(self) -> bool:
        """Whether the gradient of the active outputs is all that the backward pass reads, and not of all outputs."""
        some = not (self.weight.empty or self.weight.whole)
        return self.detach and self.dim == 0 and some and (self.bias.empty or self.bias.runs == self.weight.runs)


class SparseLinear(Once):
    """``F.linear``; extra arguments are the active weight pieces, then the active bias pieces.

    ``part``: the active columns of ``x``, where they are there by themselves (``mat.backward.operators.parts``); they,
    and not ``x``, then receive the gradient. The second result stands for the active ones of the first one's last
    dimension: it has their shape and no memory, and passes on their gradient where a caller computes with them alone.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, plan: Plan, part: Tensor | None, *pieces: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        ctx.plan, ctx.x_shape = plan, x.shape
        ctx.set_materialize_grads(False)
        # columns of inactive slices are never needed again, so they are not kept for the backward pass
        if part is None:
            part = x if plan.dim == 0 or plan.weight.empty else plan.weight.copy(x, -1)
        ctx.save_for_backward(None if plan.weight.empty else part, weight)
        # how a product is folded, and so rounded, depends on whether its weight is to be trained
        out = F.linear(x, weight.detach().requires_grad_(), bias)
        return out, out.new_empty(()).expand(*out.shape[:-1], plan.active) if plan.sends_part else None

    @staticmethod
    def backward(ctx: Any, g: Tensor | None, part: Tensor | None) -> Any:
        plan: Plan = ctx.plan
        x, weight = ctx.saved_tensors
        rows = plan.dim == 0
        if part is None:
            assert g is not None  # without any gradient there is no backward pass
            g = g.reshape(-1, g.shape[-1])
            active_g = plan.weight.take(g, 1) if rows else g
        else:  # of rows, in ``detach``
            active_g = part.reshape(-1, part.shape[-1])
            if g is not None:
                active_g = active_g + plan.weight.take(g.reshape(-1, g.shape[-1]), 1)
        gx = gp = None
        if ctx.needs_input_grad[4]:
            gp = (active_g @ plan.weight.take(weight, 1)).reshape(*ctx.x_shape[:-1], plan.active)
        if ctx.needs_input_grad[0]:
            if not plan.detach:
                gx = g @ weight
            elif rows:
                gx = active_g @ plan.weight.take(weight, 0)
            else:
                gx = plan.weight.put(active_g @ plan.weight.take(weight, 1), 1)
            gx = gx.reshape(ctx.x_shape)
        weights: list[Tensor] = []
        if not plan.weight.empty:
            x = x.reshape(-1, x.shape[-1])
            # columns as dense leaves lie in memory (``Leaves.densify``), which take their part uncopied
            if rows:
                weights = list((active_g.T @ x).split(plan.weight.lengths))
            else:
                weights = [piece.T for piece in (x.T @ active_g).split(plan.weight.lengths)]
        biases: tuple[Tensor, ...] = ()
        if not plan.bias.empty:
            if rows and plan.bias.runs == plan.weight.runs:
                own = active_g
            else:
                assert g is not None  # as ``Plan.sends_part`` has it
                own = plan.bias.take(g, 1)
            biases = own.sum(0).split(plan.bias.lengths)
        return gx, None, None, None, gp, *weights, *biases


# The backward nodes of functions that keep channels apart and have no parameters.
_CHANNELWISE = {
    f"{name}Backward0"
    for name in (
        *("Relu", "Hardtanh", "LeakyRelu", "Elu", "Gelu", "Silu", "Hardswish", "NativeDropout", "Clone", "Alias"),
        *("MaxPool2DWithIndices", "AvgPool2D", "AdaptiveAvgPool2D"),
    )
}


def wanted_channels(x: Tensor) -> Rows | None:
    """The channels of ``x`` (N, C, H, W) whose gradient somebody reads; None: all, or it cannot be told.

    Where ``x`` comes, channel by channel, from a convolution or batch norm with constant filters, the gradient
    of those would be dropped there.
    """
    node = x.grad_fn
    while node is not None and node.name() in _CHANNELWISE:
        (node, _), *_ = node.next_functions
    rows = getattr(node, "sends_back", None)
    return rows if rows is not None and rows.total == x.shape[1] and not rows.whole else None


class SparseConv2d(Once):
    """``F.conv2d`` with zero padding and one group; slices are output channels. ``wanted``: the input channels
    whose gradient is to be computed, None for all."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, plan: Plan, wanted: Rows | None, *pieces: Tensor
    ) -> Tensor:
        ctx.plan, ctx.wanted, ctx.x_shape = plan, wanted, x.shape
        ctx.sends_back = plan.weight if plan.detach else None
        ctx.save_for_backward(None if plan.weight.empty else x, weight)
        return F.conv2d(x, weight, bias, *plan.geometry)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        plan: Plan = ctx.plan
        x, weight = ctx.saved_tensors
        rows, wanted = plan.weight, ctx.wanted
        gx = whole = None
        wants_x, wants_w = ctx.needs_input_grad[0], not rows.empty
        active_g = rows.take(g, 1) if plan.detach or wants_w else g
        if wants_x and wants_w and wanted is None and (plan.detach or rows.whole):
            gx, whole = conv_backward(active_g, x, rows.take(weight, 0), plan.geometry, True, True)
        else:
            if wants_w:
                _, whole = conv_backward(active_g, x, rows.take(weight, 0), plan.geometry, False, True)
            if wants_x:
                sent, through = (active_g, rows.take(weight, 0)) if plan.detach else (g, weight)
                gx = _conv_input(sent, through, ctx.x_shape, plan.geometry, wanted)
        weights = () if whole is None else whole.split(rows.lengths, dim=0)
        biases = () if plan.bias.empty else plan.bias.take(g, 1).sum((0, 2, 3)).split(plan.bias.lengths)
        return gx, None, None, None, None, *weights, *biases


def _conv_input(g: Tensor, weight: Tensor, shape: torch.Size, geometry: tuple, wanted: Rows | None) -> Tensor | None:
    """The gradient of a convolution's input of that shape, zero in the channels that are not wanted."""
    channels = shape[1] if wanted is None else sum(wanted.lengths)
    weight = weight if wanted is None else wanted.take(weight, 1)
    x = g.new_empty((shape[0], channels, *shape[2:]))  # only its shape is read
    gx, _ = conv_backward(g, x, weight, geometry, True, False)
    return gx if wanted is None or gx is None else wanted.put(gx, 1)


class SparseBatchNorm(Once):
    """``F.batch_norm`` whose inactive channels are constants; extra arguments are the active pieces of the scale,
    then those of the shift. Only active channels are kept for the backward pass. ``options``: running mean and
    variance, whether it trains, momentum, ε."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, options: tuple, rows: Rows, *pieces: Tensor
    ) -> Tensor:
        *running, training, _, eps = options
        out, mean, inverse = torch.native_batch_norm(x, scale, shift, *options)
        # in training the batch's own statistics count; running ones may be missing
        kept = (scale, *((None, None) if training else running), mean, inverse)
        taken = [t if t is None or not t.numel() else rows.copy(t, 0).clone() for t in kept]
        ctx.save_for_backward(rows.copy(x, 1), *taken)
        ctx.rows, ctx.training, ctx.eps = rows, training, eps
        ctx.sends_back = rows
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, scale, *statistics = ctx.saved_tensors
        rows, wants_x = ctx.rows, ctx.needs_input_grad[0]
        gx, scales, shifts = torch.ops.aten.native_batch_norm_backward(
            rows.copy(g, 1), x, scale, *statistics, ctx.training, ctx.eps, [wants_x, True, True]
        )
        gx = rows.put(gx, 1) if wants_x else None
        return gx, None, None, None, None, *scales.split(rows.lengths), *shifts.split(rows.lengths)


def conv_backward(
    g: Tensor, x: Tensor, weight: Tensor, geometry: tuple, wants_x: bool, wants_w: bool
) -> tuple[Tensor | None, Tensor | None]:
    stride, padding, dilation = geometry
    gx, gw, _ = torch.ops.aten.convolution_backward(
        g, x, weight, None, stride, padding, dilation, False, [0, 0], 1, [wants_x, wants_w, False]
    )
    return gx, gw
