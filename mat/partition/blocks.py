"""Group attentions, feed-forward blocks and experts into the repeated blocks of a transformer, and name them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from mat.partition.attention import Heads, attentions
from mat.partition.feedforward import Experts, FeedForward, feed_forwards, repeated_part, widths
from mat.partition.projections import ancestors, join, nearest, of_torch, parent, within

CROSS = ("cross", "encdec", "encoder_attn", "multihead_attn")  # what names a second attention in a block
LISTS = (nn.ModuleList, nn.ModuleDict)
CONTAINERS = (*LISTS, nn.Sequential)


@dataclass(frozen=True)
class Block:
    """One transformer layer. Attentions and feed-forward parts come with the qualifier their names need."""

    path: str
    name: str
    heads: tuple[tuple[str, Heads], ...]
    ffns: tuple[tuple[str, FeedForward], ...]
    experts: tuple[tuple[str, Experts], ...]


def blocks(model: nn.Module, also: Sequence[Heads | FeedForward] = ()) -> list[Block]:
    """The transformer layers of ``model``, in order. ``also``: parts that were found otherwise than by names.

    A block is the smallest module with an attention and a feed-forward part of the same width, so a pair of
    linear layers in an output head is none. An attention whose feed-forward part is not recognised is a block
    by itself, and so are feed-forward parts without an attention beside such blocks, or in a repeated part of the model
    without a recognised attention. Blocks are named ``layer{d}``;
    where some stacks of blocks have cross-attention and others have not, ``decoder{d}`` and ``encoder{d}``.
    """
    modules = dict(model.named_modules())
    order = {path: i for i, path in enumerate(modules)}
    found = [*attentions(model), *(part for part in also if isinstance(part, Heads))]
    dense, experts = feed_forwards(model, found)
    parts: list[FeedForward | Experts] = [*dense, *experts]
    taken = {weight for part in parts for weight in part.weights}
    free = [part for part in also if isinstance(part, FeedForward) and taken.isdisjoint(part.weights)]
    parts += [part for part in free if part.down.rows in widths(part.path, found)]
    homes: dict[str | None, list[Heads]] = {}
    for heads in found:
        homes.setdefault(nearest(heads.place, [p.path for p in parts]), []).append(heads)
    grouped: list[tuple[str, list[Heads], list[FeedForward | Experts]]] = []
    for home, inside in homes.items():
        own = [p for p in parts if nearest(p.path, [h.place for h in found]) == home]
        whole = None if home is None else _whole(model, modules, home)
        if own and whole is not None and _roles(whole, inside) is not None:
            grouped.append((whole, inside, own))
        else:
            grouped += [(_alone(modules, heads.place, found), [heads], []) for heads in inside]
    used = [id(part) for _, _, own in grouped for part in own]
    beside = {parent(path) for path, _, _ in grouped}
    rest: dict[str, list[FeedForward | Experts]] = {}
    for part in parts:
        path = _alone(modules, part.path, found)
        if id(part) not in used and parent(path) in beside and isinstance(modules[parent(path)], LISTS):
            rest.setdefault(path, []).append(part)
            continue
        if id(part) in used:
            continue
        own_part = repeated_part(modules, part.path, found)
        home = nearest(part.path, [heads.place for heads in found])
        if own_part is not None and not any(within(own_part, path) for path, _, _ in grouped):
            rest.setdefault(own_part, []).append(part)
        elif home and isinstance(modules[parent(home)], LISTS):  # a layer of several attentions and such parts
            rest.setdefault(part.path, []).append(part)
    grouped += [(path, [], own) for path, own in rest.items()]
    grouped.sort(key=lambda group: order[group[1][0].place if group[1] else group[0]])
    crossed = {parent(path) for path, inside, _ in grouped if len(inside) > 1}
    stacks = {parent(path) for path, _, _ in grouped}
    counts: dict[str, int] = {}
    made = []
    for path, inside, own in grouped:
        prefix = "layer" if crossed in (set(), stacks) else "decoder" if parent(path) in crossed else "encoder"
        name = f"{prefix}{counts.get(prefix, 0)}"
        counts[prefix] = counts.get(prefix, 0) + 1
        roles = zip(_roles(path, inside) or (), inside, strict=True)
        attention = tuple(sorted(roles, key=lambda pair: bool(pair[0])))
        ffns = _qualified(path, [p for p in own if isinstance(p, FeedForward)])
        mixtures = _qualified(path, [p for p in own if isinstance(p, Experts)])
        made.append(Block(path, name, attention, ffns, mixtures))
    return made


def stacks(model: nn.Module, found: list[Block]) -> set[str]:
    """Paths of the outermost plain containers that hold blocks, or of the blocks where there is none."""
    modules = dict(model.named_modules())
    roots = set()
    for block in found:
        root = block.path
        while root and isinstance(modules[parent(root)], CONTAINERS):
            root = parent(root)
        roots.add(root)
    return roots


def siblings(model: nn.Module, found: list[Block]) -> Iterator[str]:
    """Modules of one class, not torch's own, side by side in a container: repeated parts that are no blocks."""
    for path, module in model.named_modules():
        if isinstance(module, CONTAINERS):
            classes = Counter(type(child) for child in module.children())
            for name, child in module.named_children():
                place = join(path, name)
                if classes[type(child)] > 1 and not of_torch(child) and not any(within(b.path, place) for b in found):
                    yield place


def _roles(block: str, inside: list[Heads]) -> list[str] | None:
    """'' for self-attention, 'cross' for cross-attention; None when two attentions would have one role."""
    if len(inside) == 1:
        return [""]
    local = [heads.place.removeprefix(block).lower() for heads in inside]
    roles = ["cross" if any(word in name for word in CROSS) else "" for name in local]
    return roles if len(set(roles)) == len(roles) else None


def _whole(model: nn.Module, modules: dict[str, nn.Module], home: str) -> str | None:
    """``home``, or the module around it where ``home`` is only the list of that module's parts; None where it is a
    list of more."""
    if not isinstance(modules[home], LISTS):
        return home
    above = parent(home)
    inside = sum(1 for _ in modules[home].parameters())
    return above if home and sum(1 for _ in modules[above].parameters()) == inside else None


def _alone(modules: dict[str, nn.Module], place: str, found: list[Heads]) -> str:
    """The outermost element of a container that holds ``place`` and no attention but what is there, else ``place``."""
    best = place
    for path in (place, *ancestors(place)):
        if any(within(other.place, path) and other.place != place for other in found):
            break
        if path and isinstance(modules[parent(path)], CONTAINERS):
            best = path
    return best


def _qualified(block: str, parts: list) -> tuple:
    """Parts with '' or, where a block has several of a kind, with their place in it."""
    if len(parts) == 1:
        return (("", parts[0]),)
    return tuple((p.path.removeprefix(join(block, "")) if block else p.path, p) for p in parts)
