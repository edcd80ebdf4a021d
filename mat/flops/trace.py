"""One forward pass as fvcore traces it: the MACs of every product, booked on the parameter among its operands."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mat.errors import InputError
from mat.flops.operators import bound_macs, is_free, math_attention, overloads, refuse_unknown
from mat.forward import forward


@dataclass
class Trace:
    """MACs of one forward pass: of products with each parameter, and of other products by the module whose
    forward made them; ``uncalled`` are the paths of submodules that were not called."""

    parameters: Counter[str]
    activations: Counter[str]
    total: float
    uncalled: set[str]


def trace_forward(model: nn.Module, example: Mapping[str, Tensor]) -> Trace:
    """Trace ``model`` on ``example``, its keyword inputs, in evaluation mode.

    Raises InputError, naming it, for an operator that may have done more than 0.1 % of the counted work unseen.
    """
    from fvcore.nn import FlopCountAnalysis
    from fvcore.nn.jit_handles import conv_flop_jit, einsum_flop_jit, linear_flop_jit

    parameters: Counter[str] = Counter()
    activations: Counter[str] = Counter()
    names, values = zip(*example.items(), strict=True)
    states = _unique_states(model)

    def counted(count: Callable, first: int, last: int | None) -> Callable:
        """fvcore's handle, which also books the product on the parameter among its operands."""

        def handle(inputs: list[Any], outputs: list[Any]) -> int:
            macs = count(inputs, outputs)
            macs = int(sum(macs.values()) if isinstance(macs, Counter) else macs)
            operands = [v for value in inputs[first:last] for v in _flat(value)]
            owner = next((p for v in operands if (p := _parameter(v, len(names), states))), None)
            if owner is None:
                scope = outputs[0].node().scopeName().rpartition("/")[2]
                activations[scope.removeprefix("model").removeprefix(".")] += macs
            else:
                parameters[owner] += macs
            return macs

        return handle

    def analyse(unknown: Collection[str]) -> FlopCountAnalysis:
        parameters.clear()
        activations.clear()
        analysis = FlopCountAnalysis(_Positional(model, names), tuple(values))
        for name, (count, first, last) in {
            "linear": (linear_flop_jit, 0, 2),
            "matmul": (_matmul_macs, 0, 2),
            "mm": (_matmul_macs, 0, 2),
            "bmm": (_matmul_macs, 0, 2),
            "mv": (_matmul_macs, 0, 2),
            "addmm": (_added_macs, 1, 3),
            "baddbmm": (_added_macs, 1, 3),
            "_convolution": (conv_flop_jit, 0, 2),
            "einsum": (einsum_flop_jit, 1, 2),
            "scaled_dot_product_attention": (_attention_macs, 0, 3),
        }.items():
            analysis.set_op_handle(f"aten::{name}", counted(count, first, last))
        for name in unknown:
            analysis.set_op_handle(name, _bound)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        analysis.total()
        return analysis

    logging.getLogger("fvcore").setLevel(logging.ERROR)
    was_training = model.training
    model.eval()
    try:
        with math_attention(), torch.no_grad():
            analysis = analyse(())
            total = analysis.total()
            unknown = {name for name in analysis.unsupported_ops() if not is_free(name)}
            uncalled = {path.removeprefix("model.") for path in analysis.uncalled_modules()}
            if unknown:  # a second pass, with a bound for each
                bounds = analyse(unknown).by_operator()
                refuse_unknown({name: bounds[name] for name in unknown}, total, "nominal")
    finally:
        model.train(was_training)
    return Trace(parameters, activations, total, uncalled)


def _unique_states(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters and buffers in the order in which a trace lists them: each once, by its first name."""
    seen: set[int] = set()
    found = []
    for name, value in model.state_dict(keep_vars=True).items():
        if id(value) not in seen:
            seen.add(id(value))
            found.append((name, value))
    return found


_MOVES = frozenset({"prim::ListUnpack", "prim::TupleUnpack", "aten::contiguous", "aten::clone", "aten::index"})


def _parameter(value: Any, inputs: int, states: Sequence[tuple[str, Tensor]]) -> str | None:
    """The parameter that a value in the graph is, or is a piece or a view of; None for anything computed."""
    node = value.node()
    while node.kind() != "prim::Param":
        namespace, _, operator = node.kind().partition("::")
        view = namespace == "aten" and any(overload.is_view for overload in overloads(operator))
        if not (view or node.kind() in _MOVES):
            return None
        value = next(node.inputs())
        node = value.node()
    index = [output.debugName() for output in node.outputs()].index(value.debugName()) - inputs
    if index < 0:
        return None
    name, state = states[index]
    if value.type().sizes() != list(state.shape):
        raise InputError(f"the trace of the model does not hold {name!r} as it is; use the model unwrapped")
    return name


class _Positional(nn.Module):
    """Calls a model by keyword with positional tensors, because fvcore traces positional arguments."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *values: Tensor) -> Tensor:
        return forward(self.model, dict(zip(self.names, values, strict=True)))


def _flat(value: Any) -> list[Any]:
    """A value of the graph, or the values of a list."""
    return list(value.node().inputs()) if value.node().kind() == "prim::ListConstruct" else [value]


def _shape(value: Any) -> list[int] | None:
    return value.type().sizes() if value.isCompleteTensor() else None


def _sizes(value: Any) -> list[int]:
    """The shape of a product's operand or output, which a trace always knows."""
    shape = _shape(value)
    assert shape is not None
    return shape


def _matmul_macs(inputs: list[Any], outputs: list[Any]) -> int:
    """|out| · k; fvcore's own handle is too low where the first operand is broadcast."""
    return math.prod(_sizes(outputs[0])) * _sizes(inputs[0])[-1]


def _added_macs(inputs: list[Any], outputs: list[Any]) -> int:
    return _matmul_macs(inputs[1:3], outputs)


def _attention_macs(inputs: list[Any], outputs: list[Any]) -> int:
    """scores q·kᵀ and their product with v: B·H·S_q·S_k·(D + D_v)."""
    q, k, v = (_sizes(value) for value in inputs[:3])
    return math.prod(q[:-1]) * k[-2] * (q[-1] + v[-1])


def _bound(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """A bound for an unknown operator, under its full name (a Python function's own)."""
    node = outputs[0].node()
    name = node.kind() + (f".{node.pyname()}" if node.kind() == "prim::PythonOp" else "")
    flat = [[math.prod(s) for v in values for u in _flat(v) if (s := _shape(u))] for values in (inputs, outputs)]
    return Counter({name: bound_macs(*flat)})
