"""Watching parameters at work: which functions use them, on what, and which sample each row belongs to.

While it is active, ``Watch`` sees every call of a torch function that is given a watched parameter or a view of
one. Where the function has a rule (``mat.rules``) it keeps what the parameter's per-sample gradients are made of
and waits for the gradient at the function's output; where it has none, the parameter is ``unknown``.
So no layer class has to be known: a Linear, or a projection inside ``nn.MultiheadAttention``, is the function
that it calls, and a parameter used twice has two uses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mat.rules import RULES, Call, Make

_LINEAR = F.linear


class Use:
    """One use of a parameter. ``make``: from the gradient at the output to the per-sample gradients."""

    def __init__(self, parameter: str, call: Call, make: Make) -> None:
        self.parameter, self.call, self.make = parameter, call, make


class Watch(TorchFunctionMode):
    """Watches ``parameters`` (by name) while a model runs on ``n`` samples.

    Attributes:
        uses: every known use, in order of the calls.
        unknown: parameters with a use that no rule covers.
        leaves: where the recorded part of the forward pass begins.
        listener: called with a ``Call`` and the gradient at its output, during a backward pass.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], n: int) -> None:
        super().__init__()
        self.n = n
        self.uses: list[Use] = []
        self.unknown: set[str] = set()
        self.leaves: list[Tensor] = []
        self.listener: Callable[[Call, Tensor], None] = lambda call, gradient: None
        self._stored: dict[int, list[tuple[str, nn.Parameter]]] = {}
        for name, parameter in parameters.items():
            self._stored.setdefault(_storage(parameter), []).append((name, parameter))

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if not self._found((args, kwargs)):
            return func(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            # its projections are calls of F.linear on (positions, samples, width), seen from inside only
            with mock.patch.object(F, "linear", lambda *a, **k: self._call(_LINEAR, 1, a, k)):
                return func(*args, **kwargs)
        return self._call(func, 0, args, kwargs)

    def _call(self, func: Callable, sample_dim: int, args: tuple, kwargs: dict):
        found = self._found((args, kwargs))
        rule = RULES.get(func)
        call = rule(self.n, sample_dim, *args, **kwargs) if found and rule else None
        output = func(*args, **kwargs)
        if call is None:
            if not all(self._found(tensor) for tensor in _tensors(output)):  # more than a view
                self.unknown |= found
            return output
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
        output.register_hook(lambda gradient: self.listener(call, gradient))
        return output

    def _found(self, tree) -> set[str]:
        return {name for tensor in _tensors(tree) for name, _ in self._stored.get(_storage(tensor), [])}

    def unplaced(self) -> list[Call]:
        """Calls whose rows may be in any order of samples: tokens sent to an expert, windows of an image.

        A matrix of n rows is taken for one row a sample only where no other call leaves a doubt.
        """
        calls = {id(use.call): use.call for use in self.uses}.values()
        if all(call.layout.clear for call in calls):
            return []
        return [call for call in calls if not call.layout.certain]


def place(call: Call, gradient: Tensor, scaled: Tensor, scale: Tensor) -> bool:
    """Find the sample of every row of ``call`` from two gradients at its output; whether all were found.

    ``scaled`` is the gradient when the outputs of sample i count ``scale[i]`` = 1 + i/n times. In evaluation
    mode no output depends on another sample's rows, so a row's gradient is scaled by its own sample's factor.
    """
    n = len(scale)
    rows, scaled = (tensor.reshape(call.layout.rows, -1).double() for tensor in (gradient, scaled))
    weight = (rows * rows).sum(1)
    used = weight > 0
    position = ((rows * scaled).sum(1) / weight.where(used, torch.ones_like(weight)) - 1) * n
    sample = position.round()
    doubtful = ((position - sample).abs() > 0.25) | (sample < 0) | (sample >= n)
    if bool((doubtful & used).any()):
        return False
    call.layout.assign(sample.long().where(used, -torch.ones_like(sample, dtype=torch.long)))
    return True


def _is_part(view: Tensor, parameter: Tensor) -> bool:
    """Whether all of ``view`` lies inside the memory of ``parameter``."""
    start = view.storage_offset() - parameter.storage_offset()
    return view.dtype == parameter.dtype and 0 <= start <= parameter.numel() - view.numel()


def _tensors(tree) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, tuple | list):
        for branch in tree:
            yield from _tensors(branch)
    elif isinstance(tree, dict):
        for branch in tree.values():
            yield from _tensors(branch)


def _storage(tensor: Tensor) -> int:
    """Where the tensor's memory begins; −1 where it has no such place."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):
        return -1
