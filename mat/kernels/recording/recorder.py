"""Recording parameters at work: which functions use them, on what, and which sample each row belongs to.

While it is active, a ``Recorder`` sees every call of a torch function that is given one of its parameters or a view of
one. Where the function has a rule (``mat.kernels.recording.gradient_rules``) it keeps what the parameter's per-sample
gradients are made of and waits for the gradient at the function's output; where it has none, autograd follows the
parameter. So no layer class has to be known: a Linear, or a projection inside ``nn.MultiheadAttention``, is the
function that it calls, and a parameter used twice has two uses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map
from torch.utils.weak import WeakIdKeyDictionary

from mat._torch_functional import multi_head_attention
from mat.errors import InputError
from mat.kernels.reasons import Why
from mat.kernels.recording.gradient_rules import RULES, Rule
from mat.kernels.recording.operands import Call, Make, offset
from mat.kernels.recording.sample_flow import keeps_samples

_LINEAR = F.linear


class Use(NamedTuple):
    """One use of a parameter. ``make``: from the gradient at the output to the per-sample gradients."""

    parameter: str
    call: Call
    make: Make


class Recorder(TorchFunctionMode):
    """Records the uses of ``parameters`` (by name, those that take gradients) while a model runs on ``n`` samples.

    A call whose parameters are all followed sees them as constants. So a parameter at which the outputs' graph still
    ends (``unfollowed``) has a use that is not recorded: by a function without a rule, or by code that no mode sees.

    Attributes:
        uses: every known use, in order of the calls.
        empty: parameters of calls without rows, such as an expert's that nobody was sent to.
        listener: called with a ``Call`` and the gradient at its output, during a backward pass.
    """

    rules: Mapping[Any, Rule] = RULES

    def __init__(self, parameters: Mapping[str, nn.Parameter], n: int, copies: bool = True) -> None:
        """``copies``: give an output without samples, such as shared positions, a copy for each of them."""
        super().__init__()
        self.n, self.copies = n, copies
        self.uses: list[Use] = []
        self.empty: set[str] = set()
        self.listener: Callable[[Call, Tensor], None] = lambda call, gradient: None
        self._in_order: WeakIdKeyDictionary | None = WeakIdKeyDictionary()  # sample-major tensors; None: track lost
        self._parameters = {id(parameter): (name, parameter) for name, parameter in parameters.items()}
        self._given: dict[str, Why] = {}  # to functions that were not followed

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
        args, kwargs = self._constants(args, kwargs)
        given = [tensor for tensor in _tensors((args, kwargs)) if tensor.requires_grad]
        made = [tensor for tensor in _tensors(output) if tensor.requires_grad and not self._owner(tensor)]
        if not given or (not made and output is not None):
            return
        if all(t in self._in_order for t in given) and keeps_samples(self.n, func, args, kwargs, output):
            self._in_order.update(dict.fromkeys(made, True))
        else:
            self._in_order = None

    def _call(self, func: Callable, rule: Rule | None, args: Any, kwargs: Any) -> Any:
        tensors = _tensors((args, kwargs))
        found = [owner[0] for tensor in tensors if (owner := self._owner(tensor))]
        if not torch.is_grad_enabled() or not found:
            return func(*args, **kwargs)
        if rule is not None and any(tensor.numel() == 0 for tensor in tensors):
            self.empty.update(found)
            args, kwargs = self._constants(args, kwargs)
            return func(*args, **kwargs)
        call = None if rule is None else self._ruled(rule, args, kwargs)
        uses = self._located(call) if call is not None else []
        if call is None or len(uses) < len(found):
            why = Why.COMPLEX if any(tensor.is_complex() for tensor in tensors) else Why.NO_RULE
            self._given.update(dict.fromkeys(found, why))
            return func(*args, **kwargs)
        args, kwargs = self._constants(args, kwargs)
        output = func(*args, **kwargs)
        if call.copies > 1:
            output = output.expand(call.copies, *output.shape[1:])
        if call.layout.sample_dim or call.layout.rows % self.n:  # its rows are not those of sample-major tensors
            self._in_order = None
        if not output.requires_grad:  # nothing before it is recorded: the backward pass ends here
            output = output.detach().requires_grad_().clone(memory_format=torch.contiguous_format)
            if self._in_order is not None:
                self._in_order[output] = True
        self.uses += uses
        self._listen(call, output)
        return output

    def _located(self, call: Call) -> list[Use]:
        """The uses of parameters that a call's operands are, as far as they are views that can be followed."""
        uses = []
        for operand, locate in call.operands:
            name, parameter = self._owner(operand) or ("", None)
            make = locate(operand, parameter) if parameter is not None and _is_part(operand, parameter) else None
            if make is not None:
                uses.append(Use(name, call, make))
        return uses

    def _owner(self, tensor: Tensor) -> tuple[str, nn.Parameter] | None:
        """The parameter that a tensor is, or is a view of; what was detached from one is a constant."""
        base = tensor if tensor._base is None else tensor._base
        return self._parameters.get(id(base)) if tensor.requires_grad else None

    def _found(self, tree: Any) -> bool:
        return any(map(self._owner, _tensors(tree)))

    def _constants(self, args: Any, kwargs: Any) -> Any:
        """The arguments, parameters detached."""
        if not self._found((args, kwargs)):
            return args, kwargs
        return tree_map(lambda v: v.detach() if isinstance(v, Tensor) and self._owner(v) else v, (args, kwargs))

    def _batch_norm(self, *args: Any, **kwargs: Any) -> None:
        """Before every batch norm."""
        _refuse_batch_statistics(self.n, *args, **kwargs)

    def _listen(self, call: Call, output: Tensor) -> None:
        output.register_hook(lambda gradient: self.listener(call, gradient))

    def _exact(self, device: str) -> bool:
        """Whether a function computes with its operands as they are given."""
        return not torch.is_autocast_enabled(device)

    def _ruled(self, rule: Rule, args: tuple, kwargs: dict) -> Call | None:
        """What the function's rule makes of the call; None where it is cast or complex."""
        tensors = _tensors((args, kwargs))
        if not self._exact(tensors[0].device.type) or any(tensor.is_complex() for tensor in tensors):
            return None
        try:
            call = rule(self.n, *args, **kwargs)
        except TypeError:  # arguments by names that the rule does not know
            return None
        return None if call is not None and call.copies > 1 and not self.copies else call

    def unfollowed(self, leaves: Iterable[Tensor]) -> dict[str, Why]:
        """The parameters among the ``leaves`` of the outputs' graph, and why they were not followed."""
        names = [self._parameters[id(leaf)][0] for leaf in leaves if id(leaf) in self._parameters]
        return {name: self._given.get(name, Why.UNSEEN) for name in names}

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


def graph_ends(output: Tensor) -> list[tuple[Tensor, GradientEdge]]:
    """The leaves that the graph of ``output``, which requires a gradient, ends in, and where they are in it."""
    ahead: list[Any] = [get_gradient_edge(output).node]
    seen: set[Any] = set()
    ends = []
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name() == "torch::autograd::AccumulateGrad":
            ends.append((node.variable, GradientEdge(node, 0)))
        ahead += [following for following, _ in node.next_functions]
    return ends
