"""A convolution whose backward pass keeps only the output channels with the largest gradients (``mat.methods.ssprop``).

The forward pass is the plain one. What is kept is known when the gradient of the output comes, and differs from step to
step; how many channels are kept does not, and so neither does what a step costs.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from mat.backward.operators.functions import Plan, conv_backward
from mat.backward.operators.once import Once


def largest_channels(g: Tensor, share: float) -> Tensor:
    """Indices, ascending, of the max(⌊share·C⌋, 1) channels of ``g`` (N, C, H, W) with the largest mean |g|."""
    # 0.2 * 5 is exact, (1 - 0.8) * 5 is not: without the rounding one channel too few would be kept
    count = max(int(round(share * g.shape[1], 9)), 1)
    return g.abs().mean((0, 2, 3)).topk(count).indices.sort().values


class ChannelSparseConv2d(Once):
    """``F.conv2d`` with zero padding and one group, all of whose filters are active; of its output's gradient a
    ``share`` of the channels is passed on. Extra arguments are the weight's pieces, then the bias's, whose gradients
    are zero in the other channels."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, plan: Plan, share: float, *pieces: Tensor
    ) -> Tensor:
        ctx.plan, ctx.share = plan, share
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias, *plan.geometry)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        plan: Plan = ctx.plan
        x, weight = ctx.saved_tensors
        kept = largest_channels(g, ctx.share)
        sent = g.index_select(1, kept)
        gx, gw = conv_backward(sent, x, weight.index_select(0, kept), plan.geometry, ctx.needs_input_grad[0], True)
        assert gw is not None  # as was asked
        weights = g.new_zeros(weight.shape).index_copy_(0, kept, gw).split(plan.weight.lengths)
        biases: tuple[Tensor, ...] = ()
        if not plan.bias.empty:
            biases = g.new_zeros(plan.bias.total).index_copy_(0, kept, sent.sum((0, 2, 3))).split(plan.bias.lengths)
        return gx, None, None, None, None, *weights, *biases
