"""Functions whose backward pass cannot be differentiated, which they say in one line where somebody does."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from mat.errors import InputError

REFUSAL = (
    "the sparse backward pass has no second derivatives (create_graph=True, as gradient penalties need) and goes into "
    "no transform of torch.func: leave such a term out of the loss, or close the controller before it is used"
)


class Once(torch.autograd.Function):
    """A Function whose gradients raise InputError where they are differentiated in turn, with respect to anything that
    went in, and which raises it inside torch.func's transforms."""

    def __init_subclass__(cls) -> None:
        for name, wrapped in (("forward", _linked(cls.forward)), ("backward", _refusing(cls.backward))):
            setattr(cls, name, staticmethod(wrapped))

    @classmethod
    def apply(cls, *args: Any) -> Any:
        if torch._C._are_functorch_transforms_active():
            raise InputError(REFUSAL)
        return super().apply(*args)


def _linked(forward: Any) -> Any:
    @functools.wraps(forward)
    def run(ctx: Any, *args: Any) -> Any:
        given = [arg for arg in args if isinstance(arg, Tensor) and arg.requires_grad]
        with torch.enable_grad():
            ctx.link = _Link.apply(*given)
        return forward(ctx, *args)

    return run


def _refusing(backward: Any) -> Any:
    @functools.wraps(backward)
    def run(ctx: Any, *gradients: Tensor | None) -> Any:
        with torch.no_grad():
            found = backward(ctx, *gradients)
        if not torch.is_grad_enabled():
            return found
        several = found if isinstance(found, tuple) else (found,)
        return tuple(None if g is None else _Refuse.apply(g, ctx.link, *gradients) for g in several)

    return run


class _Link(torch.autograd.Function):
    """A scalar that depends on all it is given: a path to it, however the gradient is asked for, and no memory."""

    @staticmethod
    def forward(ctx: Any, *given: Tensor) -> Tensor:
        return torch.zeros(())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise InputError(REFUSAL)


class _Refuse(torch.autograd.Function):
    """A gradient as it is, which depends on the others; going backward through it is refused."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *others: Tensor | None) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise InputError(REFUSAL)
