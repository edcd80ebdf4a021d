"""What stands in for the forward pass of a layer, and of an attention, while a model is trained sparsely."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.overrides import TorchFunctionMode

from mat._torch_functional import multi_head_attention
from mat.backward.operators.attention import Heads, attend
from mat.backward.operators.layers import Product

_LINEAR, _SDPA, _MULTI_HEAD = F.linear, F.scaled_dot_product_attention, F.multi_head_attention_forward


class StandIn:
    """What stands in for a module's method, ``name``, until ``remove``."""

    def __init__(self, module: nn.Module, name: str) -> None:
        self.module, self.name, self.original = module, name, getattr(module, name)
        self.replaced = vars(module).get(name)  # somebody else's, if there is one
        setattr(module, name, self)

    def remove(self) -> None:
        """Put back what was there, unless somebody else has put something in this one's place."""
        if vars(self.module).get(self.name) is self:
            delattr(self.module, self.name)
            if self.replaced is not None:
                setattr(self.module, self.name, self.replaced)

    def __deepcopy__(self, memo: dict) -> MethodType:
        """For modules that copy their attributes themselves (torch.fx): the class's own method, bound to the copy."""
        return MethodType(getattr(type(self.module), self.name), memo[id(self.module)])


class Reduce(StandIn):
    """A wrapped module's ``__reduce_ex__``, which copies and pickles are made by: they are of the plain module."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module, "__reduce_ex__")

    def __call__(self, protocol: Any) -> Any:
        own = vars(self.module)
        stand_ins = [value for value in own.values() if isinstance(value, StandIn)]
        for stand_in in stand_ins:
            stand_in.remove()
        try:
            made = self.original(protocol)
            return tuple(dict(own) if part is own else part for part in made) if isinstance(made, tuple) else made
        finally:
            own.update({stand_in.name: stand_in for stand_in in stand_ins})


class Forward(StandIn):
    """A wrapped module's ``forward``: ``run`` where ``wanted`` and gradients are recorded, else its own.

    ``lost``: it ``trains``, and was called inside reentrant checkpointing none of whose inputs took a gradient.

    Inside a compiled model it is a graph break: what is active changes from step to step. ``whole``: nothing that
    ``run`` calls is compiled either.
    """

    def __init__(
        self,
        module: nn.Module,
        wanted: Callable[[], bool],
        trains: Callable[[], bool],
        run: Callable,
        whole: bool = True,
    ) -> None:
        super().__init__(module, "forward")
        self.wanted, self.trains, self.run = wanted, trains, torch.compiler.disable(run, recursive=whole)
        self.lost = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.wanted():
            return self.original(*args, **kwargs)
        if not torch.is_grad_enabled():
            self.lost = self.lost or (not torch.compiler.is_compiling() and self.trains() and _without_graph())
            return self.original(*args, **kwargs)
        return self.run(self.original, *args, **kwargs)


class ZeroGrad(StandIn):
    """A wrapped model's ``zero_grad``, which clears the gradients of ``leaves`` too."""

    def __init__(self, model: nn.Module, leaves: Callable[[], Iterable[nn.Parameter]]) -> None:
        super().__init__(model, "zero_grad")
        self.leaves = leaves

    def __call__(self, set_to_none: bool = True) -> None:
        self.original(set_to_none)
        for leaf in self.leaves():
            if leaf.grad is not None:
                leaf.grad = None if set_to_none else torch.zeros_like(leaf)


def _without_graph() -> bool:
    """Whether this is called in the forward pass of a function, such as reentrant checkpointing, that records no graph
    of its own and none of whose inputs takes a gradient."""
    frame = sys._getframe(1)
    while (caller := frame.f_back) is not None:
        frame, code = caller, caller.f_code
        if code.co_name == "forward" and code.co_argcount:
            found = frame.f_locals.get(code.co_varnames[0])
            if isinstance(found, FunctionCtx) and not any(getattr(found, "needs_input_grad", (True,))):
                return True
    return False


class InsideAttention(TorchFunctionMode):
    """Sees the functions that an attention calls with its weights and heads in hand.

    ``products``: by the id of their weight, for attentions that hand weights to ``F.linear`` without calling
    the layer (nn.MultiheadAttention, torchvision's Swin). ``heads``: which heads are active, for
    scaled_dot_product_attention; None where all are to be differentiated. ``entered``: what the attention was called
    with. Dimension 1 of a query is heads where dimensions 0 and 2 are the samples and positions of the first (B, S, d)
    among that, or within nn.MultiheadAttention; any other call is left whole, which is right whatever it holds.
    """

    def __init__(self, products: Mapping[int, Product], heads: Heads | None, entered: Iterable[Any]) -> None:
        super().__init__()
        self.products, self.heads = products, heads
        states = (x for x in entered if isinstance(x, Tensor) and x.dim() == 3 and x.is_floating_point())
        self.positions = next((tuple(x.shape[:2]) for x in states), None)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is _LINEAR:
            return self.linear(*args, **kwargs)
        if func is _SDPA:
            query = args[0] if args else kwargs["query"]
            known = query.dim() == 4 and (query.shape[0], query.shape[2]) == self.positions
            return self.attention(*args, **kwargs) if known else _SDPA(*args, **kwargs)
        if func is _MULTI_HEAD:
            inside = multi_head_attention(linear=self.linear, scaled_dot_product_attention=self.attention)
            return inside(*args, **kwargs)
        return func(*args, **kwargs)

    def linear(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        product = self.products.get(id(weight))
        if product is not None and product.bias is bias:
            return product(_LINEAR, input)
        whole = self.products.get(id(weight._base))
        out = None if whole is None else whole.part(input, weight, bias)
        return _LINEAR(input, weight, bias) if out is None else out

    def attention(self, *args: Any, **kwargs: Any) -> Tensor:
        return _SDPA(*args, **kwargs) if self.heads is None else attend(_SDPA, self.heads, *args, **kwargs)
