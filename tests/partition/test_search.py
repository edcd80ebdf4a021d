"""Heads and neurons are found by gradients in models whose names say nothing, and what is neither is not."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
import transformers as hf
from torch import nn

from mat.backward.sparse import SparseBackward
from mat.partition.discovery import partition_model
from mat.partition.effect.search import by_effect
from tests.partition.families import IDS, TEXT, slices
from tests.zoo import quietly

D, H, W = 12, 2, 6  # channels, heads, their width
X = torch.linspace(-2, 2, 96, dtype=torch.float64).reshape(2, 4, D).sin()
WAYS = {  # a fused map's rows of head h, run by run
    "q|k|v": lambda h: [(W * h + o, W * h + o + W) for o in (0, D, 2 * D)],
    "by head": lambda h: [(3 * W * h, 3 * W * h + 3 * W)],
    "v first": lambda h: [(W * h, W * h + W), (D + 3 * h, D + 3 * h + 3), (D + 6 + 3 * h, D + 6 + 3 * h + 3)],
}


class Blank(nn.Module):
    """One layer in maps a to g, all side by side: fused inputs of an attention, ``b`` its output; a gate beside."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.a = nn.Linear(D, 2 * D if way == "v first" else 3 * D)
        self.b, self.c, self.d, self.e, self.f = (nn.Linear(D, D) for _ in range(5))
        self.g = nn.LayerNorm(D)

    def forward(self, x):
        n, length, _ = x.shape
        y = self.a(self.g(x))
        if self.way == "by head":
            q, k, v = y.view(n, length, H, 3, W).permute(3, 0, 2, 1, 4)
        else:
            parts = y.split([D, 6, 6] if self.way == "v first" else D, -1)
            q, k, v = (p.view(n, length, H, -1).transpose(1, 2) for p in parts)
        if self.way == "v first":
            q, k, v = k, v, q
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, length, D)
        x = x + self.b(y) * torch.sigmoid(self.f(x))
        return x + self.e(torch.relu(self.c(x)) * self.d(x))


class Model(nn.Module):
    def __init__(self, way: str) -> None:
        super().__init__()
        self.layers, self.norm, self.out = nn.ModuleList(Blank(way) for _ in range(2)), nn.LayerNorm(D), nn.Linear(D, 3)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.out(self.norm(x))


@pytest.mark.parametrize("way", WAYS)
def test_flat_layers_of_maps_without_names(way):
    torch.manual_seed(0)
    model = Model(way).double()
    partition = quietly(model, example={"x": X})
    assert partition.names == tuple(f"layer{i}.{part}" for i in (0, 1) for part in ("head0", "head1", "ffn"))
    for i in (0, 1):
        at = f"layers.{i}"
        for h in (0, 1):
            rows = {(f"{at}.a.{part}", 0, *run) for run in WAYS[way](h) for part in ("weight", "bias")}
            assert slices(partition, f"layer{i}.head{h}") == {*rows, (f"{at}.b.weight", 1, W * h, W * h + W)}
        ups = {(f"{at}.{name}.{part}", 0, 0, D) for name in "cd" for part in ("weight", "bias")}
        assert slices(partition, f"layer{i}.ffn") == {*ups, (f"{at}.e.weight", 1, 0, D)}
    wanted = model(X)
    sparse = SparseBackward(model, partition, "detach")
    sparse.set_active({"layer0.head1", "layer1.ffn"})
    assert torch.equal(model(X), wanted)
    sparse.close()


class Chain(nn.Sequential):
    """Maps whose rows and columns feed each other one by one, the middle one both ways."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(D, D), nn.Tanh(), nn.Linear(D, D), nn.Tanh(), nn.Linear(D, D))


class Filtered(nn.Module):
    """Positions meet, but every channel by itself: there are no heads in it, and no neurons."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(D, D), nn.Conv1d(D, D, 3, padding=1, groups=D), nn.Linear(D, D)

    def forward(self, input):
        return self.c(self.b(self.a(input).mT).mT)


class Streamed(nn.Module):
    """Without a norm a stream's channels stay apart from map to map, which makes them no neurons."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Linear(D, D) for _ in range(4))

    def forward(self, input):
        x = self.a(input)
        return self.d(x + self.c(self.b(x).softmax(-1)))


@pytest.mark.parametrize("build", [Chain, Filtered, Streamed])
def test_what_may_be_cut_otherwise_or_is_neither_is_not_found(build):
    torch.manual_seed(0)
    assert by_effect(build().double(), (), {"input": X}) == []


def test_an_attention_that_shares_a_map_with_another_layer_is_not_found_in_part():
    torch.manual_seed(0)
    model = Model("q|k|v").double()
    found = by_effect(model, {"layers.0.a.weight"}, {"x": X})
    assert sorted(type(part).__name__ for part in found) == ["FeedForward", "FeedForward", "Heads"]


def test_neurons_that_no_sample_wakes_are_still_told_from_heads():
    torch.manual_seed(0)
    model = Model("q|k|v").double()
    model.layers[0].c.bias.data[:5] = -1e3
    assert slices(quietly(model, example={"x": X}), "layer0.ffn") >= {("layers.0.e.weight", 1, 0, D)}


def test_projections_that_are_fused_head_by_head():
    sizes = {"vocab_size": 20, "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
    torch.manual_seed(0)
    model = hf.GPTNeoXModel(hf.GPTNeoXConfig(intermediate_size=12, **sizes)).double()
    partition = quietly(model, example=TEXT)
    at = "layers.0.attention"
    assert slices(partition, "layer0.head1") == {
        *((f"{at}.query_key_value.{part}", 0, 12, 24) for part in ("weight", "bias")),
        (f"{at}.dense.weight", 1, 4, 8),
    }
    assert partition.names == ("layer0.head0", "layer0.head1", "layer0.ffn")


def test_experts_one_after_the_other_in_a_matrix_are_confirmed():
    experts = {"ffn_hidden_size": 6, "moe_num_experts": 3, "moe_top_k": 2, "hidden_size": 16}
    attention = {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8.0}
    config = hf.DbrxConfig(
        d_model=16, n_heads=4, n_layers=1, max_seq_len=8, vocab_size=20, attn_config=attention, ffn_config=experts
    )
    torch.manual_seed(0)
    model = hf.DbrxModel(config).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0.1, 0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        partition = partition_model(model, example={"input_ids": IDS})
    at = "blocks.0.ffn.experts.mlp"
    assert slices(partition, "layer0.expert1") == {(f"{at}.{name}", 0, 6, 12) for name in ("w1", "v1", "w2")}
    wqkv = "blocks.0.norm_attn_norm.attn.Wqkv.weight"
    runs = {(wqkv, 0, 8, 16), (wqkv, 0, 20, 24), (wqkv, 0, 28, 32)}
    assert slices(partition, "layer0.head1") == {*runs, ("blocks.0.norm_attn_norm.attn.out_proj.weight", 1, 8, 16)}
