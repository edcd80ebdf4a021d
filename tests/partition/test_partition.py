"""Partitions are disjoint and complete, and what cannot be one is refused."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mat.errors import InputError
from mat.partition.discovery import partition_model
from mat.partition.partition import Module, Partition, Slice
from tests.cases import CASES, bert_case, vgg_case


def assert_disjoint_and_complete(model, partition):
    cover = {name: torch.zeros_like(p, dtype=torch.int) for name, p in model.named_parameters()}
    for piece in [s for m in partition.modules for s in m.slices] + list(partition.remainder):
        piece.of(cover[piece.parameter]).add_(1)
    for name, count in cover.items():
        assert (count == 1).all(), f"{name} is covered {count.min()} to {count.max()} times"


@pytest.mark.parametrize("name", CASES)
def test_modules_and_remainder_cover_every_entry_once(name):
    case = CASES[name]()
    assert_disjoint_and_complete(case.model, case.partition)
    sizes = sum(row["parameters"] for row in case.partition.table())
    total = sum(p.numel() for p in case.model.parameters())
    assert sizes + case.partition.size(case.partition.remainder) == total


@given(
    shape=st.tuples(st.integers(1, 12), st.integers(1, 5)),
    dim=st.integers(0, 1),
    cuts=st.lists(st.integers(0, 12), min_size=2, max_size=6, unique=True),
)
def test_any_set_of_runs_is_completed(shape, dim, cuts):
    model = nn.Module()
    model.w = nn.Parameter(torch.zeros(shape))
    cuts = sorted({min(cut, shape[dim]) for cut in cuts})
    runs = list(zip(cuts[::2], cuts[1::2], strict=False))
    if not runs:
        return
    modules = [Module(f"m{i}", "layer", 0, (Slice("w", dim, a, b),)) for i, (a, b) in enumerate(runs)]
    assert_disjoint_and_complete(model, Partition.of(model, modules))


def test_a_head_owns_its_rows_and_its_output_columns():
    module = bert_case().partition.modules[1]
    assert (module.name, module.kind) == ("layer0.head1", "head")
    assert {(s.parameter.split(".")[-2], s.parameter.split(".")[-1], s.dim) for s in module.slices} == {
        (layer, what, 0) for layer in ("query", "key", "value") for what in ("weight", "bias")
    } | {("dense", "weight", 1)}
    assert {(s.start, s.stop) for s in module.slices} == {(4, 8)}


def test_a_filter_group_owns_its_batch_norm_entries():
    names = {s.parameter for s in vgg_case().partition.modules[0].slices}
    assert names == {"features.0.weight", "features.0.bias", "features.1.weight", "features.1.bias"}


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ([], "at least one module"),
        ([("a", [("w", 0, 0, 3)]), ("b", [("w", 0, 2, 4)])], "overlap"),
        ([("a", [("w", 0, 0, 2)]), ("b", [("w", 1, 0, 2)])], "along dimensions"),
        ([("a", [("w", 0, 0, 9)])], "does not fit"),
        ([("a", [("w", 2, 0, 1)])], "does not fit"),
        ([("a", [("missing", 0, 0, 1)])], "not a trainable parameter"),
        ([("a", [("w", 0, 0, 1)]), ("a", [("w", 0, 1, 2)])], "unique"),
    ],
)
def test_impossible_partitions_are_refused(modules, message):
    model = nn.Module()
    model.w = nn.Parameter(torch.zeros(4, 4))
    built = [Module(name, "layer", 0, tuple(Slice(*s) for s in slices)) for name, slices in modules]
    with pytest.raises(InputError, match=message):
        Partition.of(model, built)


def test_a_partition_that_names_nothing_is_refused():
    with pytest.raises(InputError, match="at least one module"):
        partition_model(nn.Sequential(nn.Linear(3, 3)))
    with pytest.raises(InputError, match="at least one module"):
        partition_model(vgg_case().model, filter_groups=0)


def test_groups_must_divide_the_width():
    with pytest.raises(InputError, match="do not divide"):
        partition_model(vgg_case().model, filter_groups=5)
