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
    (in, out) weights; a fused projection holds several maps at different offsets. Maps of low rank beside it, as LoRA
    has them, are ``into`` few channels, with the same inputs, and ``out_of`` them, with the same outputs.
    """

    weight: str
    bias: str | None
    rows: int
    columns: int
    dim: int = 0
    offset: int = 0
    into: tuple[str, ...] = ()
    out_of: tuple[str, ...] = ()

    @property
    def weights(self) -> set[str]:
        return {self.weight, *self.into, *self.out_of}

    def row_slices(self, start: int, stop: int) -> list[Slice]:
        """Output units ``start:stop``, with their biases."""
        first, last = self.offset + start, self.offset + stop
        found = [Slice(self.weight, self.dim, first, last)]
        found += [] if self.bias is None else [Slice(self.bias, 0, first, last)]
        return found + [Slice(name, 0, first, last) for name in self.out_of]

    def column_slices(self, start: int, stop: int) -> list[Slice]:
        """Input units ``start:stop``."""
        own = Slice(self.weight, 1 - self.dim, start, stop)
        return [own, *(Slice(name, 1, start, stop) for name in self.into)]

    def parts(self, count: int) -> list[Projection]:
        """The ``count`` equal maps whose outputs this one holds one after the other."""
        return self.cut(*[self.rows // count] * count)

    def cut(self, *rows: int) -> list[Projection]:
        """The maps of so many ``rows`` each, one after the other."""
        return [replace(self, rows=n, offset=self.offset + sum(rows[:i])) for i, n in enumerate(rows)]


def projection(path: str, module: nn.Module | None) -> Projection | None:
    """The map of an ``nn.Linear``, of a layer with a transposed (in, out) weight and its width in ``nf``, or of one of
    these in a module that adds maps of low rank to it."""
    weight = None if module is None else own_parameter(module, "weight")
    if module is not None and weight is None:
        return _adapted(path, module)
    if module is None or weight is None or weight.dim() != 2:
        return None
    bias = join(path, "bias") if own_parameter(module, "bias") is not None else None
    if isinstance(module, nn.Linear):
        return Projection(join(path, "weight"), bias, *weight.shape)
    if getattr(module, "nf", None) == weight.shape[1]:
        return Projection(join(path, "weight"), bias, weight.shape[1], weight.shape[0], dim=1)
    return None


def projections(model: nn.Module) -> Iterator[tuple[str, Projection]]:
    """Every map of ``model``, in order, by its module's path; what a map consists of is none."""
    inside = None
    for path, module in model.named_modules():
        if (inside is None or not within(path, inside)) and (place := projection(path, module)):
            inside = path
            yield path, place


def _adapted(path: str, module: nn.Module) -> Projection | None:
    """The map of a module that holds nothing but a map, and pairs of maps of low rank beside it, which adds them up: by
    the name of LoRA, or with the first frozen."""
    named = any("lora" in name.lower() for name, _ in module.named_modules())
    maps = [p for name, child in module.named_modules() if name and (p := projection(join(path, name), child))]
    if len(maps) < 3 or len(maps) % 2 == 0 or of_torch(module):
        return None
    base, *small = maps
    if not (named or not module.get_parameter(base.weight.removeprefix(f"{path}.")).requires_grad):
        return None
    into = tuple(p.weight for p in small if p.columns == base.columns and p.rows < min(base.rows, base.columns))
    out_of = tuple(p.weight for p in small if p.rows == base.rows and p.columns < min(base.rows, base.columns))
    plain = not any(p.bias or p.dim for p in small)
    count = len(maps) + (base.bias is not None)
    if plain and len(into) == len(out_of) == len(small) // 2 and len(list(module.parameters())) == count:
        return replace(base, into=into, out_of=out_of)
    return None


def of_torch(module: nn.Module) -> bool:
    """Whether the module's class is one of torch's own."""
    return type(module).__module__.startswith("torch.nn.")


def own_parameter(module: nn.Module, name: str) -> nn.Parameter | None:
    """The parameter that a module, scripted ones too, has by this name itself; None for anything that is computed."""
    return dict(module.named_parameters(recurse=False, remove_duplicate=False)).get(name)


def premise(where: str, sources: Sequence[Projection], sink: Projection, count: int) -> Premise:
    """That ``sources`` feed ``sink`` in ``count`` equal runs."""
    rows = tuple(p.row_slices(0, p.rows)[0] for p in sources)
    return Premise(where, rows, sink.column_slices(0, sink.columns)[0], count)


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
