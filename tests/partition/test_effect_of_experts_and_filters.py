"""Experts and filter groups are confirmed by gradients: layouts of tensors, and names and shapes that lie."""

from __future__ import annotations

import itertools
import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mat.errors import InputError
from mat.kernels.ntk import modular_ntk
from mat.partition.discovery import partition_model
from mat.partition.effect.codes import CONFIRMED, CONTRADICTED, UNSEEN
from mat.partition.effect.experts import draws
from mat.partition.effect.verdicts import confirm, look
from tests.partition.families import slices
from tests.partition.test_effect import NAMES, Attend, X
from tests.zoo import quietly

D, H = 4, 6


class One(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(D, H), nn.Linear(H, D)

    def forward(self, x):
        return self.down(torch.tanh(self.up(x)))


class Stacked(nn.Module):
    """All experts in two tensors, (E, d, h) and (E, h, d) or the other way round; ``leak``: of the one before."""

    def __init__(self, count: int, turned: bool, way: str, leak: float) -> None:
        super().__init__()
        up, down = torch.randn(count, D, H), torch.randn(count, H, D)
        self.a, self.b = (nn.Parameter(t.mT.contiguous() if turned else t) for t in (up, down))
        self.c = nn.Parameter(torch.randn(count, H))
        self.turned, self.way, self.leak = turned, way, leak

    def forward(self, x, shares):
        up, down = (p.mT if self.turned else p for p in (self.a, self.b))
        down = down + self.leak * down.roll(1, 0)
        if self.way == "loop":
            each = [torch.tanh(x @ up[e] + self.c[e]) @ down[e] for e in range(len(up))]
            return sum(y * shares[..., e, None] for e, y in enumerate(each))
        if self.way == "einsum":
            hidden = torch.tanh(torch.einsum("bsd,edh->bseh", x, up) + self.c)
            return torch.einsum("bseh,ehd,bse->bsd", hidden, down, shares)
        flat = x.reshape(1, -1, D).expand(len(up), -1, -1)
        y = torch.bmm(torch.tanh(torch.bmm(flat, up) + self.c[:, None]), down)
        return (y * shares.reshape(-1, len(up)).T[..., None]).sum(0).view_as(x)


class Mixture(nn.Module):
    """``way``: of ``Stacked``, or how experts of their own are called: one by one, inline, or stacked on the way."""

    def __init__(self, count: int, way: str, turned: bool = False, top: int = 2, leak: float = 0.0) -> None:
        super().__init__()
        self.gate, self.top, self.way, self.leak = nn.Linear(D, count, bias=False), min(top, count), way, leak
        if way in ("loop", "einsum", "bmm"):
            self.experts = Stacked(count, turned, way, leak)
        else:
            self.experts = nn.ModuleList(One() for _ in range(count))

    def forward(self, x):
        shares = self.gate(x).softmax(-1)
        shares = shares * (shares >= shares.topk(self.top).values[..., -1:])
        if isinstance(self.experts, Stacked):
            return self.experts(x, shares)
        if self.way == "called":
            each = [expert(x) for expert in self.experts]
        elif self.way == "inline":
            each = [e.down(torch.tanh(e.up(x))) for e in self.experts]
        else:
            ups, downs = (torch.stack([getattr(e, n).weight for e in self.experts]) for n in ("up", "down"))
            downs = downs + self.leak * downs.roll(1, 0)
            each = torch.einsum("bseh,edh->ebsd", torch.tanh(torch.einsum("bsd,ehd->bseh", x, ups)), downs)
        return sum(y * shares[..., e, None] for e, y in enumerate(each))


class Model(nn.Module):
    def __init__(self, mixture: nn.Module) -> None:
        super().__init__()
        self.start, self.layers = nn.Linear(3, D), nn.ModuleList([nn.Module()])
        self.layers[0].attend, self.layers[0].moe = Attend("separate", 2, 2, 2, NAMES), mixture

    def forward(self, x):
        x = self.start(x)
        x = x + self.layers[0].attend(x)
        return F.layer_norm(x + self.layers[0].moe(x), (D,)).flatten(1)


WAYS = ("loop", "einsum", "bmm", "called", "inline", "stacked")


@settings(max_examples=40)
@given(
    st.sampled_from(WAYS),
    st.integers(2, 5),
    st.booleans(),
    st.integers(1, 3),
    st.sampled_from([0.0, 0.0, 0.5]),
    st.integers(0, 99),
)
def test_experts_are_cut_where_gradients_keep_them_apart_and_named_where_not(way, count, turned, top, leak, seed):
    torch.manual_seed(seed)
    model = Model(Mixture(count, way, turned, top, leak)).double()
    leaks = leak and way in ("loop", "einsum", "bmm", "stacked")
    example = {"x": X}
    by_names = quietly(model)
    assert sum(m.kind == "expert" for m in by_names.modules) == count
    if not leaks:
        confirm(model, by_names, example)
        assert quietly(model, example=example).modules == by_names.modules
        return
    with pytest.raises(InputError, match=r"contradict in layers\.0\.moe\.experts"):
        modular_ntk(model, by_names, example, "sum_of_logits", check=0)
    with pytest.warns(UserWarning, match=r"contradict the names and shapes of layers\.0\.moe\.experts, which stay"):
        partition = partition_model(model, example=example)
    assert {m.kind for m in partition.modules} == {"head"}


def test_two_experts_are_never_changed_in_the_same_passes_only():
    for count in (2, 3, 8, 70, 71):
        found = draws(count)
        for a, b in itertools.permutations(range(count), 2):
            assert any(a in changed and b not in changed for changed in found), (count, a, b)
    assert [len(draws(n)) for n in (2, 10, 70, 252)] == [2, 5, 8, 10]


def test_experts_that_cannot_be_called_by_themselves_are_named():
    class Stubborn(Stacked):
        def forward(self, x, shares):
            if not isinstance(self.a, nn.Parameter):
                raise TypeError("these are not mine")
            return super().forward(x, shares)

    mixture = Mixture(3, "loop")
    mixture.experts = Stubborn(3, False, "loop", 0.0)
    model = Model(mixture).double()
    verdicts, _ = look(model, [c for c in quietly(model).premises if c.where.endswith("experts")], {"x": X})
    assert list(verdicts.values()) == [UNSEEN]
    with pytest.warns(UserWarning, match=r"names and shapes are believed: layers\.0\.moe\.experts"):
        confirm(model, quietly(model), {"x": X})


class Turned(nn.Conv2d):
    """Its weight is (in, out), whatever its class is."""

    def forward(self, x):
        return F.conv2d(x, self.weight.transpose(0, 1), self.bias, self.stride, self.padding)


class Net(nn.Module):
    """``order``: of the channels between the convolution and its norm, neighbours in a Sequential."""

    def __init__(self, conv: nn.Module, order: list[int]) -> None:
        super().__init__()
        self.start = nn.Conv2d(3, 8, 1)
        self.block, self.order = nn.Sequential(conv, nn.BatchNorm2d(8)), order
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        x = torch.relu_(self.start(x))
        x = self.block[1](self.block[0](x)[:, self.order])
        return self.head(torch.relu_(x).mean((2, 3)))


IMAGES = {"x": torch.linspace(-9, 9, 2 * 3 * 5 * 5, dtype=torch.float64).reshape(2, 3, 5, 5).sin()}


@settings(max_examples=25)
@given(st.permutations(range(8)), st.sampled_from([2, 4, 8]), st.booleans())
def test_a_norm_of_other_channels_is_left_to_the_remainder_by_name(order, groups, half):
    torch.manual_seed(0)
    model = Net(nn.Conv2d(8, 8, 3, padding=1), list(order)).to(torch.float32 if half else torch.float64)
    example = {"x": IMAGES["x"].to(model.head.weight.dtype)}
    width = 8 // groups
    right = all(channel // width == i // width for i, channel in enumerate(order))
    by_names = quietly(model, filter_groups=groups)
    assert {"block.1.weight"} <= {s.parameter for m in by_names.modules for s in m.slices}
    verdict = look(model, [c for c in by_names.premises if c.where == "block.0"], example)[0]
    assert set(verdict.values()) == {CONFIRMED if right else CONTRADICTED}
    if right:
        assert quietly(model, filter_groups=groups, example=example).modules == by_names.modules
        return
    with pytest.warns(UserWarning, match=r"contradict the names and shapes of block\.1, which stay"):
        partition = partition_model(model, filter_groups=groups, example=example)
    own = {(f"block.0.{part}", 0, width, 2 * width) for part in ("weight", "bias")}
    assert slices(partition, "conv1.filters1") == own
    assert {"block.1.weight", "block.1.bias"} <= {s.parameter for s in partition.remainder}


def test_a_convolution_whose_rows_are_its_inputs_is_left_to_the_remainder_by_name():
    torch.manual_seed(0)
    model = Net(Turned(8, 8, 3, padding=1), list(range(8))).double()
    with pytest.warns(UserWarning, match=r"contradict the names and shapes of block\.1, block\.0, which stay"):
        partition = partition_model(model, example=IMAGES)
    assert {m.layer for m in partition.modules} == {0}
    with pytest.raises(InputError, match=r"contradict in block\.0"):
        modular_ntk(model, quietly(model), IMAGES, "sum_of_logits")


def test_weights_that_two_convolutions_share_stay_in_the_remainder_with_a_warning():
    layers = [nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(100, 2)).double()
    model[3].weight = model[1].weight
    for example in (None, {"input": IMAGES["x"]}):
        with pytest.warns(UserWarning, match=re.escape("share stay in the remainder: 1.weight, 3.weight")):
            partition = partition_model(model, example=example)
        assert {m.layer for m in partition.modules} == {0}
        assert "1.weight" in {s.parameter for s in partition.remainder}


def test_the_number_of_passes_for_filters_does_not_grow_with_that_of_convolutions(monkeypatch):
    passes = []
    run = torch.autograd._engine_run_backward
    monkeypatch.setattr(torch.autograd, "_engine_run_backward", lambda *a, **k: passes.append(1) or run(*a, **k))
    for depth in (1, 9):
        model = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(depth)), nn.Conv2d(3, 8, 1)).double()
        passes.clear()
        confirm(model, quietly(model, filter_groups=1), {"input": IMAGES["x"]})
        assert len(passes) == 1
        model = nn.Sequential(*(nn.Conv2d(8, 8, 1) for _ in range(depth)), nn.Flatten(), nn.Linear(200, 2)).double()
        passes.clear()
        confirm(model, quietly(model, filter_groups=8), {"input": IMAGES["x"].repeat(1, 3, 1, 1)[:, :8]})
        assert len(passes) == 2


@pytest.mark.parametrize("example", [None, IMAGES])
def test_filters_that_do_not_divide_are_refused_alike_with_an_example(example):
    model = nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 8, 1))
    model.forward = lambda x: model[1](model[0](x)).mean((2, 3))
    with pytest.raises(InputError, match="0: 6 units do not divide into 4 equal groups"):
        partition_model(model.double(), example=example)
