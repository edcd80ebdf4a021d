"""What stands in for the forward pass of a layer, and of an attention, while a model is trained sparsely."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import FunctionType, MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mat.sparse_attention import Heads, attend
from mat.sparse_layers import Product

_LINEAR, _SDPA, _MULTI_HEAD = F.linear, F.scaled_dot_product_attention, F.multi_head_attention_forward


class Forward:
    """A wrapped module's ``forward``: ``run`` where ``wanted`` and gradients are recorded, else its own.

    A copy or a pickle of the model is a plain model: this becomes the class's own forward, bound to the copy.
    Inside a compiled model it is a graph break: what is active changes from step to step.
    """

    def __init__(self, module: nn.Module, wanted: Callable[[], bool], run: Callable) -> None:
        self.module, self.wanted, self.original = module, wanted, module.forward
        self.replaced = module.__dict__.get("forward")  # somebody else's, if there is one
        self.run = torch.compiler.disable(run)

    def __call__(self, *args, **kwargs):
        if not (self.wanted() and torch.is_grad_enabled()):
            return self.original(*args, **kwargs)
        return self.run(self.original, *args, **kwargs)

    def remove(self) -> None:
        """Put back what was there, unless somebody else has put something in this one's place."""
        if self.module.__dict__.get("forward") is self:
            del self.module.forward
            if self.replaced is not None:
                self.module.forward = self.replaced

    def __deepcopy__(self, memo: dict) -> MethodType:
        return _own_forward(memo[id(self.module)])

    def __reduce__(self):
        return _own_forward, (self.module,)


def _own_forward(module: nn.Module) -> MethodType:
    """The forward of the module's class, bound to it."""
    return MethodType(type(module).forward, module)


class InsideAttention(TorchFunctionMode):
    """Sees the functions that an attention calls with its weights and heads in hand.

    ``products``: by the id of their weight, for attentions that hand weights to ``F.linear`` without calling
    the layer (nn.MultiheadAttention, torchvision's Swin). ``heads``: which heads are active, for
    scaled_dot_product_attention; None where all are to be differentiated.
    """

    def __init__(self, products: Mapping[int, Product], heads: Heads | None) -> None:
        super().__init__()
        self.products, self.heads = products, heads

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is _LINEAR:
            return self.linear(*args, **kwargs)
        if func is _SDPA:
            return self.attention(*args, **kwargs)
        if func is _MULTI_HEAD:
            return self.rebound("multi_head_attention_forward")(*args, **kwargs)
        return func(*args, **kwargs)

    def linear(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        product = self.products.get(id(weight))
        if product is None or product.bias is not bias:
            return _LINEAR(input, weight, bias)
        return product(_LINEAR, input)

    def attention(self, *args, **kwargs) -> Tensor:
        return _SDPA(*args, **kwargs) if self.heads is None else attend(_SDPA, self.heads, *args, **kwargs)

    def rebound(self, name: str) -> Callable[..., Any]:
        """A function of ``torch.nn.functional`` whose own calls of linear and attention come here.

        Functions called inside that module are looked up in its globals, which no mode sees.
        """
        table = {**vars(F), "linear": self.linear, "scaled_dot_product_attention": self.attention}
        for inner in (name, "_in_projection_packed", "_in_projection"):
            function = getattr(F, inner)
            table[inner] = FunctionType(function.__code__, table, inner, function.__defaults__)
            table[inner].__kwdefaults__ = function.__kwdefaults__
        return table[name]
