"""Modular neural tangent kernels: one Gram matrix per module of a partition.

Θ_l = J_l J_lᵀ with J_l the Jacobian of the outputs on n samples with respect to the module's parameters
(Shi et al., NeurIPS 2023). Two estimators, by name:

``sum_of_logits``  (n, n): row i is ∇ (1/√k) Σ_c f_c(x_i), after Mohamadi & Sutherland, ICML 2023.
                   One forward and one backward for all modules; weight gradients are never formed for
                   the batch, only per sample and layer.
``full``           (nk, nk): row (i, c) is ∇ f_c(x_i), by one backward per row. Slow; the reference.

The outputs of one sample are all its logits: k is the number of classes, or positions × vocabulary.
Grams are in float64; products are in the model's own precision.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mat.errors import InputError
from mat.partition import Partition, Slice

Inputs = Mapping[str, Tensor]


def forward(model: nn.Module, inputs: Inputs) -> Tensor:
    """The logits of ``model``, called with keyword ``inputs``; a Hugging Face output gives its ``.logits``."""
    output = model(**inputs)
    return output if isinstance(output, Tensor) else output.logits


def modular_ntk(
    model: nn.Module, partition: Partition, inputs: Inputs, estimator: str = "sum_of_logits"
) -> dict[str, Tensor]:
    """The mNTK of every module on the samples ``inputs`` (first dimension n), float64.

    The model is probed in evaluation mode and left as it was: mode, gradients, ``requires_grad``.
    Raises InputError for an unknown estimator, or a module in a layer that has no per-sample rule.
    """
    if estimator not in ESTIMATORS:
        raise InputError(f"unknown estimator {estimator!r}; known: {', '.join(ESTIMATORS)}")
    with _evaluation(model):
        return ESTIMATORS[estimator](model, partition, inputs)


def normalise(gram: Tensor, normalisation: str, parameters: int) -> Tensor:
    """``raw``; ``cosine``: unit rows, zero rows stay zero; ``per_parameter``: divided by ``parameters``."""
    if normalisation == "raw":
        return gram
    if normalisation == "cosine":
        scale = gram.diagonal().clamp(min=0).sqrt()
        scale = torch.where(scale > 0, 1 / scale, torch.zeros_like(scale))
        return gram * scale[:, None] * scale[None, :]
    if normalisation == "per_parameter":
        return gram / max(parameters, 1)
    raise InputError(f"unknown normalisation {normalisation!r}; known: {', '.join(NORMALISATIONS)}")


@contextmanager
def _evaluation(model: nn.Module) -> Iterator[None]:
    """Evaluation mode with gradients off for parameters; every submodule's mode is put back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.eval()
    try:
        with torch.enable_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def _sum_of_logits(model: nn.Module, partition: Partition, inputs: Inputs) -> dict[str, Tensor]:
    owned: dict[str, dict[str, list[tuple[str, Slice]]]] = {}
    for module in partition.modules:
        for piece in module.slices:
            path, _, attribute = piece.parameter.rpartition(".")
            owned.setdefault(path, {}).setdefault(attribute, []).append((module.name, piece))
    layers = {path: model.get_submodule(path) for path in owned}
    for path, layer in layers.items():
        if not isinstance(layer, tuple(PER_SAMPLE)):
            raise InputError(
                f"no per-sample gradient rule for {path!r} ({type(layer).__name__}); use estimator 'full', "
                f"or leave it to the remainder. Known: {', '.join(t.__name__ for t in PER_SAMPLE)}"
            )
    model.requires_grad_(False)
    seen: dict[str, Tensor] = {}
    sensitivity: dict[str, Tensor] = {}
    handles = [
        layer.register_forward_hook(_recorder(path, seen, sensitivity)) for path, layer in layers.items()
    ]
    try:
        logits = forward(model, inputs)
        n, k = len(logits), logits[0].numel()
        if logits.requires_grad:
            (logits.sum() / k**0.5).backward()
    finally:
        for handle in handles:
            handle.remove()
    grams = {name: torch.zeros(n, n, dtype=torch.float64, device=logits.device) for name in partition.names}
    with torch.no_grad():
        for path, pieces in owned.items():
            if path not in sensitivity:  # the outputs do not depend on this layer: its kernel is zero
                continue
            gradients = _per_sample(layers[path], seen[path], sensitivity[path], set(pieces))
            for attribute, slices in pieces.items():
                for name, piece in slices:
                    rows = gradients[attribute].narrow(piece.dim + 1, piece.start, piece.stop - piece.start)
                    rows = rows.reshape(n, -1)
                    grams[name] += (rows @ rows.T).double()
    return grams


def _recorder(path: str, seen: dict[str, Tensor], sensitivity: dict[str, Tensor]):
    """A forward hook keeping a layer's input, and through a tensor hook the gradient at its output.

    The tensor hook is set before any in-place operation on the output, so it sees the gradient with
    respect to the output as the layer made it.
    """

    def hook(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if path in seen:
            raise InputError(f"layer {path!r} is called twice in one forward pass; use estimator 'full'")
        seen[path] = args[0].detach()
        if not output.requires_grad:  # nothing before it is recorded: the graph starts here
            output = output.detach().requires_grad_().clone()
        output.register_hook(lambda gradient: sensitivity.__setitem__(path, gradient))
        return output

    return hook


def _linear(layer: nn.Linear, x: Tensor, g: Tensor, wanted: set[str]) -> dict[str, Tensor]:
    x, g = x.reshape(len(x), -1, x.shape[-1]), g.reshape(len(g), -1, g.shape[-1])
    out = {}
    if "weight" in wanted:
        out["weight"] = g.transpose(1, 2) @ x
    if "bias" in wanted:
        out["bias"] = g.sum(1)
    return out


def _conv2d(layer: nn.Conv2d, x: Tensor, g: Tensor, wanted: set[str]) -> dict[str, Tensor]:
    if layer.groups != 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise InputError("convolutions with groups, string padding or non-zero padding mode need 'full'")
    out = {}
    if "weight" in wanted:
        columns = F.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
        out["weight"] = (g.flatten(2) @ columns.transpose(1, 2)).reshape(len(x), *layer.weight.shape)
    if "bias" in wanted:
        out["bias"] = g.sum((2, 3))
    return out


def _batch_norm(layer: nn.BatchNorm2d, x: Tensor, g: Tensor, wanted: set[str]) -> dict[str, Tensor]:
    normal = F.batch_norm(x, layer.running_mean, layer.running_var, training=False, eps=layer.eps)
    return {"weight": (g * normal).sum((2, 3)), "bias": g.sum((2, 3))}


# layer type -> per-sample gradients of its parameters (n, *shape) from its input and the gradient at its output
PER_SAMPLE = {nn.Linear: _linear, nn.Conv2d: _conv2d, nn.BatchNorm2d: _batch_norm}


def _per_sample(layer: nn.Module, x: Tensor, g: Tensor, wanted: set[str]) -> dict[str, Tensor]:
    rule = next(rule for kind, rule in PER_SAMPLE.items() if isinstance(layer, kind))
    return rule(layer, x, g, wanted)


def _full(model: nn.Module, partition: Partition, inputs: Inputs) -> dict[str, Tensor]:
    parameters = dict(model.named_parameters())
    used = sorted({piece.parameter for module in partition.modules for piece in module.slices})
    outputs = forward(model, inputs).flatten(1)
    rows: dict[str, list[Tensor]] = {name: [] for name in partition.names}
    for value in outputs.flatten():
        gradients = torch.autograd.grad(
            value, [parameters[name] for name in used], retain_graph=True, allow_unused=True
        )
        of = dict(zip(used, gradients, strict=True))
        for module in partition.modules:
            parts = [
                torch.zeros(partition.size([piece]), dtype=value.dtype, device=value.device)
                if of[piece.parameter] is None
                else piece.of(of[piece.parameter]).flatten()
                for piece in module.slices
            ]
            rows[module.name].append(torch.cat(parts))
    return {name: _outer(torch.stack(jacobian)) for name, jacobian in rows.items()}


def _outer(jacobian: Tensor) -> Tensor:
    return (jacobian @ jacobian.T).double()


ESTIMATORS = {"sum_of_logits": _sum_of_logits, "full": _full}
NORMALISATIONS = ("raw", "cosine", "per_parameter")
