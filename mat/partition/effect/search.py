"""Find attention heads and feed-forward neurons by gradients alone, in models whose names say nothing.

One forward pass is cut at every linear map (``mat.partition.effect.trace``). The maps whose outputs feed one map's
input and nothing else are its sources. The most equal runs of that input's columns that each have rows of every source
to themselves are an attention's heads, if gradients cross positions, and neurons if every column is a run and none
does. ⌈log₈ n⌉ passes, of all maps at once, are needed for every n that may be the number of runs.
"""

from __future__ import annotations

import os.path
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import CheckpointError

from mat.forward import Inputs
from mat.partition.attention import Heads
from mat.partition.effect.codes import codes, digits, scaled, spread
from mat.partition.effect.trace import Trace
from mat.partition.feedforward import FeedForward
from mat.partition.partition import Premise
from mat.partition.projections import Projection, parent, premise, projection


def by_effect(model: nn.Module, taken: Collection[str], inputs: Inputs) -> list[Heads | FeedForward]:
    """Attentions and feed-forward blocks of the linear maps whose weights are not ``taken``, by gradients on the first
    samples of ``inputs``; model and generators are left as they were.

    No map is part of two, and none has a row without a gradient: what could also be cut otherwise is not found.
    """
    maps = {p.weight: p for path, module in model.named_modules() if (p := projection(path, module))}
    free = maps.keys() - set(taken)
    if not free:
        return []
    trace = Trace.of(model, maps.keys() | set(taken), inputs)
    try:
        sources = _sources(trace, maps, free)
        plain = trace.gradients(
            {_whole(maps, sink, own): torch.ones(maps[sink].columns) for sink, own in sources.items()}
        )
        lively = {p.where: p for p, found in plain.items() if all(g is not None and g.any(0).all() for g in found)}
        found = dict(_cut(trace, maps, [lively[sink] for sink in lively], plain))
        crossing = {sink for sink in found if _crosses(trace, lively[sink])}
    except CheckpointError:  # what runs again in the backward pass is not cut
        return []
    made: list[Heads | FeedForward] = []
    for sink, (count, parts) in found.items():
        neurons = count == maps[sink].columns
        if sink in crossing and not neurons:
            core = _above([parent(weight) for weight in (sink, *sources[sink])])
            made.append(Heads(core, tuple(parts), maps[sink], count, named=False))
        elif neurons and sink not in crossing:
            made.append(FeedForward(parent(sink), tuple(parts), maps[sink]))
    uses = Counter(weight for part in made for weight in part.weights)
    return [part for part in made if all(uses[weight] == 1 for weight in part.weights)]


def _sources(trace: Trace, maps: Mapping[str, Projection], free: Collection[str]) -> dict[str, list[str]]:
    """The free maps that feed each free map's input, and nothing else."""
    leaves = [(name, leaf) for name, calls in trace.outputs.items() if name in free for _, leaf in calls]
    readers: dict[str, set[str]] = {}
    ends = {"": [t for t in tree_leaves(trace.result) if isinstance(t, Tensor)]}
    for sink, inputs in (trace.inputs | ends).items():
        inputs = [x for x in inputs if x.requires_grad]
        noise = [torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x) for x in inputs]
        if inputs and leaves:
            found = torch.autograd.grad(inputs, [leaf for _, leaf in leaves], noise, True, allow_unused=True)
            for (name, _), gradient in zip(leaves, found, strict=True):
                if gradient is not None:
                    readers.setdefault(name, set()).add(sink)
    sources: dict[str, list[str]] = {}
    for name in (name for name in maps if name in free):
        sinks = readers.get(name, set())
        sink = next(iter(sinks), "")
        if len(sinks) == 1 and sink in free and sink != name:
            sources.setdefault(sink, []).append(name)
    return sources


def _whole(maps: Mapping[str, Projection], sink: str, sources: Iterable[str]) -> Premise:
    return premise(sink, [maps[name] for name in sources], maps[sink], 1)


def _cut(
    trace: Trace, maps: Mapping[str, Projection], premises: Sequence[Premise], plain: Mapping[Premise, Sequence]
) -> Iterator[tuple[str, tuple[int, list[Projection]]]]:
    """Of each sink the most runs, two at least, that have rows of every source to themselves; the sources' parts."""
    open_ = {p.where: p for p in premises}
    columns = {sink: maps[sink].columns for sink in open_}
    counts = {n for length in columns.values() for n in range(2, length + 1) if length % n == 0}
    for n in sorted(counts, reverse=True):
        asked = [p for sink, p in open_.items() if columns[sink] % n == 0]
        layouts = {p: [list(_layouts(maps[s.parameter], columns[p.where], n)) for s in p.sources] for p in asked}
        for digit in range(digits(n)):
            asked = [p for p in asked if all(layouts[p])]
            again = trace.gradients({p: spread(codes(n, digit), columns[p.where]) for p in asked})
            for p in asked:
                layouts[p] = [
                    [
                        parts
                        for parts in kept
                        if scaled(before, after, torch.cat([spread(codes(n, digit), m.rows) for m in parts]))
                    ]
                    for kept, before, after in zip(layouts[p], plain[p], again[p], strict=True)
                ]
        for p in asked:
            if all(len(kept) == 1 for kept in layouts[p]):
                del open_[p.where]
                yield p.where, (n, [part for (parts,) in layouts[p] for part in parts])


def _layouts(source: Projection, columns: int, count: int) -> Iterator[list[Projection]]:
    """How a map's rows may hold ``count`` runs: as one, as equal parts one after the other, or as one part as long as
    the sink's ``columns`` ahead of or behind two others."""
    rest = (source.rows - columns) // 2
    ways = {
        (source.rows,),
        (source.rows // 2,) * 2,
        (source.rows // 3,) * 3,
        (columns, rest, rest),
        (rest, rest, columns),
    }
    for rows in sorted(ways):
        if sum(rows) == source.rows and all(n > 0 and n % count == 0 for n in rows):
            yield source.cut(*rows)


def _crosses(trace: Trace, sink: Premise) -> bool:
    """Whether what the last position of ``sink`` is given depends on what its sources put out at others."""
    inputs = [x for x in trace.inputs[sink.sink.parameter] if x.requires_grad]
    leaves = [leaf for source in sink.sources for _, leaf in trace.outputs[source.parameter]]
    last = [torch.zeros_like(x) for x in inputs]
    for one in last:
        one.view(-1, one.shape[-1])[-1] = 1
    found = torch.autograd.grad(inputs, leaves, last, True, allow_unused=True)
    return any(g is not None and int(g.reshape(-1, g.shape[-1]).any(1).sum()) > len(inputs) for g in found)


def _above(paths: Sequence[str]) -> str:
    """The deepest module that holds them all."""
    return os.path.commonpath([f"/{path.replace('.', '/')}" for path in paths]).strip("/").replace("/", ".")
