"""Find feed-forward blocks and experts: maps d → f and back, alone, or side by side behind a router."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from mat.partition.attention import Heads
from mat.partition.partition import Apart, Premise, Slice
from mat.partition.projections import (
    Projection,
    ancestors,
    join,
    nearest,
    of_torch,
    parent,
    premise,
    projections,
    split,
    within,
)

# Tells the map back to the residual stream where f = d leaves it open.
DOWN = ("output.dense", "lin2", "linear2", "wo", "down_proj", "c_proj", "fc2")
Maps = list[tuple[str, Projection]]  # linear maps, each with its path, in order
COUNTS = ("moe_num_experts", "num_experts")  # how many experts a module holds in one matrix


@dataclass(frozen=True)
class FeedForward:
    """``ups`` (one map, or two where one gates the other) into ``f`` neurons, ``down`` out of them."""

    path: str
    ups: tuple[Projection, ...]
    down: Projection

    @property
    def weights(self) -> set[str]:
        return self.down.weights.union(*(up.weights for up in self.ups))

    @property
    def premise(self) -> Premise:
        """That every neuron's rows feed its own column."""
        return premise(self.path, self.ups, self.down, self.down.columns)

    def turned(self) -> Iterator[FeedForward]:
        """The other ways to lead through the same maps, as far as their shapes allow."""
        for up in self.ups:
            ups = tuple(self.down if other is up else other for other in self.ups)
            if all((u.rows, u.columns) == (up.columns, up.rows) for u in ups):
                yield FeedForward(self.path, ups, up)

    def groups(self, count: int) -> list[tuple[Slice, ...]]:
        """Slices of ``count`` equal groups of neurons."""
        runs = split(self.down.columns, count, self.path)
        return [
            (*(piece for up in self.ups for piece in up.row_slices(*run)), *self.down.column_slices(*run))
            for run in runs
        ]


@dataclass(frozen=True)
class Experts:
    """Feed-forward blocks of one shape behind one router; ``routers`` are the weights that decide between them."""

    path: str
    slices: tuple[tuple[Slice, ...], ...]
    weights: frozenset[str]
    routers: frozenset[str]
    paths: tuple[str, ...] = ()  # of the modules that hold one each

    @property
    def claim(self) -> Apart:
        """That none works on another's results."""
        return Apart(self.path, self.paths, self.slices)


def feed_forwards(model: nn.Module, found: list[Heads]) -> tuple[list[FeedForward], list[Experts]]:
    """Feed-forward blocks and experts as wide as an attention, or of repeated parts without one that is recognised;
    which of them are a layer's own, blocks decide."""
    modules = dict(model.named_modules())
    free = dict(_free_projections(modules, found))
    alone = dict(_of_repeated_parts(modules, free, found))
    dense: dict[str, FeedForward] = {}
    experts: dict[str, Experts] = {}
    order = {path: i for i, path in enumerate(modules)}
    last = {place.weight: order[path] for path, place in free.items()}
    for width in sorted({heads.width for heads in found} | {maps[0][1].columns for maps in alone.values()}):
        as_wide = {path: maps for path, maps in alone.items() if maps[0][1].columns == width}
        every = _of_width(modules, _below(free) | as_wide, width)
        fits = {path: ffn for path, ffn in every.items() if path in as_wide or width in widths(path, found)}
        for path in sorted({parent(path) for path in fits}):
            mine = [ffn for place, ffn in fits.items() if parent(place) == path]
            holders = [name for name, child in modules[path].named_children() if any(True for _ in child.parameters())]
            if isinstance(modules[path], nn.ModuleList | nn.ModuleDict) and len(mine) == len(holders):
                routers = _routers(model, path, len(mine), width)
                if routers:
                    experts[path] = _separate_experts(modules, path, mine, routers)
                    fits = {place: ffn for place, ffn in fits.items() if parent(place) != path}
        for place, ffn in fits.items():  # maps d → f and f → d beside attentions of both widths: the later leads back
            if place not in dense or last[ffn.down.weight] > last[dense[place].down.weight]:
                dense[place] = ffn
        experts.update({e.path: e for e in _stacked_experts(model, modules, found, width)})
    return list(dense.values()), list(experts.values())


def widths(path: str, found: list[Heads]) -> set[int]:
    """Of the residual streams that a feed-forward block at ``path`` may write to: those of the nearest attentions."""
    home = nearest(path, [heads.place for heads in found])
    return {heads.width for heads in found if home is not None and within(heads.place, home)}


def _free_projections(modules: dict[str, nn.Module], found: list[Heads]) -> Iterator[tuple[str, Projection]]:
    """Linear maps that belong to no attention."""
    cores = [heads.place for heads in found if heads.place]
    taken = {weight for heads in found for weight in heads.weights}
    for path, place in projections(modules[""]):
        if place.weight not in taken and not any(within(path, core) for core in cores):
            yield path, place


def repeated_part(modules: dict[str, nn.Module], path: str, found: list[Heads]) -> str | None:
    """The nearest element of a container around ``path``, of a class that is not torch's own, if no attention is in it:
    of a list, or one of several of that class."""
    for part in (path, *ancestors(path)):
        if not part or of_torch(modules[part]):
            continue
        holder = modules[parent(part)]
        alike = sum(type(child) is type(modules[part]) for child in holder.children())
        if isinstance(holder, nn.ModuleList) or (alike > 1 and isinstance(holder, nn.Sequential | nn.ModuleDict)):
            return None if any(within(heads.place, part) for heads in found) else part
    return None


def _of_repeated_parts(
    modules: dict[str, nn.Module], free: dict[str, Projection], found: list[Heads]
) -> Iterator[tuple[str, Maps]]:
    """Modules in repeated parts without a recognised attention, with their maps that lead there and back: all of them;
    or those of a part's children that hold one each. A square map beside them, which may gate what comes out, is none.

    The first map leads into the neurons. Nothing between the maps has parameters, which may mix neurons as norms do,
    but depthwise convolutions.
    """
    for path, maps in _below(free).items():
        part = repeated_part(modules, path, found)
        if part is None:
            continue
        if path == part and len(maps) > 3:
            child = [name.removeprefix(join(path, "")).partition(".")[0] for name, _ in maps]
            maps = [place for place, own in zip(maps, child, strict=True) if child.count(own) == 1]
        if not 2 <= len(maps) <= 3 or any(_holds_more(modules, path, maps)):
            continue
        width = maps[0][1].columns
        if len(maps) == 3 and any(place.rows != width for _, place in maps):
            maps = [(name, place) for name, place in maps if (place.rows, place.columns) != (width, width)]
        if len(maps) > 1 and any(place.rows == maps[0][1].columns for _, place in maps[1:]):
            yield path, maps


def _holds_more(modules: dict[str, nn.Module], path: str, maps: Maps) -> Iterator[str]:
    """What is registered between the first and the last of ``maps`` in ``path`` and has parameters of its own, unless
    it works channel by channel."""
    order = list(modules)
    first, last = order.index(maps[0][0]), order.index(maps[-1][0])
    for between in order[first + 1 : last]:
        layer = modules[between]
        own = any(p is not None for p in layer._parameters.values())
        depthwise = isinstance(layer, nn.modules.conv._ConvNd) and layer.groups == layer.in_channels
        if own and within(between, path) and not any(within(between, name) for name, _ in maps) and not depthwise:
            yield between


def _below(free: dict[str, Projection]) -> dict[str, Maps]:
    """The maps in every module."""
    below: dict[str, Maps] = {}
    for path, place in free.items():
        for above in ancestors(path):
            below.setdefault(above, []).append((path, place))
    return below


def _of_width(modules: dict[str, nn.Module], below: dict[str, Maps], width: int) -> dict[str, FeedForward]:
    """The deepest modules whose maps are exactly one feed-forward block."""
    fits: dict[str, FeedForward] = {}
    above_one: set[str] = set()
    for path in sorted(below, key=lambda p: (-p.count(".") if p else 1, p)):
        ffn = None if path in above_one else _feed_forward(path, modules[path], below[path], width)
        if ffn:
            fits[path] = ffn
            above_one.update(ancestors(path))
    order = {path: i for i, path in enumerate(modules)}
    return dict(sorted(fits.items(), key=lambda item: order[item[0]]))


def _feed_forward(path: str, module: nn.Module, maps: Maps, width: int) -> FeedForward | None:
    if len(maps) == 2:  # perhaps a gate and what it gates in one map
        neurons = next((m.columns for _, m in maps if m.columns != width), width)
        fused = [m.columns == width != neurons and m.rows == 2 * neurons for _, m in maps]
        maps = [(name, part) for (name, m), two in zip(maps, fused, strict=True) for part in m.parts(1 + two)]
    if len(maps) not in (2, 3):
        return None
    neurons = next((m.rows for _, m in maps if m.rows != width), width)
    if neurons == width:  # all maps are d → d: only their order or their names can tell
        last = maps[-1][0].removeprefix(f"{path}.") if path else maps[-1][0]
        ordered = type(module).forward is nn.Sequential.forward and len(maps) == 2
        ups, downs = [m for _, m in maps[:-1]], [m for _, m in maps[-1:] if ordered or last in DOWN]
        if any(m.columns != width for _, m in maps):
            return None
    else:
        ups = [m for _, m in maps if (m.rows, m.columns) == (neurons, width)]
        downs = [m for _, m in maps if (m.rows, m.columns) == (width, neurons)]
    if len(downs) != 1 or len(ups) != len(maps) - 1:
        return None
    return FeedForward(path, tuple(ups), downs[0])


def _routers(model: nn.Module, experts: str, count: int, width: int) -> frozenset[str]:
    """Matrices beside ``experts`` with a row for each, and smaller gates beside them; empty without the former."""
    if not experts:
        return frozenset()
    above = parent(experts)
    beside = [
        (join(above, name), tuple(parameter.shape))
        for name, parameter in model.get_submodule(above).named_parameters()
        if parameter.dim() == 2 and not within(join(above, name), experts)
    ]
    if not any(shape == (count, width) for _, shape in beside):
        return frozenset()
    return frozenset(name for name, (rows, columns) in beside if columns == width and rows in (1, count))


def _separate_experts(
    modules: dict[str, nn.Module], path: str, ffns: list[FeedForward], routers: frozenset[str]
) -> Experts:
    """Each expert is a submodule and owns all of it."""
    slices = []
    for ffn in ffns:
        parameters = modules[ffn.path].named_parameters()
        slices.append(tuple(Slice(join(ffn.path, name), 0, 0, p.shape[0]) for name, p in parameters))
    weights = frozenset(w for ffn in ffns for w in ffn.weights)
    return Experts(path, tuple(slices), weights, routers, tuple(ffn.path for ffn in ffns))


def _stacked_experts(
    model: nn.Module, modules: dict[str, nn.Module], found: list[Heads], width: int
) -> Iterator[Experts]:
    """One module holds all experts in parameters with the expert as first dimension, beside their router; or with the
    rows of one expert after those of another, where the module says how many there are."""
    cores = [heads.place for heads in found if heads.place]
    for path, module in modules.items():
        own = {name: p for name, p in module._parameters.items() if p is not None}
        fits = [p for p in own.values() if p.dim() in (2, 3) and width in p.shape[1:]]
        if len(fits) < 2 or len(list(module.parameters())) > len(own) or any(within(path, core) for core in cores):
            continue
        cubes = [p for p in fits if p.dim() == 3]
        lengths = {p.shape[0] for p in cubes}  # with entries that are no expert's, as of those that pass tokens on
        count = min(lengths) if len(cubes) > 1 else next((getattr(module, name, 0) for name in COUNTS), 0)
        if not count or any(p.shape[0] not in lengths if cubes else p.shape[0] % count for p in own.values()):
            continue
        outer = path  # what holds nothing but the experts
        while outer and len(list(modules[parent(outer)].parameters())) == len(own):
            outer = parent(outer)
        if routers := frozenset().union(*(_routers(model, outer, n, width) for n in lengths or {count})):
            names = {join(path, name): 1 if cubes else p.shape[0] // count for name, p in own.items()}
            slices = tuple(
                tuple(Slice(name, 0, e * rows, (e + 1) * rows) for name, rows in names.items()) for e in range(count)
            )
            yield Experts(path, slices, frozenset(names), routers)
