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
- *channels* (``mat.methods.ssprop``): nominal charges those that a sparse backward pass drops.
- *experts*: without ``routed`` nominal shares the example's cost evenly among a layer's experts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import takewhile

from torch import Tensor, nn

from mat.errors import InputError
from mat.flops.trace import Trace, trace_forward
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
    trace = trace_forward(model, example)
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


def _heads(partition: Partition, trace: Trace) -> dict[str, list[str]]:
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
    return sum(partition.size([piece]) for piece in module.slices if len(partition.shapes[piece.parameter]) > 1)


def _check_used(parameter: str, module: str, trace: Trace) -> None:
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
