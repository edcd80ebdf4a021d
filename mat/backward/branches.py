"""Residual branches: which layers a parallel path leads around, and what lies below them in their branch.

Found by structure, in the autograd graph of one forward pass, in which outputs of layers with modules are marked:

- Layers that share modules (projections of heads, both maps of a feed-forward block, a convolution and its norm) are
  one *unit* U. A node m that every path from its marks to the logits meets postdominates it.
- Where a node s that leads to U leads to such an m past all marks, too, U is in a residual branch: what is above s gets
  its gradient, whatever U does.
- What leads to U and to no such s is below U in its branch: its gradient comes through U alone.

So U may be a constant while nothing below it in its branch is active. Confirmed by effect: with all such units
constants at once, a gradient still comes to the outputs of each that is in no other's branch, and to all modules
elsewhere. (Of the remainder this is not asked: where the logits are of one position, as in a ViT, nothing but heads
reaches the others.)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from mat.errors import InputError, listed
from mat.forward import Inputs, evaluation, logits_of
from mat.partition.effect.codes import buffers_kept, first_few
from mat.partition.partition import Partition
from mat.partition.projections import parent

LEAF = "torch::autograd::AccumulateGrad"
Below = Mapping[str, frozenset[str]]  # layer -> the modules below it in its residual branch


@dataclass
class Unit:
    """Layers, by path, that share ``modules``. ``cores``: attentions they are part of, for those that call no layer."""

    layers: set[str]
    modules: set[str]
    cores: set[str]

    def within(self, called: Mapping[str, Any]) -> set[str]:
        """The paths of it that were called."""
        return self.layers & called.keys() or self.cores & called.keys()


def residual_branches(model: nn.Module, partition: Partition, inputs: Inputs) -> Below:
    """Of each layer with modules, and each attention, that a parallel path leads around, the modules that lie below it
    in its branch, as the first samples of ``inputs`` show; model and generators are left as they were.

    An expert that no sample chooses is as the others of its layer. Warns, and finds none, where the model cannot be
    called so, or effects contradict.
    """
    units = _units(partition)
    try:
        with evaluation(model), buffers_kept(model):
            for name in partition.shapes:
                model.get_parameter(name).requires_grad_()
            return _as_experts(partition, units, _found(model, partition, units, first_few(inputs)))
    except Exception as error:  # whatever a model that was made for training raises in evaluation mode
        why = error if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        warnings.warn(f"no residual branch is known, so no layer is taken for a constant: {why}", stacklevel=2)
        return {}


def _units(partition: Partition) -> list[Unit]:
    found: list[Unit] = []
    for module in partition.modules:
        new = Unit({parent(piece.parameter) for piece in module.slices}, {module.name}, set())
        for unit in [unit for unit in found if unit.layers & new.layers]:
            new = Unit(unit.layers | new.layers, unit.modules | new.modules, set())
            found.remove(unit)
        found.append(new)
    for attention in partition.attentions:
        for unit in found:
            if not unit.modules.isdisjoint(attention.heads):
                unit.cores.add(attention.core)
    return found


def _found(model: nn.Module, partition: Partition, units: Sequence[Unit], inputs: Inputs) -> dict[str, frozenset[str]]:
    called: dict[str, list[tuple[Tensor, Any]]] = {}

    def note(path: str, output: Tensor) -> Tensor:
        if output.grad_fn is not None:
            called.setdefault(path, []).append((output, output.grad_fn))
        return output

    paths = {path for unit in units for path in unit.layers | unit.cores}
    with _outputs(model, paths, note):
        logits = logits_of(model(**inputs), model)
    graph = Graph(logits.grad_fn)
    marks = [graph.bits(node for path in unit.within(called) for _, node in called[path]) for unit in units]
    inside = {i: branch for i, own in enumerate(marks) if (branch := graph.branch(own, marks))}
    below = {i: [k for k, own in enumerate(marks) if k != i and own & branch] for i, branch in inside.items()}
    private = {k for found in below.values() for k in found}
    if inside:
        outputs = {
            i: {path: [tensor for tensor, _ in called[path]] for path in units[i].within(called)} for i in inside
        }
        own = [name for k, unit in enumerate(units) if k not in inside and k not in private for name in unit.modules]
        _confirm(model, partition, inputs, logits, outputs, {i for i in inside if i not in private}, own)
    found: dict[str, frozenset[str]] = {}
    for i, lower in below.items():
        modules = frozenset(name for k in lower for name in units[k].modules)
        found |= dict.fromkeys(units[i].layers | units[i].cores, modules)
    return found


def _confirm(
    model: nn.Module,
    partition: Partition,
    inputs: Inputs,
    logits: Tensor,
    outputs: Mapping[int, Mapping[str, list[Tensor]]],
    alone: Collection[int],
    modules: Collection[str],
) -> None:
    """Raise InputError where no gradient comes to these ``modules``, or to one of the units ``alone`` in their
    branches, while all units are constants whose ``outputs`` these are, by path."""
    constants = {path: i for i, found in outputs.items() for path in found}
    leaves: dict[int, list[Tensor]] = {i: [] for i in alone}

    def constant(path: str, output: Tensor) -> Tensor:
        if not output.is_floating_point():
            return output
        leaf = torch.zeros_like(output, requires_grad=True)
        leaves.setdefault(constants[path], []).append(leaf)
        return output.detach() + leaf

    with _outputs(model, constants, constant):
        cut = logits_of(model(**inputs), model)
    asked: dict[Any, list[Tensor]] = {
        module.name: [model.get_parameter(piece.parameter) for piece in module.slices]
        for module in partition.modules
        if module.name in modules
    }
    known: dict[Any, list[Tensor]] = {
        **asked,
        **{i: [t for found in outputs[i].values() for t in found] for i in alone},
    }
    left: dict[Any, list[Tensor]] = {**asked, **{i: leaves[i] for i in alone}}
    lost = _reached(logits, known) - _reached(cut, left)
    if lost:
        names = [one if isinstance(one, str) else min(outputs[one]) for one in lost]
        raise InputError(f"nothing but {listed(sorted(constants))} carries a gradient to {listed(sorted(names))}")


def _reached(logits: Tensor, tensors: Mapping[Any, Sequence[Tensor]]) -> set[Any]:
    """Those of which a tensor has a gradient that is not zero, of a random sum of ``logits``."""
    flat = [(key, tensor) for key, found in tensors.items() for tensor in found]
    if not (flat and logits.requires_grad):
        return set()
    noise = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0)).to(logits)
    gradients = torch.autograd.grad(logits, [t for _, t in flat], noise, allow_unused=True, retain_graph=True)
    return {key for (key, _), g in zip(flat, gradients, strict=True) if g is not None and bool(g.any())}


def _as_experts(partition: Partition, units: Sequence[Unit], found: dict[str, frozenset[str]]) -> Below:
    layer = {module.name: module.layer for module in partition.modules if module.kind == "expert"}
    experts = [(layer[name], path) for unit in units for name in unit.modules & layer.keys() for path in unit.layers]
    known = {depth: found[path] for depth, path in experts if path in found}
    return {**{path: known[depth] for depth, path in experts if depth in known}, **found}


@contextmanager
def _outputs(model: nn.Module, paths: Iterable[str], through: Callable[[str, Tensor], Tensor]) -> Iterator[None]:
    """What these submodules return, of several the first tensor, goes ``through`` (path, tensor)."""

    def hook(path: str) -> Callable:
        def run(module: nn.Module, args: Any, output: Any) -> Any:
            leaves, spec = tree_flatten(output)
            first = next((i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)), None)
            if first is not None:
                leaves[first] = through(path, leaves[first])
            return tree_unflatten(leaves, spec)

        return run

    hooks = [model.get_submodule(path).register_forward_hook(hook(path)) for path in paths]
    try:
        yield
    finally:
        for one in hooks:
            one.remove()


class Graph:
    """The autograd graph below ``sink``, its nodes numbered from the inputs on; a set of nodes is an integer, bit i of
    which is node i."""

    def __init__(self, sink: Any) -> None:
        self.place: dict[Any, int] = {}
        inputs: list[list[int]] = []
        open_ = [(sink, False)]
        while open_:
            node, seen = open_.pop()
            if node in self.place:
                continue
            before = [other for other, _ in node.next_functions if other is not None]
            if seen:
                self.place[node] = len(inputs)
                inputs.append([self.place[other] for other in before])
            else:
                open_.append((node, True))
                open_ += [(other, False) for other in before]
        self.inputs = inputs
        self.leaves = reduce(or_, (1 << i for node, i in self.place.items() if node.name() == LEAF), 0)
        self.above = self._leading(0)
        users: list[list[int]] = [[] for _ in inputs]
        for i, own in enumerate(inputs):
            for j in own:
                users[j].append(i)
        self.after = [0] * len(inputs)  # the nodes that every path to the sink meets
        for i in reversed(range(len(inputs))):
            self.after[i] = 1 << i | (reduce(and_, (self.after[j] for j in users[i])) if users[i] else 0)

    def bits(self, nodes: Iterable[Any]) -> int:
        """Those of ``nodes`` that are in the graph."""
        return reduce(or_, (1 << self.place[node] for node in nodes if node in self.place), 0)

    def branch(self, own: int, marks: Sequence[int]) -> int:
        """What leads to the nodes ``own`` and to nothing that leads around them past all ``marks``; 0 where no path
        leads around them."""
        if not own:
            return 0
        nodes, everything = list(_members(own)), reduce(or_, marks)
        after = reduce(and_, (self.after[i] for i in nodes)) & ~everything
        free = self._free(everything)
        leading = reduce(or_, (self.above[i] for i in nodes))
        around = reduce(or_, (free[i] for i in _members(after)), 0) & leading & ~own & ~self.leaves
        carried = reduce(or_, (self.above[i] for i in _members(around)), 0)
        return leading & ~carried if around else 0

    def _free(self, marks: int) -> list[int]:
        if getattr(self, "_known", (None,))[0] != marks:
            self._known = marks, self._leading(marks)
        return self._known[1]

    def _leading(self, past: int) -> list[int]:
        """Of each node what leads to it by paths that go through none of ``past``, itself and their ends included."""
        found: list[int] = []
        for i, own in enumerate(self.inputs):
            found.append(reduce(or_, (1 << j if past >> j & 1 else found[j] for j in own), 1 << i))
        return found


def _members(nodes: int) -> Iterator[int]:
    while nodes:
        lowest = nodes & -nodes
        yield lowest.bit_length() - 1
        nodes ^= lowest
