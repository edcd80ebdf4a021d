"""A backward pass that cannot be differentiated, said in one line where somebody does."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mat.errors import InputError


def once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """``backward`` of a Function as it is, whose gradients raise InputError when they are differentiated in turn."""

    @functools.wraps(backward)
    def run(ctx: Any, *gradients: Tensor | None) -> Any:
        with torch.no_grad():
            found = backward(ctx, *gradients)
        if not torch.is_grad_enabled():
            return found
        # whatever the gradients depend on, the sum of their parts does not say
        link = torch.zeros((), requires_grad=True)
        several = found if isinstance(found, tuple) else (found,)
        return tuple(None if g is None else _Refuse.apply(g, link) for g in several)

    return run


class _Refuse(torch.autograd.Function):
    """A gradient as it is; going backward through it is refused."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, link: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise InputError(
            "the sparse backward pass has no second derivatives (create_graph=True, as gradient penalties need): leave "
            "such a term out of the loss, or close the controller before it is used"
        )
