"""Cuts are confirmed by gradients: layouts of attention and feed-forward with names that say nothing, or lie."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
import torchvision
import transformers as hf
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mat.errors import InputError
from mat.kernels.ntk import modular_ntk
from mat.partition.discovery import partition_model
from mat.partition.effect import CONFIRMED, CONTRADICTED, UNSEEN, Trace, confirm
from mat.partition.partition import Partition
from mat.partition.unrecognised import unrecognised
from tests.partition.families import FAMILIES, IDS, TEXT, built
from tests.zoo import quietly

LAYOUTS = ("separate", "q|k|v", "by head", "folded", "strided", "differential")


class Attend(nn.Module):
    """``layout``: how rows of queries, keys and values lie; ``groups`` key/value heads; "folded": heads in the batch."""

    def __init__(self, layout: str, heads: int, groups: int, width: int, names: tuple[str, ...]) -> None:
        super().__init__()
        self.layout, self.num_heads, self.groups, self.width, self.names = layout, heads, groups, width, names
        d = heads * width
        if layout in ("q|k|v", "by head"):
            self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        else:
            for name, rows in zip(names, (d, groups * width, groups * width, d), strict=True):
                setattr(self, name, nn.Linear(d, rows))

    def forward(self, x):
        n, length, _ = x.shape
        if self.layout == "q|k|v":
            q, k, v = self.qkv(x).view(n, length, 3, self.num_heads, self.width).permute(2, 0, 3, 1, 4)
            out = self.proj
        elif self.layout == "by head":
            q, k, v = self.qkv(x).view(n, length, self.num_heads, 3, self.width).permute(3, 0, 2, 1, 4)
            out = self.proj
        else:
            *maps, out = (getattr(self, name) for name in self.names)
            q, k, v = (self.heads(m(x)) for m in maps)
        y = F.scaled_dot_product_attention(q, k, v)
        if self.layout == "folded":
            y = y.view(n, self.num_heads, length, self.width)
        if self.layout == "strided":
            return out(y.permute(0, 2, 3, 1).reshape(n, length, -1))
        if self.layout == "differential":
            one, other = y.chunk(2, 1)
            y = torch.cat((one - other / 2, one + other / 3), 1)
        return out(y.transpose(1, 2).reshape(n, length, -1))

    def heads(self, x):
        n, length, d = x.shape
        if self.layout == "strided":
            return x.view(n, length, self.width, d // self.width).permute(0, 3, 1, 2)
        x = x.view(n, length, -1, self.width).transpose(1, 2).repeat_interleave(self.num_heads * self.width // d, 1)
        return x.reshape(-1, length, self.width) if self.layout == "folded" else x


class Feed(nn.Module):
    """Names in the order gate or none, up, down."""

    def __init__(self, d: int, f: int, names: tuple[str, ...], square: bool) -> None:
        super().__init__()
        self.names = names
        for name, shape in sorted(zip(names, [(d, f)] * (len(names) - 1) + [(f, d)], strict=True)):
            setattr(self, name, nn.Linear(*shape))

    def forward(self, x):
        *ups, down = (getattr(self, name) for name in self.names)
        y = torch.tanh(ups[0](x))
        return down(y * ups[1](x) if len(ups) > 1 else y)


class Layer(nn.Module):
    def __init__(self, attend: Attend, feed: Feed) -> None:
        super().__init__()
        self.attend, self.feed = attend, feed

    def forward(self, x):
        x = x + self.attend(x)
        return x + self.feed(x)


@st.composite
def layers(draw) -> tuple[nn.Module, int]:
    layout = draw(st.sampled_from(LAYOUTS))
    heads, width = draw(st.sampled_from([2, 4])), draw(st.sampled_from([2, 3]))
    groups = draw(st.sampled_from([g for g in (1, 2, 4) if heads % g == 0])) if layout in ("separate", "folded") else heads
    names = ("q_proj", "k_proj", "v_proj", "o_proj")
    if groups == heads:
        names = tuple(draw(st.permutations(names)))
    gated, f = draw(st.booleans()), draw(st.sampled_from([1, 2])) * heads * width
    ffn = tuple(draw(st.permutations(("fc1", "fc2", "gate")[: 3 if gated else 2])))
    torch.manual_seed(draw(st.integers(0, 99)))
    attend = Attend(layout, heads, groups, width, names)
    model = nn.Sequential(nn.Linear(3, heads * width), Layer(attend, Feed(heads * width, f, ffn, False)))

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = model

        def forward(self, x):
            return self.body(x).flatten(1)

    return Model().double(), heads


def owned_rows_and_columns(model: nn.Module, partition: Partition, x: torch.Tensor) -> None:
    """Every module alone against the others: with the other columns at zero, gradients are on its own rows only."""
    for module in partition.modules:
        kept = copy.deepcopy(model)
        sink = next(p for p in module.slices if p.dim == 1).parameter
        columns = [p for p in module.slices if p.parameter == sink and p.dim == 1]
        mask = torch.zeros_like(kept.get_parameter(sink))
        for piece in columns:
            piece.of(mask).fill_(1)
        with torch.no_grad():
            kept.get_parameter(sink).mul_(mask)
        part = kept.body[1].attend if ".attend." in sink else kept.body[1].feed
        part(kept.body[0](x)).square().sum().backward()
        sources = {p.parameter for m in partition.modules for p in m.slices if p.dim == 0 and m.kind == module.kind}
        for name in sources:
            own = torch.zeros_like(kept.get_parameter(name), dtype=torch.bool)
            for piece in module.slices:
                if piece.parameter == name:
                    piece.of(own).fill_(True)
            gradient = kept.get_parameter(name).grad
            assert gradient is not None
            others = gradient[~own].abs()
            assert not others.numel() or others.max() <= 1e-12 * gradient.abs().max(), (module.name, name)
            if name.endswith("weight"):
                assert gradient[own].abs().max() > 0, (module.name, name)


@settings(max_examples=60)
@given(layers())
def test_a_cut_by_effect_is_right_or_left_to_the_remainder_by_name(drawn):
    model, _ = drawn
    x = torch.randn(3, 4, 3, dtype=torch.float64)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            partition = partition_model(model, example={"x": x})
        except InputError as error:
            assert "at least one module" in str(error)
            return
    owned_rows_and_columns(model, partition, x)
    text = " ".join(str(warning.message) for warning in said)
    for part, kind in (("attend", "head"), ("feed", "ffn")):
        assert part in text or any(module.kind == kind for module in partition.modules), (part, text)
