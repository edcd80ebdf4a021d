"""Cuts are confirmed by gradients: layouts of attention and feed-forward with names that say nothing, or lie."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
import transformers as hf
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mat.errors import InputError
from mat.kernels.ntk import modular_ntk
from mat.partition.discovery import partition_model
from mat.partition.effect.codes import CONFIRMED, UNSEEN
from mat.partition.effect.verdicts import confirm, look
from mat.partition.partition import Partition
from tests.partition.families import FAMILIES, LLAMA, TEXT, built, slices
from tests.zoo import quietly

LAYOUTS = ("separate", "q|k|v", "folded", "by head", "strided", "differential")  # the last three against the names
NAMES = ("q_proj", "k_proj", "v_proj", "o_proj")


class Attend(nn.Module):
    """``layout``: how rows of queries, keys and values lie; ``groups`` key/value heads; "folded": in the batch."""

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

    def __init__(self, d: int, f: int, names: tuple[str, ...]) -> None:
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


class Model(nn.Module):
    """One layer between a map into it and its outputs."""

    def __init__(self, attend: Attend, feed: Feed) -> None:
        super().__init__()
        self.start = nn.Linear(3, attend.num_heads * attend.width)
        self.layers = nn.ModuleList([Layer(attend, feed)])

    def forward(self, x):
        return self.layers[0](self.start(x)).flatten(1)


@st.composite
def layers(draw) -> nn.Module:
    layout = draw(st.sampled_from(LAYOUTS))
    heads, width = draw(st.sampled_from([2, 4])), draw(st.sampled_from([2, 3]))
    groups = (
        draw(st.sampled_from([g for g in (1, 2, 4) if heads % g == 0])) if layout in ("separate", "folded") else heads
    )
    names = NAMES
    if groups == heads:
        names = tuple(draw(st.permutations(names)))
    gated, f = draw(st.booleans()), draw(st.sampled_from([1, 2])) * heads * width
    ffn = tuple(draw(st.permutations(("fc1", "fc2", "gate")[: 3 if gated else 2])))
    torch.manual_seed(draw(st.integers(0, 99)))
    attend = Attend(layout, heads, groups, width, names)
    feed = Feed(heads * width, f, ffn)
    return Model(attend, feed).double()


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
        kept.get_submodule(".".join(sink.split(".")[:3]))(kept.start(x)).square().sum().backward()
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


X = torch.linspace(-2, 2, 36, dtype=torch.float64).reshape(3, 4, 3).sin()


@settings(max_examples=60)
@given(layers())
def test_a_cut_by_effect_is_right_or_left_to_the_remainder_by_name(model):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            partition = partition_model(model, example={"x": X})
        except InputError as error:
            assert "none was found" in str(error)
            return
    owned_rows_and_columns(model, partition, X)
    text = " ".join(str(warning.message) for warning in caught)
    for part, kind in (("attend", "head"), ("feed", "ffn")):
        assert part in text or any(module.kind == kind for module in partition.modules), (part, text)


@settings(max_examples=30)
@given(layers())
def test_the_first_kernels_refuse_a_wrong_cut_and_take_a_right_one(model):
    partition = quietly(model)
    try:
        modular_ntk(model, partition, {"x": X}, "sum_of_logits", check=0)
    except InputError as error:
        assert "example=inputs" in str(error)
        assert partition.modules != modules_by_effect(model)
    else:
        owned_rows_and_columns(model, partition, X)
        assert {*partition.modules} <= {*modules_by_effect(model)}  # gradients may find more


def modules_by_effect(model: nn.Module) -> tuple | None:
    try:
        return quietly(model, example={"x": X}).modules
    except InputError:
        return None


@pytest.mark.parametrize(("layout", "right"), [(layout, layout not in LAYOUTS[-3:]) for layout in LAYOUTS])
def test_layouts_that_names_cut_wrongly_are_known(layout, right):
    torch.manual_seed(0)
    model = Model(Attend(layout, 4, 4, 2, NAMES), Feed(8, 8, ("fc1", "fc2"))).double()
    found = modules_by_effect(model)
    heads = [module for module in found if module.kind == "head"]
    assert (found == quietly(model).modules) == right
    assert len(heads) == (2 if layout in ("strided", "differential") else 4)
    by_one = [{(s.dim, s.start, s.stop) for s in module.slices if s.parameter.endswith("weight")} for module in heads]
    if layout == "by head":
        assert by_one == [{(0, 6 * h, 6 * h + 6), (1, 2 * h, 2 * h + 2)} for h in range(4)]
    if layout == "differential":
        assert by_one == [{(dim, s, s + 2) for dim in (0, 1) for s in (2 * h, 2 * h + 4)} for h in range(2)]


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_confirm_every_family(name):
    family = FAMILIES[name]
    model = built(family)
    partition = quietly(model, ffn_groups=family.groups)
    verdicts, _ = look(model, partition.premises, family.inputs)
    assert set(verdicts.values()) == {CONFIRMED}
    by_effect = quietly(model, ffn_groups=family.groups, example=family.inputs)
    assert (by_effect.modules, by_effect.attentions, by_effect.premises) == (
        partition.modules,
        partition.attentions,
        (),
    )


def test_a_model_is_left_as_it_was():
    class Counting(Model):
        def forward(self, x):
            self.calls += 1
            return super().forward(x) + torch.rand(())

    model = Counting(Attend("by head", 2, 2, 2, NAMES), Feed(4, 8, ("fc1", "fc2"))).double().train()
    model.register_buffer("calls", torch.zeros(()))
    model.start.weight.requires_grad_(False)
    model.layers[0].feed.eval()
    attributes, state = {k: dict(vars(m)) for k, m in model.named_modules()}, copy.deepcopy(model.state_dict())
    flags, generator = [p.requires_grad for p in model.parameters()], torch.get_rng_state()
    quietly(model, example={"x": X})
    assert [p.requires_grad for p in model.parameters()] == flags
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), generator)
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name
    for name, module in model.named_modules():
        assert vars(module) == attributes[name], name
        assert not module._forward_hooks and not module._forward_pre_hooks


def test_the_number_of_passes_does_not_grow_with_that_of_heads(monkeypatch):
    passes = []
    grad = torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: passes.append(1) or grad(*a, **k))
    counts = {}
    for heads in (8, 64):
        model = Model(Attend("separate", heads, heads, 1, NAMES), Feed(heads, 64, ("fc1", "fc2"))).double()
        passes.clear()
        confirm(model, quietly(model), {"x": X})
        counts[heads] = len(passes)
    assert counts == {8: 3, 64: 3}  # all 64 neurons take two digits to the base of 8 factors


def test_what_no_gradient_reaches_is_named():
    class Hidden(Feed):
        def forward(self, x):
            return torch.einsum(
                "...n,dn->...d", torch.einsum("...d,nd->...n", x, self.fc1.weight).tanh(), self.fc2.weight
            )

    model = Model(Attend("separate", 2, 2, 2, NAMES), Hidden(4, 8, ("fc1", "fc2"))).double()
    partition = partition_model(model)
    assert sorted(look(model, partition.premises, {"x": X})[0].values()) == sorted((CONFIRMED, UNSEEN))
    with pytest.warns(UserWarning, match=r"names and shapes are believed: layers\.0\.feed"):
        confirm(model, partition, {"x": X})
    with pytest.warns(UserWarning, match=r"names and shapes are believed: layers\.0\.feed"):
        assert partition_model(model, example={"x": X}).modules == partition.modules


@pytest.mark.parametrize("names", [("fc2", "fc1"), ("gate", "fc2", "fc1"), ("fc2", "gate", "fc1")])
def test_a_feed_forward_block_whose_names_lie_is_turned(names):
    """As many neurons as channels: the map called fc2, which names take for the way out, is a way in."""
    torch.manual_seed(0)
    feed = Feed(4, 4, names)
    feed._modules = {name: feed._modules[name] for name in sorted(names, key="fc2".__eq__)}  # the last is taken
    model = Model(Attend("separate", 2, 2, 2, NAMES), feed).double()
    at = "layers.0.feed"
    lied = quietly(model)
    assert (f"{at}.fc2.weight", 1, 0, 4) in slices(lied, "layer0.ffn")
    right = quietly(model, example={"x": X})
    ups = {(f"{at}.{name}.{part}", 0, 0, 4) for name in names[:-1] for part in ("weight", "bias")}
    assert slices(right, "layer0.ffn") == {*ups, (f"{at}.fc1.weight", 1, 0, 4)}
    owned_rows_and_columns(model, quietly(model, ffn_groups=2, example={"x": X}), X)
    assert len(quietly(model, ffn_groups=2, example={"x": X}).names) == 4


def test_differential_attention_has_half_the_heads():
    config = hf.DiffLlamaConfig(**{**LLAMA, "num_key_value_heads": 4, "num_hidden_layers": 1})
    torch.manual_seed(0)
    model = hf.DiffLlamaForCausalLM(config).double()
    partition = quietly(model, example=TEXT)
    at = "model.layers.0.self_attn"
    for head in range(2):
        rows = {(f"{at}.{n}_proj.weight", 0, s, s + 4) for n in "qkv" for s in (4 * head, 4 * head + 8)}
        assert slices(partition, f"layer0.head{head}") == {*rows, (f"{at}.o_proj.weight", 1, 8 * head, 8 * head + 8)}
    assert partition.attentions[0].heads == ()
    with pytest.raises(InputError, match=r"model\.layers\.0\.self_attn"):
        modular_ntk(model, quietly(model), TEXT)


def test_an_auxiliary_head_is_named_and_left_to_the_remainder():
    class Auxiliary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.auxiliary = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
            self.head = nn.Linear(8, 2)

        def forward(self, x):
            x = self.body(x)
            out = self.head(x.mean((2, 3)))
            return (out, self.auxiliary(x)) if self.training else out

    model, x = Auxiliary(), {"x": torch.randn(2, 3, 8, 8)}
    with pytest.warns(UserWarning, match=r"do not depend on these modules.*: conv1.filters0"):
        assert {m.layer for m in partition_model(model, example=x).modules} == {0}
    with pytest.warns(UserWarning, match=r"do not depend on these modules.*: conv1.filters0"):
        modular_ntk(model, partition_model(model), x)
