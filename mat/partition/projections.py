"""Linear maps inside a model, as the places of their units: which entries of which parameters are one output unit."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace

from torch import nn

from mat.errors import InputError
from mat.partition.partition import Premise, Slice

Runs = list[tuple[int, int]]


def runs_of(intervals: Iterable[tuple[int, int]]) -> Runs:
    """Disjoint (start, stop), sorted, those that touch as one."""
    runs: Runs = []
    for start, stop in sorted(intervals):
        if runs and runs[-1][1] == start:
            runs[-1] = (runs[-1][0], stop)
        else:
            runs.append((start, stop))
    return runs


@dataclass(frozen=True)
class Projection:
    """A linear map with ``rows`` outputs and ``columns`` inputs.

    Its outputs are entries ``offset : offset + rows`` of the parameter ``weight`` along ``dim`` (and of
    ``bias``), its inputs all entries along the other dimension. ``dim`` is 0 for (out, in) weights and 1 for
    (in, out) weights; a fused projection holds several maps at different offsets.
    """

    weight: str
    bias: str | None
    rows: int
    columns: int
    dim: int = 0
    offset: int = 0

    def row_slices(self, start: int, stop: int) -> list[Slice]:
        """Output units ``start:stop``, with their biases."""
        first, last = self.offset + start, self.offset + stop
        weight = Slice(self.weight, self.dim, first, last)
        return [weight] if self.bias is None else [weight, Slice(self.bias, 0, first, last)]

    def column_slice(self, start: int, stop: int) -> Slice:
        """Input units ``start:stop``."""
        return Slice(self.weight, 1 - self.dim, start, stop)

    def parts(self, count: int) -> list[Projection]:
        """The ``count`` equal maps whose outputs this one holds one after the other."""
        return self.cut(*[self.rows // count] * count)

    def cut(self, *rows: int) -> list[Projection]:
        """The maps of so many ``rows`` each, one after the other."""
        return [replace(self, rows=n, offset=self.offset + sum(rows[:i])) for i, n in enumerate(rows)]


def projection(path: str, module: nn.Module | None) -> Projection | None:
    """The map of an ``nn.Linear``, or of a layer with a transposed (in, out) weight and its width in ``nf``."""
    weight = None if module is None else own_parameter(module, "weight")
    if module is None or weight is None or weight.dim() != 2:
        return None
    bias = join(path, "bias") if own_parameter(module, "bias") is not None else None
    if isinstance(module, nn.Linear):
        return Projection(join(path, "weight"), bias, *weight.shape)
    if getattr(module, "nf", None) == weight.shape[1]:
        return Projection(join(path, "weight"), bias, weight.shape[1], weight.shape[0], dim=1)
    return None


def own_parameter(module: nn.Module, name: str) -> nn.Parameter | None:
    """The parameter that a module, scripted ones too, has by this name itself; None for anything that is computed."""
    return dict(module.named_parameters(recurse=False, remove_duplicate=False)).get(name)


def premise(where: str, sources: Sequence[Projection], sink: Projection, count: int) -> Premise:
    """That ``sources`` feed ``sink`` in ``count`` equal runs."""
    rows = tuple(Slice(p.weight, p.dim, p.offset, p.offset + p.rows) for p in sources)
    return Premise(where, rows, sink.column_slice(0, sink.columns), count)


def joined(slices: Iterable[Slice]) -> tuple[Slice, ...]:
    """``slices`` with those that go on where another of the same parameter ends made one with it."""
    found: list[Slice] = []
    for piece in slices:
        before = (other for other in found if (*astuple(other)[:2], other.stop) == astuple(piece)[:3])
        if last := next(before, None):
            found[found.index(last)] = replace(last, stop=piece.stop)
        else:
            found.append(piece)
    return tuple(found)


def shared_parameters(model: nn.Module) -> set[str]:
    """Parameters that modules share, by all their names; a module that is used in two places has its own."""
    names: dict[int, list[str]] = {}
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            names.setdefault(id(parameter), []).append(join(path, name))
    return {name for group in names.values() if len(group) > 1 for name in group}


def join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def parent(path: str) -> str:
    return path.rpartition(".")[0]


def within(path: str, root: str) -> bool:
    """Whether ``path`` is ``root`` or below it."""
    return not root or path == root or path.startswith(f"{root}.")


def ancestors(path: str) -> Iterator[str]:
    """The paths above ``path``, nearest first, the model itself ('') last."""
    while path:
        path = parent(path)
        yield path


def nearest(path: str, others: Collection[str]) -> str | None:
    """The deepest module that holds ``path`` and one of ``others``."""
    for above in (path, *ancestors(path)):
        if any(within(other, above) for other in others):
            return above
    return None


def split(width: int, groups: int, path: str) -> list[tuple[int, int]]:
    """``groups`` equal runs of ``width`` units. Raises InputError, naming ``path``, when they do not divide."""
    if groups < 1 or width % groups:
        raise InputError(f"{path}: {width} units do not divide into {groups} equal groups; choose a divisor")
    step = width // groups
    return [(start, start + step) for start in range(0, width, step)]
