"""The nominal ledger: fvcore's count of one forward pass, split over the modules; a paper-style count.

A step costs the forward pass once, and twice more for every active module and the remainder, whatever the
backward mode. What is executed (``mat.flops.executed``) differs from it, for one step, by exactly this:

- *elementwise*: fvcore also counts normalisation and pooling, at 1 to 5 per entry; they lie in the remainder, so
  nominal is higher by three times that. The executed ledger counts products alone.
- ``exact``: inactive modules still pass gradients through, so executed is higher by each one's forward MACs, and
  by those of an inactive head's scores once more: they have no weights, but two inputs.
- ``detach``: an inactive module costs its forward pass only, in both ledgers. Where the backward pass does not
  leave out what is inactive (scores of single heads under dropout on a GPU), executed is higher by that.
- *dead ends*: a product below which nothing trains computes no input gradient, and without a path around it an
  inactive layer in ``detach`` lets nothing through to those below, which then cost their forward pass only; nor is
  the gradient of inactive filters' outputs computed in the convolution above them, nor, below an output projection
  of the remainder, that of attention whose heads are all inactive.
  Nominal charges all of it (VGG's first convolution; transformers train their embeddings and have none).
- *experts*: without ``routed`` nominal shares the example's cost evenly among a layer's experts.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn

from mat.errors import InputError
from mat.flops.operators import bound_macs, is_free, math_attention, refuse_unknown
from mat.partition.partition import Module, Partition


@dataclass(frozen=True)
class Nominal:
    """Forward MACs of one sample: of each module, and of everything else; ``experts``: of one routed row."""

    modules: Mapping[str, int]
    remainder: int
    experts: Mapping[str, int] = field(default_factory=dict)

    @property
    def forward(self) -> int:
        return sum(self.modules.values()) + self.remainder

    def step(self, batch: int, active: Collection[str], routed: Mapping[str, int] | None = None) -> int:
        """MACs of one training step of ``batch`` samples with these modules active.

        ``routed``: rows that each expert got in the whole batch (an expert that is not named got none); None
        shares the example's cost evenly.
        """
        forward = {name: batch * macs for name, macs in self.modules.items()}
        if routed is not None:
            forward |= {name: macs * routed.get(name, 0) for name, macs in self.experts.items()}
        remainder = batch * self.remainder
        return sum(forward.values()) + remainder + 2 * (sum(forward[name] for name in active) + remainder)

    def probe(self, n: int, backwards: int = 1) -> int:
        """MACs of one kernel probe: a forward pass of n samples and ``backwards`` backward passes of each."""
        return probe_macs(self.forward, n, backwards)


def probe_macs(forward: int, n: int, backwards: int) -> int:
    """MACs of a forward pass of n samples and ``backwards`` backward passes of each; ``forward``: of one sample."""
    return (1 + 2 * backwards) * forward * n


def nominal(model: nn.Module, partition: Partition, example: Mapping[str, Tensor]) -> Nominal:
    """fvcore's forward count of ``example`` (one sample), attributed to the modules.

    Every product with a parameter goes to the parameter's owners by their share of it, wherever the product is
    made: by the parameter's layer, or by a parent that uses it functionally. An attention's scores, products
    without a parameter, go evenly to its heads (or groups of heads that share keys); the experts of a layer
    share their cost evenly, because one sample's routing is chance. The rest is the remainder's.
    Raises InputError naming an operator that fvcore does not count (above 0.1 % of the whole), or a layer that
    owns a module's weights and was not used.
    """
    trace = _trace(model, example)
    modules = dict.fromkeys(partition.names, 0.0)
    for module in partition.modules:
        for piece in module.slices:
            shape = partition.shapes[piece.parameter]
            if module.kind != "expert":
                _check_used(piece.parameter, module.name, trace)
            if len(shape) > 1:
                share = (piece.stop - piece.start) / shape[piece.dim]
                modules[module.name] += trace.parameters[piece.parameter] * share
    for core, heads in _heads(partition, trace).items():
        for name in heads:
            modules[name] += trace.activations[core] / len(heads)
    found = [module for module in partition.modules if module.kind == "expert"]
    for layer in {module.layer for module in found}:
        experts = [m.name for m in found if m.layer == layer]
        modules |= dict.fromkeys(experts, sum(modules[name] for name in experts) / len(experts))
    rounded = {name: round(value) for name, value in modules.items()}
    rows = {module.name: row_macs(module, partition) for module in found}
    return Nominal(rounded, int(trace.total) - sum(rounded.values()), rows)


def _heads(partition: Partition, trace: _Trace) -> dict[str, list[str]]:
    """The heads of every submodule that makes their scores: the nearest one above a head's query weight (its
    first slice) that makes products without a parameter, no higher than what holds all the head's weights."""
    cores: dict[str, list[str]] = {}
    for module in partition.modules:
        if module.kind != "head":
            continue
        layers = [piece.parameter.rpartition(".")[0].split(".") for piece in module.slices]
        shared = len(list(takewhile(lambda parts: len(set(parts)) == 1, zip(*layers, strict=False))))
        for depth in range(len(layers[0]), shared - 1, -1):
            path = ".".join(layers[0][:depth])
            if trace.activations[path]:
                cores.setdefault(path, []).append(module.name)
                break
    return cores


def row_macs(module: Module, partition: Partition) -> int:
    """Forward MACs of one row through a module's matrices: the number of their entries, each used once.

    An entry of a stack of matrices, as experts are kept in one parameter of three dimensions, is a matrix too.
    """
    return sum(
        partition.size([piece]) for piece in module.slices if len(partition.shapes[piece.parameter]) > 1
    )


@dataclass
class _Trace:
    """MACs of one forward pass: of products with each parameter, and of other products by the module whose
    forward made them; ``uncalled`` are the paths of submodules that were not called."""

    parameters: Counter[str]
    activations: Counter[str]
    total: float
    uncalled: set[str]


def _trace(model: nn.Module, example: Mapping[str, Tensor]) -> _Trace:
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
    with _plain_evaluation(model):
        analysis = analyse(())
        total = analysis.total()
        unknown = {name for name in analysis.unsupported_ops() if not is_free(name)}
        uncalled = {path.removeprefix("model.") for path in analysis.uncalled_modules()}
        if unknown:  # a second pass, with a bound for each
            bounds = analyse(unknown).by_operator()
            refuse_unknown({name: bounds[name] for name in unknown}, total, "nominal")
    return _Trace(parameters, activations, total, uncalled)


@contextmanager
def _plain_evaluation(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, without gradients."""
    was_training = model.training
    model.eval()
    try:
        with math_attention(), torch.no_grad():
            yield
    finally:
        model.train(was_training)


def _check_used(parameter: str, module: str, trace: _Trace) -> None:
    """A layer that is not called may be used by its parent; then its weight is in some product."""
    path, _, attribute = parameter.rpartition(".")
    if trace.parameters[parameter] or trace.parameters[f"{path}.weight"]:
        return
    if path in trace.uncalled:
        raise InputError(
            f"{path!r} belongs to module {module!r} but the forward pass never called it; leave it out of the "
            "partition or give an example that uses it"
        )
    owner, parametrised, _ = path.partition(".parametrizations.")
    if trace.activations[owner] and (parametrised or attribute.startswith("weight")):
        raise InputError(
            f"{parameter!r} belongs to module {module!r}, but the products of its layer are made with something "
            "computed from it; remove its parametrisation, or leave it to the remainder"
        )


def _unique_states(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters and buffers in the order in which a trace lists them: each once, by its first name."""
    seen: set[int] = set()
    found = []
    for name, value in model.state_dict(keep_vars=True).items():
        if id(value) not in seen:
            seen.add(id(value))
            found.append((name, value))
    return found


_MOVES = frozenset(
    {"prim::ListUnpack", "prim::TupleUnpack", "aten::contiguous", "aten::clone", "aten::index"}
)


def _parameter(value: Any, inputs: int, states: Sequence[tuple[str, Tensor]]) -> str | None:
    """The parameter that a value in the graph is, or is a piece or a view of; None for anything computed."""
    node = value.node()
    while node.kind() != "prim::Param":
        if not (node.kind() in _MOVES or _is_view(node.kind())):
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


def _is_view(kind: str) -> bool:
    packet = getattr(torch.ops.aten, kind.removeprefix("aten::"), None) if kind.startswith("aten::") else None
    return packet is not None and any(getattr(packet, name).is_view for name in packet.overloads())


class _Positional(nn.Module):
    """Calls a model by keyword with positional tensors, because fvcore traces positional arguments."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *values: Tensor) -> Tensor:
        output = self.model(**dict(zip(self.names, values, strict=True)))
        return output if isinstance(output, Tensor) else output.logits


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
    flat = [
        [math.prod(s) for v in values for u in _flat(v) if (s := _shape(u))] for values in (inputs, outputs)
    ]
    return Counter({name: bound_macs(*flat)})
