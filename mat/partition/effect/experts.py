"""Whether experts are apart: no expert's gradient depends on what another one's parameters are.

One forward pass finds the smallest modules that are called and hold the experts; these alone then run again, on what
they were given, with some of the experts changed. The gradients of the others must stay as they were. That needs to
know neither which of an expert's tensors leads in and which out, nor how they are laid out or by which functions they
are used. Each expert is changed in a half of the passes, and no two in the same: K passes tell C(K, ⌊K/2⌋) of them
apart, five 10, ten 252.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves, tree_map_only

from mat.forward import Inputs, called, evaluation
from mat.partition.effect.codes import CONFIRMED, CONTRADICTED, UNSEEN, buffers_kept, first_few, scaled
from mat.partition.partition import Apart, Slice
from mat.partition.projections import ancestors, within

CHANGE = -0.5  # a factor

Call = tuple[str, tuple, dict]  # a module's path and what it was given


def of_experts(model: nn.Module, premises: Sequence[Apart], inputs: Inputs) -> dict[Apart, str]:
    """Whether gradients on the first samples of ``inputs`` confirm or contradict a premise, or leave it unseen."""
    if not premises:
        return {}
    calls: dict[str, list[Call]] = {}
    hooks = []

    def keep(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            given = tree_map_only(Tensor, lambda t: t.detach().clone(), (args, kwargs))
            calls.setdefault(path, []).append((path, *given))

        return hook

    with evaluation(model), buffers_kept(model):
        try:
            for path in {path for premise in premises for paths in _places(premise) for path in paths}:
                hook = model.get_submodule(path).register_forward_pre_hook(keep(path), with_kwargs=True)
                hooks.append(hook)
            called(model, first_few(inputs))
        finally:
            for hook in hooks:
                hook.remove()
        return {premise: _verdict(model, premise, calls) for premise in premises}


def _places(premise: Apart) -> list[tuple[str, ...]]:
    """Modules that may be called with the experts in them, the smallest first."""
    return [premise.paths, (premise.where,), *((path,) for path in ancestors(premise.where))]


def _verdict(model: nn.Module, premise: Apart, calls: Mapping[str, list[Call]]) -> str:
    made = ([call for path in paths for call in calls.get(path, ())] for paths in _places(premise))
    parameters = {name: model.get_parameter(name).detach() for name in sorted(premise.parameters)}
    try:
        for nearest in made:  # the parameters may be handed to a module that holds them
            plain = _gradients(model, nearest, parameters)
            if any(gradient is not None and gradient.any() for gradient in plain.values()):
                break
        else:
            return UNSEEN
        for changed in draws(len(premise.parts)):
            others = {name: parameter.detach().clone() for name, parameter in parameters.items()}
            for piece in (piece for e in changed for piece in premise.parts[e]):
                piece.of(others[piece.parameter]).mul_(CHANGE)
            again = _gradients(model, nearest, others)
            for piece in (piece for e, part in enumerate(premise.parts) if e not in changed for piece in part):
                before, after = (_row(piece, found[piece.parameter]) for found in (plain, again))
                if not scaled(before, after, torch.ones(1), summed=True):
                    return CONTRADICTED
    except Exception:  # a part that cannot be called by itself, with parameters that are lent to it
        return UNSEEN
    return CONFIRMED


def _row(piece: Slice, gradient: Tensor | None) -> Tensor | None:
    return None if gradient is None else piece.of(gradient).reshape(-1, 1)


def _gradients(model: nn.Module, calls: Sequence[Call], parameters: Mapping[str, Tensor]) -> dict[str, Tensor | None]:
    """Of random sums of what the ``calls`` give, with these ``parameters``."""
    leaves = {name: parameter.requires_grad_() for name, parameter in parameters.items()}
    outputs, cotangents = [], []
    for path, args, kwargs in calls:
        lent = {name.removeprefix(f"{path}." if path else ""): p for name, p in leaves.items() if within(name, path)}
        result = functional_call(model.get_submodule(path), lent, args, kwargs)
        for y in tree_leaves(result):
            if isinstance(y, Tensor) and y.requires_grad:
                outputs.append(y)
                cotangents.append(torch.randn(y.shape, generator=torch.Generator().manual_seed(0)).to(y))
    made: Sequence[Tensor | None] = [None] * len(leaves)
    if outputs:
        made = torch.autograd.grad(outputs, list(leaves.values()), cotangents, allow_unused=True)
    return dict(zip(leaves, made, strict=True))


def draws(count: int) -> list[set[int]]:
    """Which experts are changed in each pass."""
    passes = next(k for k in itertools.count(2) if math.comb(k, k // 2) >= count)
    words = itertools.islice(itertools.combinations(range(passes), passes // 2), count)
    found: list[set[int]] = [set() for _ in range(passes)]
    for expert, word in enumerate(words):
        for k in word:
            found[k].add(expert)
    return found
