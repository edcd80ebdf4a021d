"""Layers whose product is not the plain one: convolutions in groups, attention of several inputs."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mat.backward.sparse import SparseBackward
from mat.partition.partition import Module, Partition, Slice
from tests.zoo import quietly

CONVOLUTIONS = {
    "groups": {"groups": 2, "padding": 1},
    "depthwise": {"groups": 4},
    "wrapped around": {"padding": 1, "padding_mode": "circular"},
    "padding by name": {"padding": "same", "groups": 2},
}


def cut(model: nn.Module, *runs: tuple[int, int], bias: bool = True) -> Partition:
    """Of the layer '1': filters ``runs`` with their biases, if they have any."""
    names = ("1.weight", "1.bias") if bias else ("1.weight",)
    modules = [Module(f"m{a}", "filters", 0, tuple(Slice(n, 0, a, b) for n in names)) for a, b in runs]
    return Partition.of(model, modules)


@pytest.mark.parametrize("active", [(), ("m0",), ("m6",), ("m0", "m2", "m6")])
@pytest.mark.parametrize("mode", ["exact", "detach"])
@pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_other_convolutions_are_cut_as_one_that_is_written_out(options, mode, active):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 8, 3, **options), nn.Conv2d(8, 2, 1)).double()
    partition, x = cut(model, (0, 2), (2, 6), (6, 8)), torch.randn(2, 3, 5, 5).double()
    on = [piece for m in partition.modules if m.name in active for piece in m.slices if piece.parameter == "1.weight"]
    rows = torch.zeros(8, dtype=torch.bool)
    for piece in on:
        rows[piece.start : piece.stop] = True
    y = model[1](model[0](x))
    if mode == "detach":
        y = torch.where(rows[:, None, None], y, y.detach())
    expected = model[2](y)
    expected.square().sum().backward()
    wholes = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    sparse = SparseBackward(model, partition, mode)
    sparse.set_active(active)
    out = model(x)
    assert torch.equal(out, expected)
    out.square().sum().backward()
    for piece, leaf in sparse.leaves.items():
        owner = sparse.leaves.owner[piece]
        below = mode == "detach" and not active and piece.parameter.startswith("0.")
        if below or (owner is not None and owner not in active):
            assert leaf.grad is None
        else:
            torch.testing.assert_close(leaf.grad, piece.of(wholes[piece.parameter]))
    sparse.close()


def test_a_convolution_in_groups_without_a_bias_or_a_batch_trains_too():
    model = nn.Sequential(nn.Identity(), nn.Conv2d(4, 8, 3, groups=4, bias=False)).double()
    sparse = SparseBackward(model, cut(model, (0, 2), (2, 8), bias=False), "detach")
    sparse.set_active(["m2"])
    x = torch.randn(4, 3, 3).double().requires_grad_()
    model(x).sum().backward()
    assert [leaf.grad is None for leaf in sparse.parameters()] == [True, False]
    assert x.grad is not None and not x.grad[0].any() and x.grad[1:].any()
    sparse.close()


class Attends(nn.Module):
    """``ways``: what becomes of what goes in, on the way to query, key and value."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.first, self.attend = nn.Linear(6, 6), nn.MultiheadAttention(6, 3, bias=bias, batch_first=True)
        self.up, self.down = nn.Linear(6, 8), nn.Linear(8, 6)

    def forward(self, x, way):
        x = self.first(x)
        q, k, v = {"one": (x, x, x), "memory": (x, (m := x.clone()), m), "three": (x, x.clone(), x.clone())}[way]
        x = x + self.attend(q, k, v, need_weights=False)[0]
        return x + self.down(F.gelu(self.up(x)))


@pytest.mark.parametrize("active", [(), ("layer0.head1",), ("layer0.head0", "layer0.head2"), None])
@pytest.mark.parametrize("mode", ["exact", "detach"])
@pytest.mark.parametrize("bias", [True, False])
def test_attention_whose_query_key_and_value_are_several_tensors_trains_as_with_one(bias, mode, active):
    torch.manual_seed(0)
    model, x = Attends(bias).double(), torch.randn(2, 5, 6).double()
    plain = {way: model(x, way) for way in ("one", "memory", "three")}
    partition = quietly(model)
    sparse = SparseBackward(model, partition, mode)
    found = {}
    sparse.set_active(partition.names if active is None else active)
    for way, expected in plain.items():
        model.zero_grad()
        out = model(x, way)
        assert torch.equal(out, expected)
        out.square().sum().backward()
        found[way] = [leaf.grad for leaf in sparse.parameters()]
    for gradients in (found["memory"], found["three"]):
        for one, other in zip(found["one"], gradients, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                torch.testing.assert_close(other, one)
    sparse.close()
