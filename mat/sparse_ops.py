"""Linear and convolution whose backward pass computes gradients for active slices only.

The forward pass is the plain operator on the whole weight. The weight enters as data, and the active
slices, each a leaf tensor sharing the weight's storage, enter beside it to receive their gradients. In
``exact`` the gradient of the input is the full one; in ``detach`` inactive slices are constants, so only
active rows (or columns) carry gradient to the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class Rows:
    """Which entries along one dimension of a tensor are active.

    ``index`` is None (all), a slice (one contiguous run) or a LongTensor; ``lengths`` splits the active
    entries into the pieces that own them, in order.
    """

    index: slice | Tensor | None
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, runs: Sequence[tuple[int, int]], total: int, device: torch.device) -> Rows:
        """From sorted, disjoint (start, stop) runs of a dimension of length ``total``."""
        lengths = tuple(stop - start for start, stop in runs)
        if sum(lengths) == total:
            return cls(None, lengths)
        if runs and sum(lengths) == runs[-1][1] - runs[0][0]:
            return cls(slice(runs[0][0], runs[-1][1]), lengths)
        parts = [torch.arange(start, stop, device=device) for start, stop in runs]
        return cls(torch.cat(parts) if parts else slice(0, 0), lengths)

    @property
    def empty(self) -> bool:
        return not self.lengths

    def take(self, tensor: Tensor, dim: int) -> Tensor:
        """The active entries of ``tensor`` along ``dim``; a view where they are contiguous."""
        if self.index is None:
            return tensor
        if isinstance(self.index, slice):
            return tensor.narrow(dim, self.index.start, self.index.stop - self.index.start)
        return tensor.index_select(dim, self.index)

    def copy(self, tensor: Tensor, dim: int) -> Tensor:
        """The active entries in memory of their own, so that keeping them does not keep all of ``tensor``."""
        taken = self.take(tensor, dim)
        return taken.contiguous() if isinstance(self.index, slice) else taken

    def put_into(self, out: Tensor, values: Tensor, dim: int) -> Tensor:
        """Write ``values`` to the active entries of ``out`` along ``dim``; returns ``out``."""
        if self.index is None:
            return out.copy_(values)
        if isinstance(self.index, slice):
            out.narrow(dim, self.index.start, self.index.stop - self.index.start).copy_(values)
            return out
        return out.index_copy_(dim, self.index, values)

    def put(self, values: Tensor, total: int, dim: int) -> Tensor:
        """``values`` at the active entries of ``dim``, zeros elsewhere."""
        if self.index is None:
            return values
        shape = list(values.shape)
        shape[dim] = total
        return self.put_into(values.new_zeros(shape), values, dim)


@dataclass(frozen=True)
class Plan:
    """Active entries of one layer's weight W (out, in): ``weight`` along ``dim`` (0 rows, 1 columns); ``bias``
    along its only one."""

    dim: int
    weight: Rows
    bias: Rows
    detach: bool


class SparseLinear(torch.autograd.Function):
    """``F.linear``; extra arguments are the active weight pieces, then the active bias pieces."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None, plan: Plan, *pieces: Tensor) -> Tensor:
        ctx.plan = plan
        # columns of inactive slices are never needed again, so they are not kept for the backward pass
        kept = x if plan.dim == 0 or plan.weight.empty else plan.weight.copy(x, -1)
        ctx.save_for_backward(None if plan.weight.empty else kept, weight)
        ctx.x_shape = x.shape
        return F.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor):
        plan: Plan = ctx.plan
        x, weight = ctx.saved_tensors
        g = g.reshape(-1, g.shape[-1])
        rows = plan.dim == 0
        active_g = plan.weight.take(g, 1) if rows else g
        gx = None
        if ctx.needs_input_grad[0]:
            if not plan.detach:
                gx = g @ weight
            elif rows:
                gx = active_g @ plan.weight.take(weight, 0)
            else:
                gx = plan.weight.put(g @ plan.weight.take(weight, 1), ctx.x_shape[-1], 1)
            gx = gx.reshape(ctx.x_shape)
        weights = ()
        if not plan.weight.empty:
            x = x.reshape(-1, x.shape[-1])
            # columns as dense leaves lie in memory (``SparseBackward.densify``), which take their part uncopied
            if rows:
                weights = (active_g.T @ x).split(plan.weight.lengths)
            else:
                weights = [piece.T for piece in (x.T @ g).split(plan.weight.lengths)]
        biases = () if plan.bias.empty else plan.bias.take(g, 1).sum(0).split(plan.bias.lengths)
        return gx, None, None, None, *weights, *biases


class SparseConv2d(torch.autograd.Function):
    """``F.conv2d`` with zero padding and one group; slices are output channels."""

    @staticmethod
    def forward(
        ctx, x: Tensor, weight: Tensor, bias: Tensor | None, plan: Plan, geometry: tuple, *pieces: Tensor
    ) -> Tensor:
        ctx.plan, ctx.geometry = plan, geometry
        needed = ctx.needs_input_grad[0] or not plan.weight.empty
        ctx.save_for_backward(x if needed else None, weight)
        return F.conv2d(x, weight, bias, *geometry)

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor):
        plan: Plan = ctx.plan
        x, weight = ctx.saved_tensors
        rows = plan.weight
        gx = whole = None
        wants_x, wants_w = ctx.needs_input_grad[0], not rows.empty
        if wants_x and wants_w and (plan.detach or rows.index is None):
            gx, whole = _conv_backward(rows.take(g, 1), x, rows.take(weight, 0), ctx.geometry, True, True)
        else:
            if wants_w:
                active_g = rows.take(g, 1)
                _, whole = _conv_backward(active_g, x, rows.take(weight, 0), ctx.geometry, False, True)
            if wants_x and not plan.detach:
                gx, _ = _conv_backward(g, x, weight, ctx.geometry, True, False)
        weights = () if whole is None else whole.split(rows.lengths, dim=0)
        biases = () if plan.bias.empty else plan.bias.take(g, 1).sum((0, 2, 3)).split(plan.bias.lengths)
        return gx, None, None, None, None, *weights, *biases


class SparseBatchNorm(torch.autograd.Function):
    """``F.batch_norm`` whose inactive channels are constants; extra arguments are the active pieces of the scale,
    then those of the shift. Only active channels are kept for the backward pass."""

    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        scale: Tensor,
        shift: Tensor,
        statistics: tuple,
        options: tuple,
        rows: Rows,
        *pieces: Tensor,
    ) -> Tensor:
        training, momentum, eps = options
        out, mean, inverse = torch.native_batch_norm(x, scale, shift, *statistics, training, momentum, eps)
        if training:  # the batch's own statistics; running ones may be missing
            statistics = (None, None)
        kept = (scale, *statistics, mean, inverse)
        taken = [t if t is None or not t.numel() else rows.copy(t, 0).clone() for t in kept]
        ctx.save_for_backward(rows.copy(x, 1), *taken)
        ctx.rows, ctx.training, ctx.eps, ctx.channels = rows, training, eps, x.shape[1]
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor):
        x, scale, *statistics = ctx.saved_tensors
        rows, wants_x = ctx.rows, ctx.needs_input_grad[0]
        gx, scales, shifts = torch.ops.aten.native_batch_norm_backward(
            rows.copy(g, 1), x, scale, *statistics, ctx.training, ctx.eps, [wants_x, True, True]
        )
        gx = rows.put(gx, ctx.channels, 1) if wants_x else None
        return gx, None, None, None, None, None, *scales.split(rows.lengths), *shifts.split(rows.lengths)


def _conv_backward(
    g: Tensor, x: Tensor, weight: Tensor, geometry: tuple, wants_x: bool, wants_w: bool
) -> tuple[Tensor | None, Tensor | None]:
    stride, padding, dilation = geometry
    gx, gw, _ = torch.ops.aten.convolution_backward(
        g, x, weight, None, stride, padding, dilation, False, [0, 0], 1, [wants_x, wants_w, False]
    )
    return gx, gw
