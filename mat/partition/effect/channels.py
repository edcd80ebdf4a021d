"""Which output channels the entries of a convolution, and of the norm behind it, make: of filter groups.

One forward pass is cut ahead of every convolution. With the channels of group i of what comes out kept by a factor s_i,
the gradients of the group's own entries are s_i times those with all factors 1, exactly where they make no other
group's channels. ⌈log₈ n⌉ passes, of all convolutions at once, tell n groups apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from mat.forward import Inputs, called, evaluation
from mat.partition.effect.codes import (
    CONFIRMED,
    CONTRADICTED,
    UNSEEN,
    buffers_kept,
    codes,
    digits,
    first_few,
    scaled,
    spread,
)
from mat.partition.partition import Channels, Slice


def of_channels(model: nn.Module, premises: Sequence[Channels], inputs: Inputs) -> dict[Channels, str]:
    """Whether gradients on the first samples of ``inputs`` confirm or contradict a premise, or leave it unseen."""
    if not premises:
        return {}
    named = set().union(*(premise.parameters for premise in premises))
    parameters = {name: p for name, p in model.named_parameters() if name in named}
    outputs: dict[str, list[Tensor]] = {}
    hooks = []

    def keep(path: str) -> Callable[..., Any]:
        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            if not isinstance(output, Tensor):
                return output
            outputs.setdefault(path, []).append(output)
            return output.clone()  # which may be changed in place

        return hook

    with evaluation(model), buffers_kept(model):
        for parameter in parameters.values():
            parameter.requires_grad_()
        try:
            for where in {premise.where for premise in premises}:
                hooks.append(model.get_submodule(where).register_forward_pre_hook(_cut, with_kwargs=True))
            for path in {premise.outputs for premise in premises}:
                hooks.append(model.get_submodule(path).register_forward_hook(keep(path)))
            called(model, first_few(inputs))
        finally:
            for hook in hooks:
                hook.remove()

        def gradients(factors: dict[Channels, Tensor]) -> dict[str, Tensor | None]:
            found, cotangents = [], []
            for premise, factor in factors.items():
                for y in outputs[premise.outputs]:
                    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
                    found.append(y)
                    cotangents.append((noise * factor.reshape(-1, 1, 1)).to(y))
            made = torch.autograd.grad(found, list(parameters.values()), cotangents, True, allow_unused=True)
            return dict(zip(parameters, made, strict=True))

        verdicts = {premise: _first_look(premise, outputs.get(premise.outputs, [])) for premise in premises}
        open_ = [premise for premise, verdict in verdicts.items() if verdict == CONFIRMED]
        plain = gradients({premise: torch.ones(premise.width) for premise in open_}) if open_ else {}
        for digit in range(max((digits(premise.count) for premise in open_), default=0)):
            factors = {premise: spread(codes(premise.count, digit), premise.width) for premise in open_}
            again = gradients(factors)
            for premise, factor in factors.items():
                pairs = ((_rows(s, plain[s.parameter]), _rows(s, again[s.parameter])) for s in premise.slices)
                if not all(scaled(before, after, factor, summed=True) for before, after in pairs):
                    verdicts[premise] = CONTRADICTED
    return verdicts


def _first_look(premise: Channels, outputs: Sequence[Tensor]) -> str:
    if not outputs or not all(y.requires_grad for y in outputs):
        return UNSEEN
    fits = all(y.dim() in (3, 4) and y.shape[-3] == premise.width for y in outputs)
    return CONFIRMED if fits else CONTRADICTED


def _rows(piece: Slice, gradient: Tensor | None) -> Tensor | None:
    """Of a parameter whose first dimension is cut (entries of a row, rows)."""
    return None if gradient is None else gradient.reshape(len(gradient), -1).T


def _cut(module: nn.Module, args: Any, kwargs: Any) -> Any:
    return tree_map_only(Tensor, torch.Tensor.detach, (args, kwargs))
