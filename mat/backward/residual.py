"""Whether a path leads around layers that are constants, found by effect: what the gradient of a batch reaches."""

from __future__ import annotations

import torch

from mat.backward.sparse import SparseBackward
from mat.forward import Inputs, evaluation, forward


def goes_around(sparse: SparseBackward, inputs: Inputs) -> bool:
    """Whether the gradient passes by some layer of modules, the only one that is a constant, to modules below it.

    Nothing moves: the pass is of ``inputs`` in evaluation mode, and active modules and gradients are as they were.
    """
    layers = sorted({module.layer for module in sparse.partition.modules})[1:]
    before = sparse.active, sparse.channels
    with evaluation(sparse.model):
        for parameter in (*sparse.leaves.wholes.values(), *sparse.parameters()):
            parameter.requires_grad_(True)
        try:
            return any(_passes_by(sparse, inputs, layer) for layer in reversed(layers))
        finally:
            sparse.set_active(*before)


def _passes_by(sparse: SparseBackward, inputs: Inputs, layer: int) -> bool:
    modules = sparse.partition.modules
    sparse.set_active([module.name for module in modules if module.layer != layer])
    loss = forward(sparse.model, inputs).square().sum()
    below = [leaf for m in modules if m.layer < layer for leaf in sparse.module_parameters(m.name)]
    gradients = torch.autograd.grad(loss, below, allow_unused=True)
    return any(g is not None and bool(g.any()) for g in gradients)
