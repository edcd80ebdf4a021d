"""Kernels by plain automatic differentiation, one sample after the other: slow, and right for any model.

The reference that the one-pass way is checked against, and what it falls back on for parameters that are used
by a function without a rule.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from mat.kernels.request import Grams, Request, taking_gradients
from mat.partition.partition import Slice


def add_kernels(request: Request, names: Collection[str], grams: Grams, n: int, shape: torch.Size) -> None:
    """Add to ``grams`` what the slices of the parameters ``names`` contribute, on the first ``n`` samples.

    ``shape``: of one sample's logits. The Jacobian of as many parameters as fit into ``request.memory`` bytes, of
    one at least, is held at a time; the others are frozen.
    """
    parameters = {name: p for name, p in request.parameters.items() if name in names}
    rows = n * request.estimator.count(shape.numel())
    sizes = {name: rows * p.numel() * p.element_size() for name, p in parameters.items()}
    for group in _groups(sizes, request.memory):
        chosen = [parameters[name] for name in group]
        with taking_gradients(chosen):
            jacobians = _jacobians(request, chosen, n, shape)
        for name, jacobian in zip(group, jacobians, strict=True):
            _add(jacobian, parameters[name].shape, request.pieces[name], grams, request.full)


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


def _jacobians(request: Request, parameters: list[nn.Parameter], n: int, shape: torch.Size) -> list[Tensor]:
    """Per parameter the rows (n, cotangents, numel)."""
    found: list[list[Tensor]] = [[] for _ in parameters]
    for i in range(n):
        logits = request.logits_of([i], shape)
        for cotangent in request.estimator.cotangents(logits, request.label_of(i)):
            gradients: Sequence[Tensor | None] = [None] * len(parameters)
            if logits.requires_grad:
                gradients = torch.autograd.grad(logits, parameters, cotangent, retain_graph=True, allow_unused=True)
            for rows, gradient, parameter in zip(found, gradients, parameters, strict=True):
                if gradient is None:
                    gradient = torch.zeros_like(parameter)
                rows.append(gradient.to_dense() if gradient.is_sparse else gradient)
    return [torch.stack([row.detach().flatten() for row in rows]).reshape(n, len(rows) // n, -1) for rows in found]


def _add(jacobian: Tensor, shape: torch.Size, pieces: Sequence[tuple[str, Slice]], grams: Grams, full: bool) -> None:
    n, k, _ = jacobian.shape
    jacobian = jacobian.reshape(n, k, *shape)
    for module, piece in pieces:
        rows = piece.of(jacobian, 2).reshape(n * k if full else n, -1)
        if rows.is_complex():  # two real parameters each, whose gradients autograd gives as one number
            rows = torch.view_as_real(rows).flatten(1)
        # summing over the cotangents is what multiplying rows laid end to end does
        grams[module] += (rows @ rows.T).double()
