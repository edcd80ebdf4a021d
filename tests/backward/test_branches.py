"""Residual branches: found by structure in models of the zoo and in small ones, confirmed by effect."""

import functools
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mat.backward.branches import residual_branches
from mat.backward.sparse import SparseBackward
from mat.partition.partition import Module, Partition, Slice
from tests.cases import logits
from tests.zoo import ZOO, animal, quietly


@functools.cache
def looked(name):
    one = animal(name)
    one.model.eval()
    partition = quietly(one.model, filter_groups=2)
    return one, partition, residual_branches(one.model, partition, one.inputs)


@functools.cache
def reached(name, active):
    one, partition, below = looked(name)
    sparse = SparseBackward(one.model, partition, "detach_residual")
    try:
        sparse.branches = below
        sparse.set_active(active)
        out = logits(one.model, one.inputs)
        out.logsumexp(-1).sum().backward()
        return out.detach(), {m for m in active if any(p.grad is not None for p in sparse.module_parameters(m))}
    finally:
        sparse.close()
        one.model.zero_grad(set_to_none=True)


@pytest.mark.parametrize("name", sorted(ZOO))
@settings(max_examples=3)
@given(data=st.data())
def test_every_active_module_is_reached_and_the_forward_pass_is_the_plain_one(name, data):
    """Experts wait for tokens; they are reached where they are with everything active."""
    names = looked(name)[1].names
    active = data.draw(st.frozensets(st.sampled_from(names)))
    (plain, known), (out, found) = reached(name, frozenset(names)), reached(name, active)
    assert found == known & active
    assert torch.equal(out, plain)


def test_the_zoo_has_branches_where_one_would_draw_them():
    found = {name: looked(name)[2] for name in sorted(ZOO)}
    for name in ("bert", "roberta", "distilbert", "gpt2", "llama", "hf_vit", "vit", "swin"):
        partition, below = looked(name)[1], found[name]
        paths = {piece.parameter.rpartition(".")[0] for m in partition.modules for piece in m.slices}
        assert paths <= below.keys(), name
        assert not any(below.values()), f"{name}: heads and feed-forward blocks have nothing below them in their branch"
    assert found["vgg"] == {}
    down = {"conv1", "bn1", *(path for path in found["resnet"] if "downsample" in path)}
    assert not down & found["resnet"].keys(), "stem and shortcuts are exact"
    of_decoder = [below for path, below in found["t5"].items() if path.startswith("decoder") and "EncDec" in path]
    assert of_decoder and all(any(name.startswith("encoder") for name in below) for below in of_decoder[:1])


class Small(nn.Module):
    """Four maps; ``wire`` joins them."""

    def __init__(self, wire):
        super().__init__()
        self.maps, self.wire = nn.ModuleList(nn.Linear(4, 4) for _ in range(4)), wire

    def forward(self, x):
        return self.wire(*self.maps, x)


def series(a, b, c, d, x):
    return d(c(b(a(x))))


def residual(a, b, c, d, x):
    x = a(x)
    return d(x + c(b(x).relu()))


def shortcut(a, b, c, d, x):
    x = a(x)
    return d(b(x) + c(x))


def nested(a, b, c, d, x):
    x = a(x)
    y = b(x)
    return x + d(y + c(y))


def joined(a, b, c, d, x):
    x = a(x)
    return d(torch.cat([x[..., :2], c(b(x))[..., 2:]], -1))


def gated(a, b, c, d, x):
    x = a(x)
    return d(x * c(b(x)).sigmoid())


def dead(a, b, c, d, x):
    """A path that is there, and carries nothing."""
    x = a(x)
    return d(0 * x + c(b(x)))


@pytest.mark.parametrize(
    ("wire", "below"),
    [
        (series, {}),
        (residual, {1: set(), 2: {1}}),
        (shortcut, {}),
        (nested, {1: set(), 2: {}, 3: {1, 2}}),
        (joined, {1: set(), 2: {1}}),
        (gated, {1: set(), 2: {1}}),
    ],
)
def test_branches_lie_between_a_split_and_what_joins_again(wire, below):
    model = Small(wire)
    found = residual_branches(model, of_maps(model), {"x": torch.randn(2, 4)})
    assert found == {f"maps.{i}": frozenset(f"m{k}" for k in lower) for i, lower in below.items()}


@pytest.mark.parametrize(
    ("wire", "said"), [(dead, "nothing but maps.1, maps.2 carries a gradient to m0"), (None, "TypeError")]
)
def test_what_effects_contradict_or_nobody_can_call_is_exact_with_a_warning(wire, said):
    model = Small(wire)
    with pytest.warns(UserWarning, match=said) as seen:
        assert residual_branches(model, of_maps(model), {"x": torch.randn(2, 4)}) == {}
    assert len(seen) == 1
    assert all(p.requires_grad and p.grad is None for p in model.parameters()) and model.training


def of_maps(model):
    slices = ([Slice(f"maps.{i}.{part}", 0, 0, 4) for part in ("weight", "bias")] for i in range(4))
    return Partition.of(model, [Module(f"m{i}", "layer", i, tuple(found)) for i, found in enumerate(slices)])


def test_before_anything_is_known_all_is_exact():
    model = Small(residual)
    partition = of_maps(model)
    x = torch.randn(2, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sparse = SparseBackward(model, partition, "detach_residual")
        for known, trained in ((False, True), (True, False)):
            if known:
                sparse.look({"x": x})
            sparse.set_active({"m0", "m3"})
            seen = []
            model.maps[1].register_full_backward_hook(lambda *_, seen=seen: seen.append(1))
            model(x).sum().backward()
            assert bool(seen) == trained and sparse.module_parameters("m0")[0].grad is not None
        sparse.close()
