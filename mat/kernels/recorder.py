"""Recording parameters at work: which functions use them, on what, and which sample each row belongs to.

While it is active, a ``Recorder`` sees every call of a torch function that is given one of its parameters or a view of
one. Where the function has a rule (``mat.kernels.gradient_rules``) it keeps what the parameter's per-sample gradients
are made of and waits for the gradient at the function's output; where it has none, the parameter is ``unknown``.
So no layer class has to be known: a Linear, or a projection inside ``nn.MultiheadAttention``, is the function
that it calls, and a parameter used twice has two uses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from mat._torch_functional import multi_head_attention
from mat.errors import InputError
from mat.kernels.gradient_rules import RULES, Rule
from mat.kernels.operands import Call, Make, offset
from mat.kernels.sample_flow import keeps_samples

_LINEAR = F.linear


class Use(NamedTuple):
    """One use of a parameter. ``make``: from the gradient at the output to the per-sample gradients."""

    parameter: str
    call: Call
    make: Make


class Recorder(TorchFunctionMode):
    """Records the uses of ``parameters`` (by name) while a model runs on ``n`` samples.

    Attributes:
        uses: every known use, in order of the calls.
        unknown: parameters with a use that no rule covers.
        leaves: where the recorded part of the forward pass begins.
        listener: called with a ``Call`` and the gradient at its output, during a backward pass.
    """

    rules: Mapping[Any, Rule] = RULES

    def __init__(self, parameters: Mapping[str, nn.Parameter], n: int, copies: bool = True) -> None:
        """``copies``: give an output without samples, such as shared positions, a copy for each of them."""
        super().__init__()
        self.n, self.copies = n, copies
        self.uses: list[Use] = []
        self.unknown: set[str] = set()
        self._in_order: WeakIdKeyDictionary | None = WeakIdKeyDictionary()  # sample-major tensors; None: track lost
        self.leaves: list[Tensor] = []
        self.listener: Callable[[Call, Tensor], None] = lambda call, gradient: None
        self._stored: dict[int, list[tuple[str, nn.Parameter]]] = {}
        for name, parameter in parameters.items():
            self._stored.setdefault(_storage(parameter), []).append((name, parameter))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.batch_norm:
            self._batch_norm(*args, **kwargs)
        if not self._found((args, kwargs)):
            output = func(*args, **kwargs)
        elif func is F.multi_head_attention_forward:
            # its projections are calls of F.linear on (positions, samples, width), seen from inside only
            rule = partial(self.rules[F.linear], sample_dim=1)
            inside = multi_head_attention(linear=lambda *a, **k: self._call(_LINEAR, rule, a, k))
            output = inside(*args, **kwargs)
        else:
            output = self._call(func, self.rules.get(func), args, kwargs)
        self._follow(func, args, kwargs, output)
        return output

    def _follow(self, func: Any, args: Any, kwargs: Any, output: Any) -> None:
        """Keep track of which tensors with a gradient are sample-major. ``_call`` says so where the track begins."""
        if self._in_order is None:
            return
        given = [tensor for tensor in _tensors((args, kwargs)) if tensor.requires_grad]
        made = [tensor for tensor in _tensors(output) if tensor.requires_grad]
        if not given or (not made and output is not None):
            return
        if all(t in self._in_order for t in given) and keeps_samples(self.n, func, args, kwargs, output):
            self._in_order.update(dict.fromkeys(made, True))
        else:
            self._in_order = None

    def _call(self, func: Callable, rule: Rule | None, args: Any, kwargs: Any) -> Any:
        found = self._found((args, kwargs))
        call = self._ruled(rule, args, kwargs) if found and rule else None
        output = self._output(func, args, kwargs, call)
        if call is None:
            written = func is torch.Tensor.__setitem__ or "out" in kwargs
            if written or not all(map(self._found, _tensors(output))):  # more than a view or an attribute
                self.unknown |= found
            # detached, it is a constant: no view that a later function would be taken to use
            return output.clone() if func is torch.Tensor.detach else output
        if call.copies > 1:
            output = output.expand(call.copies, *output.shape[1:])
        if call.layout.sample_dim or call.layout.rows % self.n:  # its rows are not those of sample-major tensors
            self._in_order = None
        if not output.requires_grad:  # nothing before it is recorded: the backward pass ends here
            self.leaves.append(output.detach().requires_grad_())
            output = self.leaves[-1].clone(memory_format=torch.contiguous_format)
            if self._in_order is not None:
                self._in_order[output] = True
        for operand, locate in call.operands:
            for name, parameter in self._stored.get(_storage(operand), []):
                make = locate(operand, parameter) if _is_part(operand, parameter) else None
                if make is not None:
                    self.uses.append(Use(name, call, make))
                    found.discard(name)
        self.unknown |= found
        self._listen(call, output)
        return output

    def _batch_norm(self, *args: Any, **kwargs: Any) -> None:
        """Before every batch norm."""
        _refuse_batch_statistics(self.n, *args, **kwargs)

    def _output(self, func: Callable, args: tuple, kwargs: dict, call: Call | None) -> Any:
        """The function's own output."""
        return func(*args, **kwargs)

    def _listen(self, call: Call, output: Tensor) -> None:
        output.register_hook(lambda gradient: self.listener(call, gradient))

    def _exact(self, device: str) -> bool:
        """Whether a function computes with its operands as they are given, and is recorded by autograd."""
        return torch.is_grad_enabled() and not torch.is_autocast_enabled(device)

    def _ruled(self, rule: Rule, args: tuple, kwargs: dict) -> Call | None:
        """What the function's rule makes of the call; None where gradients are off or cast."""
        device = _tensors((args, kwargs))[0].device.type
        if not self._exact(device):
            return None
        try:
            call = rule(self.n, *args, **kwargs)
        except TypeError:  # arguments by names that the rule does not know
            return None
        return None if call is not None and call.copies > 1 and not self.copies else call

    def _found(self, tree: Any) -> set[str]:
        return {name for tensor in _tensors(tree) for name, _ in self._stored.get(_storage(tensor), [])}

    def to_trace(self, logits: Tensor, verify: bool) -> list[Call]:
        """Calls whose rows are to be traced to their samples: none, where all that lies between them and the
        ``logits`` keeps the samples apart and in order; else all, where there is a doubt or ``verify`` asks.

        In doubt are shapes that do not show the samples (tokens sent to an expert, windows of an image), shapes
        that can be read in two ways, and n rows where another call has several rows a sample.
        """
        if self._in_order is not None and logits in self._in_order:
            return []
        calls = list({id(use.call): use.call for use in self.uses}.values())
        several = any(call.layout.several for call in calls)
        doubt = any(not call.layout.clear or (several and not call.layout.certain) for call in calls)
        return calls if doubt or verify else []


def _refuse_batch_statistics(
    n: int,
    input: Tensor,
    mean: Any = None,
    var: Any = None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    *rest: Any,
    **other: Any,
) -> None:
    if training and n > 1 and len(input) == n:
        raise InputError(
            "a batch norm uses the batch's own statistics in evaluation mode, so samples have no gradient of "
            "their own; give it running statistics (track_running_stats=True)"
        )


def _is_part(view: Tensor, parameter: Tensor) -> bool:
    """Whether all of ``view`` lies inside the memory of ``parameter``."""
    return view.dtype == parameter.dtype and 0 <= offset(view, parameter) <= parameter.numel() - view.numel()


def _tensors(tree: Any) -> list[Tensor]:
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, Mapping):
        tree = tree.values()
    elif not isinstance(tree, tuple | list):
        return []
    return [tensor for part in tree for tensor in _tensors(part)]


def _storage(tensor: Tensor) -> int:
    """Where the tensor's memory begins; −1 where it has no such place."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):
        return -1
