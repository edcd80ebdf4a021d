"""The prices of probing a model, counted on one sample."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mat.errors import InputError
from mat.flops.executed import executed_macs
from mat.flops.trace import trace_forward
from mat.forward import evaluation, forward
from mat.kernels.probes.budget import Prices
from mat.partition.partition import Partition


def counted_prices(
    model: nn.Module, partition: Partition, example: Mapping[str, Tensor], batch: int, remainder: bool
) -> Prices:
    """What a probe of ``model`` and a training step of ``batch`` samples are made of; the step at its least, which is
    its forward pass. ``example``: keyword inputs of one sample; ``remainder``: its kernel is measured, too.

    The model is left as it was. Raises InputError for what cannot be counted (``mat.flops``).
    """
    if batch < 1:
        raise InputError(f"batch must be the samples of a training step, ≥ 1, got {batch!r}")
    partition_of = partition.with_remainder() if remainder else partition
    device = next(model.parameters()).device.type
    weights = round(sum(trace_forward(model, example).parameters.values()))
    with evaluation(model):
        with torch.no_grad():
            once, logits = executed_macs(lambda: forward(model, example), device)
        parameters = list(model.parameters())
        for parameter in parameters:
            parameter.requires_grad_(True)
        whole, _ = executed_macs(
            lambda: torch.autograd.grad(forward(model, example).sum(), parameters, allow_unused=True), device
        )
    measured = sum(partition_of.size(module.slices) for module in partition_of.modules)
    inputs = whole - once - weights
    return Prices(batch * once, once, inputs, weights, measured, len(partition.modules), logits.numel())
