"""Find convolutions, and for each the batch norm that normalises its output."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise

import torch.fx
from torch import nn

from mat.partition.blocks import CONTAINERS, Block
from mat.partition.partition import Channels, Slice
from mat.partition.projections import ancestors, join, of_torch, own_parameter, parent, split, within

PLAIN = tuple(container.forward for container in CONTAINERS)
NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)


@dataclass(frozen=True)
class Filters:
    """A convolution of ``width`` output channels; ``owners`` are the parameters with an entry per channel, its own and
    those of the ``norm`` of its output, if it has one."""

    path: str
    width: int
    owners: tuple[str, ...]
    norm: str | None = None

    @property
    def weight(self) -> str:
        return self.owners[0]

    def groups(self, count: int) -> list[tuple[Slice, ...]]:
        """Slices of ``count`` equal groups of output channels."""
        runs = split(self.width, count, self.path)
        return [tuple(Slice(name, 0, *run) for name in self.owners) for run in runs]

    def claim(self, count: int) -> Channels:
        """That its ``count`` groups make a group of the output's channels each. Raises InputError where the width is no
        multiple of it."""
        self.groups(count)
        slices = tuple(Slice(name, 0, 0, self.width) for name in self.owners)
        return Channels(self.path, self.path if self.norm is None else self.norm, slices, count)

    @property
    def bare(self) -> Filters:
        """The same without its norm."""
        owners = tuple(name for name in self.owners if parent(name) == self.path)
        return replace(self, owners=owners, norm=None)


def convolutions(model: nn.Module, found: list[Block]) -> list[Filters]:
    """Every ``nn.Conv2d`` in order, except the patch embedding of a transformer and an output head."""
    left = patch_embeddings(model, found) | output_convolution(model)
    norms = normalised_by(model)
    made = []
    for path, module in model.named_modules():
        if _is_convolution(module) and path not in left:
            places = [(path, module)] + ([norms[path]] if path in norms else [])
            owners = [
                join(place, name)
                for place, holder in places
                for name in ("weight", "bias")
                if own_parameter(holder, name) is not None
            ]
            norm = norms[path][0] if path in norms else None
            made.append(Filters(path, module.out_channels, tuple(owners), norm))
    return made


def patch_embeddings(model: nn.Module, found: list[Block]) -> set[str]:
    """Convolutions that cut the image into tiles (stride = kernel), first in a transformer, ahead of its blocks."""
    order = {path: i for i, path in enumerate(dict(model.named_modules()))}
    convs = {path: m for path, m in model.named_modules() if _is_convolution(m)}
    tiles = set()
    for path, conv in convs.items():
        if conv.groups > 1 or conv.kernel_size != conv.stride or conv.stride == (1, 1):
            continue
        tower = next((a for a in ancestors(path) if any(within(b.path, a) for b in found)), None)
        if tower is None:
            continue
        rest = [other for other in convs if within(other, tower)]
        rest += [b.path for b in found if within(b.path, tower)]
        if all(order[path] <= order[other] for other in rest):
            tiles.add(path)
    return tiles


def output_convolution(model: nn.Module) -> set[str]:
    """The last convolution of a model without other matrices: the output head, as in SqueezeNet.

    With it in the remainder the loss has a graph whatever is active.
    """
    last, held = "", set()
    for path, module in model.named_modules():
        if _is_convolution(module):
            last = path
            held.add(join(path, "weight"))
    others = any(p.dim() > 1 and name not in held for name, p in model.named_parameters())
    return set() if others or len(held) < 2 else {last}


def repeated_blocks(model: nn.Module, paths: list[str], found: list[Block]) -> dict[str, str | None]:
    """For each of the convolutions ``paths`` the repeated block around it, or None.

    A block is an instance of a class, not one of torch's own, that the model has several times, with two weights
    or more and no transformer block inside; if it stands in a container of such a class with a forward of its
    own (DenseNet's dense blocks), that container is the block.
    """
    modules = dict(model.named_modules())
    classes = Counter(type(module) for module in modules.values())

    def repeated(path: str) -> bool:
        many = bool(path) and not of_torch(modules[path]) and classes[type(modules[path])] > 1
        return many and not any(within(block.path, path) for block in found)

    def computes(path: str) -> bool:
        forward = getattr(type(modules[path]), "forward", None)
        return isinstance(modules[path], CONTAINERS) and forward not in PLAIN

    chosen: dict[str, str | None] = {}
    for path in paths:
        around = (a for a in ancestors(path) if repeated(a) and _weights(modules[a]) > 1)
        block = next(around, None)
        while block and computes(parent(block)) and repeated(parent(block)):
            block = parent(block)
        chosen[path] = block
    blocks = set(chosen.values())
    return {path: next((a for a in reversed([*ancestors(path)]) if a in blocks), None) for path in paths}


def _weights(module: nn.Module) -> int:
    return sum(parameter.dim() > 1 for parameter in module.parameters())


def normalised_by(model: nn.Module) -> dict[str, tuple[str, nn.Module]]:
    """Per convolution the batch norm, with affine entries, that alone receives its output.

    That a batch norm is registered behind a convolution, with as many channels, does not show that it
    normalises its output (it may belong to a shortcut, or to the input of the next layer). Two things do: both
    are neighbours in an ``nn.Sequential``, or a symbolic trace of the forward pass hands the one's output to the
    other and to nothing else. Where tracing fails, and where a layer is used twice, no norm is attached.
    """
    modules = dict(model.named_modules())
    uses = Counter(id(child) for module in modules.values() for child in module._modules.values())
    once = {path for path, module in modules.items() if uses[id(module)] <= 1}
    waiting = {path for path, m in modules.items() if _is_convolution(m) and path in once}
    found: dict[str, str] = {}
    for path, module in modules.items():
        if getattr(type(module), "forward", None) is nn.Sequential.forward:  # a scripted class has none
            chain = [join(path, name) for name in module._modules]
            for place, following in pairwise(chain):
                if place in waiting:
                    found[place] = following
                    waiting.discard(place)
    norms = {path for path, m in modules.items() if isinstance(m, NORMS) and m.affine and path in once}
    if waiting and norms - set(found.values()):
        found.update(_traced("", model, waiting))
    return {
        place: (norm, modules[norm])
        for place, norm in found.items()
        if norm in norms and modules[norm].num_features == modules[place].out_channels
    }


class _Tracer(torch.fx.Tracer):
    """Looks only into modules that hold convolutions or norms."""

    def is_leaf_module(self, module: nn.Module, path: str) -> bool:
        plain = not any(_is_convolution(m) or isinstance(m, NORMS) for m in module.modules())
        return plain or super().is_leaf_module(module, path)


def _traced(path: str, module: nn.Module, waiting: set[str]) -> dict[str, str]:
    """Pairs (convolution, the only module that receives its output), from the largest parts that can be traced."""
    if not any(within(place, path) for place in waiting):
        return {}
    try:
        shared = {id(t): t for t in (*module.parameters(), *module.buffers())}
        twin = copy.deepcopy(module, shared)  # its own objects, the same tensors: a forward may set attributes
        graph = _Tracer().trace(twin)
    except Exception:  # whatever an arbitrary forward raises on symbolic inputs: look inside instead
        found = {}
        for name, child in module.named_children():
            found.update(_traced(join(path, name), child, waiting))
        return found
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    found = {}
    for node in graph.nodes:
        if node.op == "call_module" and join(path, node.target) in waiting and len(node.users) == 1:
            (user,) = node.users
            if user.op == "call_module" and calls[node.target] == calls[user.target] == 1:
                found[join(path, node.target)] = join(path, user.target)
    return found


def _is_convolution(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and own_parameter(module, "weight") is not None
