"""Say by name which weights stay in the remainder although they are neither head, embedding nor router."""

from __future__ import annotations

import re

from torch import nn

from mat.partition.attention import POSITION_TABLES
from mat.partition.blocks import Block, blocks, siblings, stacks
from mat.partition.convolutions import output_convolution, patch_embeddings
from mat.partition.partition import Partition
from mat.partition.projections import of_torch, parent, projection, within

TABLE = re.compile(r"embed|pos|token|table|bias|scale|gamma|query|latents", re.IGNORECASE)


def unrecognised(model: nn.Module, partition: Partition, found: list[Block] | None = None) -> list[str]:
    """Weights that stay, wholly or in part, in the remainder though they do a module's kind of work. ``found``: the
    blocks of ``model``; None for those that names and shapes say.

    These are parameters of two dimensions or more of linear maps, convolutions, recurrent layers and the like,
    those a keyword left out on purpose included. Not listed: embeddings and tables of positions or tokens,
    routers, patch embeddings, and the linear maps before and behind the blocks (output heads, poolers, input
    projections).
    """
    found = blocks(model) if found is None else found
    modules = dict(model.named_modules())
    routers = {name for block in found for _, experts in block.experts for name in experts.routers}
    ends = patch_embeddings(model, found) | output_convolution(model)
    repeated = [*stacks(model, found), *siblings(model, found)]
    left = dict.fromkeys(piece.parameter for piece in partition.remainder if len(partition.shapes[piece.parameter]) > 1)
    names = []
    for name in left:
        path, _, attribute = name.rpartition(".")
        if name in routers or path in ends or not _works(modules[path], attribute, partition.shapes[name]):
            continue
        if any(word in path.split(".") for word in POSITION_TABLES):
            continue
        inside = any(within(path, root) for root in repeated) and not _ends_the_stack(path, modules, found)
        if inside or not _may_be_a_head(path, modules):
            names.append(name)
    return names


def _works(owner: nn.Module, attribute: str, shape: tuple[int, ...]) -> bool:
    """Whether a parameter multiplies activations; tables are looked up or added."""
    if isinstance(owner, nn.Embedding | nn.EmbeddingBag | nn.LayerNorm):
        return False
    if "weight" in attribute and of_torch(owner):
        return True
    return sum(length > 1 for length in shape) > 1 and not TABLE.search(attribute)


def _may_be_a_head(path: str, modules: dict[str, nn.Module]) -> bool:
    """Outside the blocks a linear map, or a bare matrix, is taken for a head, a pooler or an input projection."""
    owner = modules[path]
    return projection(path, owner) is not None or not of_torch(owner)


def _ends_the_stack(path: str, modules: dict[str, nn.Module], found: list[Block]) -> bool:
    """A linear layer behind the last block in the blocks' own container: the head of a sequential model."""
    if not found or not isinstance(modules[parent(path)], nn.Sequential):
        return False
    order = list(modules)
    last = max((b.path for b in found), key=order.index)
    beside = any(within(b.path, parent(path)) for b in found)
    behind = order.index(path) > order.index(last) and not within(path, last)
    return beside and behind and projection(path, modules[path]) is not None


def adapters(found: list[Block]) -> set[str]:
    """Weights of low rank beside the maps of attentions and feed-forward blocks."""
    heads = [place for block in found for _, unit in block.heads for place in (*unit.inputs, unit.output)]
    places = heads + [place for block in found for _, unit in block.ffns for place in (*unit.ups, unit.down)]
    return {name for place in places for name in (*place.into, *place.out_of)}


def not_asked_for(found: list[Block]) -> set[str]:
    """Weights of recognised parts: those in the remainder are there because a keyword left them there."""
    parts = [part for block in found for group in (block.heads, block.ffns, block.experts) for _, part in group]
    return {weight for part in parts for weight in part.weights}
