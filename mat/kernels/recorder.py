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
from torch.utils._pytree import tree_leaves

from mat._torch_functional import multi_head_attention
from mat.errors import InputError
from mat.kernels.gradient_rules import RULES, Rule
from mat.kernels.operands import Call, Make, offset

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
            return func(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            # its projections are calls of F.linear on (positions, samples, width), seen from inside only
            rule = partial(self.rules[F.linear], sample_dim=1)
            inside = multi_head_attention(linear=lambda *a, **k: self._call(_LINEAR, rule, a, k))
            return inside(*args, **kwargs)
        return self._call(func, self.rules.get(func), args, kwargs)

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
        if not output.requires_grad:  # nothing before it is recorded: the backward pass ends here
            self.leaves.append(output.detach().requires_grad_())
            output = self.leaves[-1].clone(memory_format=torch.contiguous_format)
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

    def to_trace(self, verify: bool) -> list[Call]:
        """Calls whose rows are to be traced to their samples: all, where there is a doubt or ``verify`` asks.

        In doubt are shapes that do not show the samples (tokens sent to an expert, windows of an image), shapes
        that can be read in two ways, and n rows where another call has several rows a sample.
        """
        calls = list({id(use.call): use.call for use in self.uses}.values())
        several = any(call.layout.several for call in calls)
        doubt = any(not call.layout.clear or (several and not call.layout.certain) for call in calls)
        return calls if doubt or verify else []


def trace_rows(call: Call, gradient: Tensor, scaled: Tensor, scale: Tensor) -> bool:
    """Find the sample of every row of ``call`` from two gradients at its output; whether all were found.

    ``scaled`` is the gradient when the outputs of sample i count ``scale[i]`` = 1 + i/n times. In evaluation
    mode no output depends on another sample's rows, so a row's gradient is scaled by its own sample's factor,
    as a whole: to within a quarter of the spacing, and of 0.1 % (or √ε of the precision, if that is more).
    """
    n = len(scale)
    eps = max(1e-3, torch.finfo(gradient.dtype).eps ** 0.5)
    rows, scaled = (tensor.reshape(call.layout.rows, -1).double() for tensor in (gradient, scaled))
    weight = (rows * rows).sum(1)
    # rows that are rounding errors beside the others are nobody's
    used = weight > (16 * torch.finfo(gradient.dtype).eps) ** 2 * weight.max()
    position = ((rows * scaled).sum(1) / weight.where(used, torch.ones_like(weight)) - 1) * n
    sample = position.round().clamp(0, n - 1)
    off = (scaled - rows * (1 + sample / n)[:, None]).norm(dim=1)
    if not bool((off[used] <= min(0.25 / n, eps) * weight[used].sqrt()).all()):
        return False
    sample = sample.long().where(used, -torch.ones_like(sample, dtype=torch.long))
    if call.layout.clear and torch.equal(sample[used], call.layout.expected.to(sample.device)[used]):
        return True
    call.layout.assign(sample)
    return True


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
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> int:
    """Where the tensor's memory begins; −1 where it has no such place."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):
        return -1
