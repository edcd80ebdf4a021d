"""Find the modules of an unmodified model: heads and FFNs of encoders, filter groups of convolutional nets.

Transformer encoder layers are recognised by where their projections lie, one line per family of models;
convolutions by their type. What is recognised becomes modules, the rest is the remainder, and the
partition's table says by name which is which.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from mat.errors import InputError
from mat.partition import Attention, Module, Partition, Slice


@dataclass(frozen=True)
class EncoderLayout:
    """Paths inside one encoder layer; ``core`` holds the attribute ``heads`` and calls the attention kernel."""

    core: str
    query: str
    key: str
    value: str
    output: str
    heads: str
    up: str
    down: str


LAYOUTS = (
    EncoderLayout(  # BERT, RoBERTa, ELECTRA
        core="attention.self",
        query="attention.self.query",
        key="attention.self.key",
        value="attention.self.value",
        output="attention.output.dense",
        heads="num_attention_heads",
        up="intermediate.dense",
        down="output.dense",
    ),
    EncoderLayout(  # DistilBERT
        core="attention",
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        output="attention.out_lin",
        heads="n_heads",
        up="ffn.lin1",
        down="ffn.lin2",
    ),
)


def partition_model(
    model: nn.Module, *, heads: bool = True, ffn_groups: int = 1, filter_groups: int = 4
) -> Partition:
    """The partition of ``model`` into attention heads, feed-forward blocks and filter groups.

    ``heads``: attention heads are modules, each owning its rows of W_Q, W_K, W_V and its columns of W_O
    (ambiguity A4). ``ffn_groups``: number of equal neuron groups per feed-forward block; 0 leaves them to
    the remainder (A5). ``filter_groups``: number of equal groups of output channels per convolution, each
    with its bias and the entries of the batch norm behind it; 0 leaves convolutions to the remainder.

    Raises InputError when nothing is recognised or a width does not divide into the groups.
    """
    modules: list[Module] = []
    attentions: list[Attention] = []
    for depth, (path, layer, layout) in enumerate(_encoder_layers(model)):
        if heads:
            found = list(_heads(path, layer, layout, depth))
            modules += found
            attentions.append(Attention(f"{path}.{layout.core}", tuple(m.name for m in found)))
        if ffn_groups:
            modules += _ffn(path, layer, layout, depth, ffn_groups)
    if filter_groups:
        for depth, (conv_path, conv, norm_path) in enumerate(_convolutions(model)):
            modules += _filters(conv_path, conv, norm_path, depth, filter_groups)
    return Partition.of(model, modules, attentions)


def _encoder_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module, EncoderLayout]]:
    for path, candidate in model.named_modules():
        for layout in LAYOUTS:
            places = (layout.query, layout.key, layout.value, layout.output, layout.up, layout.down)
            if all(isinstance(_get(candidate, place), nn.Linear) for place in places):
                yield path, candidate, layout


def _get(module: nn.Module, path: str) -> nn.Module | None:
    for name in path.split("."):
        module = getattr(module, name, None)
        if module is None:
            return None
    return module


def _heads(path: str, layer: nn.Module, layout: EncoderLayout, depth: int) -> Iterator[Module]:
    count = getattr(_get(layer, layout.core), layout.heads)
    width = _get(layer, layout.query).out_features // count
    for head in range(count):
        start, stop = head * width, (head + 1) * width
        slices = []
        for place in (layout.query, layout.key, layout.value):
            slices += _rows(layer, path, place, start, stop)
        slices.append(Slice(f"{path}.{layout.output}.weight", 1, start, stop))
        yield Module(f"layer{depth}.head{head}", "head", depth, tuple(slices))


def _ffn(path: str, layer: nn.Module, layout: EncoderLayout, depth: int, groups: int) -> Iterator[Module]:
    for group, (start, stop) in enumerate(_split(_get(layer, layout.up).out_features, groups, path)):
        slices = [
            *_rows(layer, path, layout.up, start, stop),
            Slice(f"{path}.{layout.down}.weight", 1, start, stop),
        ]
        name = f"layer{depth}.ffn" if groups == 1 else f"layer{depth}.ffn{group}"
        yield Module(name, "ffn", depth, tuple(slices))


def _rows(layer: nn.Module, path: str, place: str, start: int, stop: int) -> list[Slice]:
    names = ["weight"] + (["bias"] if _get(layer, place).bias is not None else [])
    return [Slice(f"{path}.{place}.{name}", 0, start, stop) for name in names]


def _convolutions(model: nn.Module) -> Iterator[tuple[str, nn.Conv2d, str | None]]:
    """Every convolution, with the path of the batch norm that directly follows it, if one does."""
    leaves = [(path, m) for path, m in model.named_modules() if not list(m.children())]
    for (path, module), (next_path, following) in zip(leaves, [*leaves[1:], ("", None)], strict=True):
        if isinstance(module, nn.Conv2d):
            normed = isinstance(following, nn.BatchNorm2d) and following.num_features == module.out_channels
            yield path, module, next_path if normed and following.affine else None


def _filters(path: str, conv: nn.Conv2d, norm: str | None, depth: int, groups: int) -> Iterator[Module]:
    owners = [f"{path}.weight"] + ([f"{path}.bias"] if conv.bias is not None else [])
    owners += [f"{norm}.weight", f"{norm}.bias"] if norm else []
    for group, (start, stop) in enumerate(_split(conv.out_channels, groups, path)):
        slices = tuple(Slice(name, 0, start, stop) for name in owners)
        yield Module(f"conv{depth}.filters{group}", "filters", depth, slices)


def _split(width: int, groups: int, path: str) -> list[tuple[int, int]]:
    if groups < 1 or width % groups:
        raise InputError(f"{path}: {width} units do not divide into {groups} equal groups; choose a divisor")
    step = width // groups
    return [(start, start + step) for start in range(0, width, step)]
