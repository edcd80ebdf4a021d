"""Kernels by plain automatic differentiation, one sample after the other: slow, and right for any model.

The reference that the one-pass way is checked against, and what it falls back on for parameters that are used
by a function without a rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from mat.kernels.batched import Grams, Pieces
from mat.kernels.estimators import Estimator


def add_kernels(
    run: Callable[[int], Tensor],
    parameters: Mapping[str, nn.Parameter],
    pieces: Pieces,
    grams: Grams,
    n: int,
    passes: int,
    estimator: Estimator,
    labels: Tensor | None,
    memory: int,
) -> None:
    """Add to ``grams`` (module -> (m, m) float64) what the slices of ``parameters`` contribute.

    ``run(i)`` gives the logits (1, …) of sample i; ``passes`` cotangents each. The Jacobian of as many
    parameters as fit into ``memory`` bytes, of one at least, is held at a time; the others are frozen.
    """
    sizes = {name: n * passes * p.numel() * p.element_size() for name, p in parameters.items()}
    for group in _groups(sizes, memory):
        chosen = [parameters[name] for name in group]
        for parameter in chosen:
            parameter.requires_grad_()
        jacobians = _jacobians(run, chosen, n, estimator, labels)
        for parameter in chosen:
            parameter.requires_grad_(False)
        for name, jacobian in zip(group, jacobians, strict=True):
            _add(jacobian, parameters[name].shape, pieces[name], grams, estimator.name == "full")


def _groups(sizes: Mapping[str, int], memory: int) -> list[list[str]]:
    """Names in order, gathered while their sizes fit into ``memory`` together."""
    groups: list[list[str]] = []
    room = 0
    for name, size in sizes.items():
        if not groups or size > room:
            groups.append([])
            room = memory
        groups[-1].append(name)
        room -= size
    return groups


def _jacobians(
    run: Callable[[int], Tensor],
    parameters: list[nn.Parameter],
    n: int,
    estimator: Estimator,
    labels: Tensor | None,
) -> list[Tensor]:
    """Per parameter the rows (n, cotangents, numel)."""
    found: list[list[Tensor]] = [[] for _ in parameters]
    for i in range(n):
        logits = run(i)
        for cotangent in estimator.cotangents(logits, None if labels is None else labels[i : i + 1]):
            gradients = [None] * len(parameters)
            if logits.requires_grad:
                gradients = torch.autograd.grad(
                    logits, parameters, cotangent, retain_graph=True, allow_unused=True
                )
            for rows, gradient, parameter in zip(found, gradients, parameters, strict=True):
                if gradient is None:
                    gradient = torch.zeros_like(parameter)
                rows.append(gradient.to_dense() if gradient.is_sparse else gradient)
    return [
        torch.stack([row.detach().flatten() for row in rows]).reshape(n, len(rows) // n, -1) for rows in found
    ]


def _add(jacobian: Tensor, shape: torch.Size, pieces, grams: Grams, full: bool) -> None:
    n, k, _ = jacobian.shape
    jacobian = jacobian.reshape(n, k, *shape)
    for module, piece in pieces:
        rows = jacobian
        if shape:
            rows = jacobian.narrow(piece.dim + 2, piece.start, piece.stop - piece.start)
        rows = rows.reshape(n * k, -1) if full else rows.reshape(n, -1)
        # summing over the cotangents is what multiplying rows laid end to end does
        grams[module] += (rows @ rows.T).double()
