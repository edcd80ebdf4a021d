"""Partitions: a model's trainable parameters as disjoint modules plus a remainder that always trains.

A *module* is a named set of slices of parameters (Shi et al., NeurIPS 2023): an attention head, a feed-forward
block, a group of convolution filters. The *remainder* is everything else. ``Partition.of`` computes the
remainder from the modules and refuses modules that overlap, so every partition is disjoint and complete.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from mat.errors import InputError

REMAINDER = "remainder"


@dataclass(frozen=True, order=True)
class Slice:
    """Entries ``start:stop`` along ``dim`` of the parameter called ``parameter``."""

    parameter: str
    dim: int
    start: int
    stop: int

    def of(self, tensor: Tensor, lead: int = 0) -> Tensor:
        """The view of ``tensor`` that this slice names: shaped like the parameter, behind ``lead`` more dimensions."""
        if tensor.dim() == lead:  # a scalar, which is one entry
            return tensor
        return tensor.narrow(self.dim + lead, self.start, self.stop - self.start)


@dataclass(frozen=True)
class Module:
    """A named set of slices; ``layer`` is its depth, 0 nearest the input."""

    name: str
    kind: str
    layer: int
    slices: tuple[Slice, ...]


@dataclass(frozen=True)
class Attention:
    """A submodule ``core`` whose forward computes attention over these head modules, in order: one for each head
    or, under grouped queries, for each key/value head; over none where heads are no modules of their own."""

    core: str
    heads: tuple[str, ...]


@dataclass(frozen=True)
class Premise:
    """What names and shapes say of the maps at ``where``: the outputs ``sources`` feed the inputs ``sink``, both in
    ``count`` equal runs, run i of each source that of the sink and no other."""

    where: str
    sources: tuple[Slice, ...]
    sink: Slice
    count: int

    @property
    def parameters(self) -> set[str]:
        return {piece.parameter for piece in (*self.sources, self.sink)}


@dataclass(frozen=True)
class Channels:
    """What names and shapes say of the convolution at ``where``: entries of each of ``slices``, all along dimension 0,
    make the channels of what the module at ``outputs`` puts out, both in ``count`` equal runs, each its own."""

    where: str
    outputs: str
    slices: tuple[Slice, ...]
    count: int

    @property
    def parameters(self) -> set[str]:
        return {piece.parameter for piece in self.slices}

    @property
    def width(self) -> int:
        """Number of channels."""
        return self.slices[0].stop


@dataclass(frozen=True)
class Apart:
    """What names and shapes say of the experts at ``where``: none of the ``parts`` works on another's results.
    ``paths``: of the modules that hold one each; none where they share their tensors."""

    where: str
    paths: tuple[str, ...]
    parts: tuple[tuple[Slice, ...], ...]

    @property
    def parameters(self) -> set[str]:
        return {piece.parameter for part in self.parts for piece in part}


Claim = Premise | Channels | Apart


@dataclass(frozen=True)
class Partition:
    """Modules and remainder: disjoint, and together every trainable parameter of the model.

    ``premises``: what the modules were cut by and no gradient has confirmed yet (``mat.partition.effect``).
    """

    modules: tuple[Module, ...]
    remainder: tuple[Slice, ...]
    shapes: Mapping[str, tuple[int, ...]]
    attentions: tuple[Attention, ...] = field(default=())
    premises: tuple[Claim, ...] = field(default=())

    @classmethod
    def of(
        cls,
        model: nn.Module,
        modules: Iterable[Module],
        attentions: Iterable[Attention] = (),
        premises: Iterable[Claim] = (),
    ) -> Partition:
        """Complete ``modules`` with the remainder of ``model``'s trainable parameters.

        Raises InputError when there is no module, a name repeats, a slice does not fit its parameter,
        two slices overlap, or one parameter is cut along two dimensions.
        """
        modules = tuple(modules)
        shapes = {name: tuple(p.shape) for name, p in model.named_parameters() if p.requires_grad}
        if not modules:
            raise InputError(
                f"a partition needs at least one module, but none was found in {type(model).__name__}; "
                "name the slices yourself with mat.partition.partition.Module, or use a supported architecture"
            )
        names = [module.name for module in modules]
        if len(set(names)) < len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise InputError(f"module names must be unique, but {twice} occur more than once")
        taken: dict[str, list[Slice]] = {}
        for module in modules:
            for piece in module.slices:
                _check_fits(piece, module.name, shapes)
                taken.setdefault(piece.parameter, []).append(piece)
        remainder: list[Slice] = []
        for name, shape in shapes.items():
            remainder += _gaps(name, shape, taken.get(name, []))
        return cls(modules, tuple(remainder), shapes, tuple(attentions), tuple(premises))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(module.name for module in self.modules)

    def with_remainder(self) -> Partition:
        """The same with the remainder as one more, last module of that name and kind, at a depth of -1: it has none.

        Raises InputError where a module is called so already.
        """
        if REMAINDER in self.names:
            raise InputError(f"a module is called {REMAINDER!r} already; give it another name")
        rest = Module(REMAINDER, REMAINDER, -1, self.remainder)
        return replace(self, modules=(*self.modules, rest), remainder=())

    def size(self, slices: Iterable[Slice]) -> int:
        """Number of scalar parameters in ``slices``."""
        return sum(
            (piece.stop - piece.start) * math.prod(length for dim, length in enumerate(shape) if dim != piece.dim)
            for piece in slices
            for shape in [self.shapes[piece.parameter]]
        )

    def is_whole(self, piece: Slice) -> bool:
        """Whether ``piece`` is all of its parameter."""
        shape = self.shapes[piece.parameter]
        return not shape or (piece.start, piece.stop) == (0, shape[piece.dim])

    def table(self) -> list[dict[str, Any]]:
        """One row per module, for records and for people: name, kind, layer, parameters."""
        return [
            {"module": m.name, "kind": m.kind, "layer": m.layer, "parameters": self.size(m.slices)}
            for m in self.modules
        ]


def refuse_other(model: nn.Module, partition: Partition, names: Iterable[str]) -> dict[str, nn.Parameter]:
    """The parameters of ``model`` by name.

    Raises InputError where it does not have those of these ``names`` as the partition does.
    """
    named = dict(model.named_parameters())
    for name in names:
        shape = tuple(named[name].shape) if name in named else None
        if shape != partition.shapes[name]:
            has = "has no such parameter" if shape is None else f"has it in shape {shape}"
            raise InputError(
                f"the partition was made of another model: it has {name!r} of shape {partition.shapes[name]}, but "
                f"{type(model).__name__} {has}; make the partition of this model"
            )
    return named


def _check_fits(piece: Slice, module: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    shape = shapes.get(piece.parameter)
    if shape is None:
        raise InputError(f"module {module!r} names parameter {piece.parameter!r}, which is not a trainable parameter")
    if not (0 <= piece.dim < max(len(shape), 1) and 0 <= piece.start < piece.stop <= (shape or (1,))[piece.dim]):
        raise InputError(f"module {module!r}: slice {piece} does not fit the parameter's shape {shape}")


def _gaps(name: str, shape: tuple[int, ...], taken: list[Slice]) -> list[Slice]:
    """The slices of one parameter that no module owns."""
    if not taken:
        return [Slice(name, 0, 0, (shape or (1,))[0])]
    dims = {piece.dim for piece in taken}
    if len(dims) > 1:
        raise InputError(f"parameter {name!r} is cut along dimensions {sorted(dims)}; one is expected")
    dim = dims.pop()
    gaps, end = [], 0
    for piece in sorted(taken):
        if piece.start < end:
            raise InputError(f"modules overlap in parameter {name!r} at {piece.start}:{min(end, piece.stop)}")
        if piece.start > end:
            gaps.append(Slice(name, dim, end, piece.start))
        end = piece.stop
    length = (shape or (1,))[dim]
    if end < length:
        gaps.append(Slice(name, dim, end, length))
    return gaps


def grouped(of: Mapping[str, Any]) -> dict[Any, list[str]]:
    """Names by what each is ``of``, groups and names in the order of ``of``."""
    found: dict[Any, list[str]] = {}
    for name, value in of.items():
        found.setdefault(value, []).append(name)
    return found
