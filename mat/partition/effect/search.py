"""Find attention heads and feed-forward neurons by gradients alone, in models whose names say nothing.

One forward pass is cut at every linear map (``mat.partition.effect.trace``). The maps whose outputs feed one map's
input and nothing else are its sources. The most equal runs of that input's columns that each have rows of every source
to themselves are an attention's heads, if gradients cross positions, and neurons if every column is a run and none
does. ⌈log₈ n⌉ passes, of all maps at once, are needed for every n that may be the number of runs.
"""

from __future__ import annotations

import os.path
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mat.forward import Inputs
from mat.partition.attention import Heads
from mat.partition.effect.codes import codes, digits, scaled, spread
from mat.partition.effect.trace import Trace
from mat.partition.feedforward import FeedForward
from mat.partition.partition import Premise
from mat.partition.projections import Projection, parent, premise, projections


def by_effect(model: nn.Module, taken: Collection[str], inputs: Inputs) -> list[Heads | FeedForward]:
    """Attentions and feed-forward blocks of the linear maps whose weights are not ``taken``, by gradients on the first
    samples of ``inputs``; model and generators are left as they were.

    No map is part of two, and every row of a head has a gradient: what could also be cut otherwise is not found.
    """
    maps = {at.weight: at for _, at in projections(model)}
    free = set(maps) - set(taken)
    if not free:
        return []
    trace = Trace.of(model, set(taken).union(*(at.weights for at in maps.values())), inputs)
    try:
        sources, alone = _sources(trace, maps, free)
        premises = [premise(sink, [maps[name] for name in own], maps[sink], 1) for sink, own in sources.items()]
        plain = trace.gradients({p: torch.ones(p.sink.stop) for p in premises})
        whole = {p: [g for g in found if g is not None] for p, found in plain.items()}
        seen = {p: found for p, found in whole.items() if len(found) == len(p.sources) and all(g.any() for g in found)}
        found = dict(_cut(trace, maps, seen))
        crossing = {p for p in found if _crosses(trace, p)}
    except RuntimeError:  # what runs again in the backward pass is not cut, or it cannot be gone through more than once
        return []
    made: list[Heads | FeedForward] = []
    for p, (count, parts) in found.items():
        sink, neurons = p.where, count == p.sink.stop
        if p in crossing and not neurons and all(g.any(0).all() for g in seen[p]):
            core = _above([parent(weight) for weight in p.parameters])
            made.append(Heads(core, tuple(parts), maps[sink], count, named=False))
        elif p not in crossing and neurons and sink in alone:
            made.append(FeedForward(parent(sink), tuple(parts), maps[sink]))
    uses = Counter(weight for part in made for weight in part.weights)
    return [part for part in made if all(uses[weight] == 1 for weight in part.weights)]


def _sources(trace: Trace, maps: Mapping[str, Projection], free: set[str]) -> tuple[dict[str, list[str]], set[str]]:
    """The free maps that feed each free map's input, and nothing else, where what is not free does not; and which
    inputs no others feed."""
    leaves = [(name, leaf) for name, calls in trace.outputs.items() for _, leaf in calls]
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
    small = {name for at in maps.values() for name in (*at.into, *at.out_of)}  # beside one, and cut as it is
    bound = {sink for name, sinks in readers.items() if name not in free | small for sink in sinks}
    shared = set(bound)
    for name in (name for name in maps if name in readers):
        sink = next(iter(readers[name]))
        if len(readers[name]) == 1 and sink in free - bound and sink != name:
            sources.setdefault(sink, []).append(name)
        else:
            shared |= readers[name]
    return sources, sources.keys() - shared


def _cut(
    trace: Trace, maps: Mapping[str, Projection], plain: Mapping[Premise, Sequence[Tensor]]
) -> Iterator[tuple[Premise, tuple[int, list[Projection]]]]:
    """Of each sink the most runs, two at least, that have rows of every source to themselves; the sources' parts."""
    open_ = list(plain)
    counts = {n for p in open_ for n in range(2, p.sink.stop + 1) if p.sink.stop % n == 0}
    for n in sorted(counts, reverse=True):
        asked = [p for p in open_ if p.sink.stop % n == 0]
        kept = {p: [list(_layouts(maps[s.parameter], p.sink.stop, n)) for s in p.sources] for p in asked}
        for digit in range(digits(n)):
            asked = [p for p in asked if all(kept[p])]
            factors = codes(n, digit)
            again = trace.gradients({p: spread(factors, p.sink.stop) for p in asked})
            for p in asked:
                for ways, before, after in zip(kept[p], plain[p], again[p], strict=True):
                    ways[:] = [
                        way
                        for way in ways
                        if scaled(before, after, torch.cat([spread(factors, part.rows) for part in way]))
                    ]
        for p in asked:
            if all(len(ways) == 1 for ways in kept[p]):
                open_.remove(p)
                yield p, (n, [part for (way,) in kept[p] for part in way])


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
    last = [torch.zeros(x.shape).to(x) for x in inputs]
    for one in last:
        one.view(-1, one.shape[-1])[-1] = 1
    found = torch.autograd.grad(inputs, leaves, last, True, allow_unused=True)
    return any(g is not None and int(g.reshape(-1, g.shape[-1]).any(1).sum()) > len(inputs) for g in found)


def _above(paths: Sequence[str]) -> str:
    """The deepest module that holds them all."""
    return os.path.commonpath([f"/{path.replace('.', '/')}" for path in paths]).strip("/").replace("/", ".")
