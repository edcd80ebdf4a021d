"""Gradient norms of modules: what a module's gradient says without any kernel.

The mean loss over n samples has the gradient g = (1/n) Σ_i ∇ loss(x_i); a module's norm is that of its slices of g,
which is (1/n)·√(1ᵀ Θ_l 1) with Θ_l the module's kernel by the estimator ``loss`` or ``step``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mat.forward import evaluation, forward
from mat.kernels.estimators import SampleLoss, sample_losses
from mat.partition.partition import Partition


def norms_of_kernels(kernels: Mapping[str, Tensor]) -> dict[str, float]:
    """(1/n)·√(1ᵀ Θ_l 1) of every module's kernel Θ_l (n, n) of per-sample gradients: the norm of their mean."""
    return {name: float(gram.sum().clamp(min=0)) ** 0.5 / len(gram) for name, gram in kernels.items()}


def gradient_norms(
    model: nn.Module, partition: Partition, inputs: Mapping[str, Tensor], labels: Tensor, loss: SampleLoss
) -> dict[str, float]:
    """‖∂ mean loss / ∂θ_l‖₂ of every module l, from one backward pass on the samples ``inputs``.

    ``inputs``: keyword inputs, tensors (n, …); ``labels`` (n, …); ``loss``: (logits, labels) -> (n,), every sample's
    own. The model is used in evaluation mode and left as it was, gradients included. A module that the loss does not
    depend on has 0. Raises FloatingPointError when a gradient is not finite, InputError when ``loss`` gives no value
    per sample.
    """
    with evaluation(model):
        parameters = {name: p for name, p in model.named_parameters() if name in partition.shapes}
        for parameter in parameters.values():
            parameter.requires_grad_(True)
        mean = sample_losses(loss, forward(model, inputs), labels).mean()
        found = torch.autograd.grad(mean, list(parameters.values()), allow_unused=True)
    gradients = dict(zip(parameters, found, strict=True))
    norms = {
        module.name: sum(
            piece.of(gradients[piece.parameter]).abs().double().square().sum().item()
            for piece in module.slices
            if gradients[piece.parameter] is not None
        )
        ** 0.5
        for module in partition.modules
    }
    if not all(norm < float("inf") for norm in norms.values()):
        raise FloatingPointError("a gradient is not finite: the model's outputs or gradients have overflowed")
    return norms
