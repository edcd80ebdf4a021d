"""What a module owns in every family: slices written by hand, and permutations that only right ones survive."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
import transformers as hf
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mat.partition.discovery import partition_model
from mat.partition.partition import Attention
from mat.partition.unrecognised import unrecognised
from tests.partition.families import (
    BERT,
    FAMILIES,
    LLAMA,
    TOLERANCE,
    built,
    exchange,
    exchange_entries,
    module,
    output,
    slices,
    split_name,
)
from tests.partition.test_partition import assert_disjoint_and_complete
from tests.zoo import quietly


@pytest.mark.parametrize("name", FAMILIES)
def test_a_partition_is_complete_and_owns_what_is_written_here(name):
    family = FAMILIES[name]
    model = built(family)
    partition = quietly(model, ffn_groups=family.groups)
    assert_disjoint_and_complete(model, partition)
    sizes = sum(row["parameters"] for row in partition.table()) + partition.size(partition.remainder)
    assert sizes == sum(p.numel() for p in model.parameters())
    assert len(partition.modules) == family.count
    for module_name, expected in family.owns.items():
        assert slices(partition, module_name) == set(expected), module_name
    assert unrecognised(model, partition) == list(family.missed)
    heads = [module.name for module in partition.modules if module.kind == "head"]
    assert [name for attention in partition.attentions for name in attention.heads] == heads


@pytest.mark.parametrize("name", FAMILIES)
def test_two_units_of_a_kind_can_change_places(name):
    """Exchanging all that two heads (FFN groups, experts) own leaves the output; leaving one slice out does not."""
    family = FAMILIES[name]
    model = built(family)
    partition = quietly(model, ffn_groups=family.groups)
    before = output(model, family.inputs)
    for one, other in family.swaps:
        a, b = module(partition, one), module(partition, other)
        changed = copy.deepcopy(model)
        exchange(changed, a, b)
        (stem, i), (_, j) = split_name(one), split_name(other)
        for parameter, dim in family.tables.get(stem, []):
            exchange_entries(changed.get_parameter(parameter).data, dim, i, j)
        torch.testing.assert_close(
            output(changed, family.inputs), before, **TOLERANCE, msg=lambda m, o=one: f"{o}: {m}"
        )
        for left_out, piece in enumerate(a.slices):
            if "bias" in piece.parameter:
                continue  # a key's bias has no effect: the softmax does not see what all keys share
            broken = copy.deepcopy(changed)
            exchange(broken, a, b)
            exchange(broken, a, b, leave_out=left_out)
            assert not torch.allclose(output(broken, family.inputs), before, **TOLERANCE), (one, piece)


def maskable():
    for name, family in FAMILIES.items():
        if family.masked:
            yield name, *family.masked
        for unit, owned in family.owns.items():
            if "ffn" in unit:
                yield name, unit, owned[-1][0].removesuffix(".weight")


@pytest.mark.parametrize(("name", "unit", "path"), list(maskable()))
def test_zeroing_a_head_or_neurons_is_masking_what_they_put_out(name, unit, path):
    """``path`` is the map behind them: W_O, or the FFN's way out. All activations here send 0 to 0."""
    family = FAMILIES[name]
    model = built(family)
    owned = module(quietly(model, ffn_groups=family.groups), unit).slices
    piece = next(s for s in owned if s.parameter == f"{path}.weight")

    def mask(_, args):
        return (args[0].index_fill(-1, torch.arange(piece.start, piece.stop), 0.0), *args[1:])

    plain = output(model, family.inputs)
    handle = model.get_submodule(path).register_forward_pre_hook(mask)
    wanted = output(model, family.inputs)
    handle.remove()
    for s in owned:
        s.of(model.get_parameter(s.parameter).data).zero_()
    torch.testing.assert_close(output(model, family.inputs), wanted, **TOLERANCE)
    assert not torch.allclose(wanted, plain)


def test_attention_entries_name_heads_in_order():
    partition = partition_model(built(FAMILIES["t5"]))
    assert partition.attentions[2] == Attention(
        "decoder.block.0.layer.0.SelfAttention", tuple(f"decoder0.head{h}" for h in range(3))
    )
    assert partition.attentions[3].heads == tuple(f"decoder0.cross.head{h}" for h in range(3))
    many = hf.LlamaForCausalLM(hf.LlamaConfig(**{**LLAMA, "num_key_value_heads": 4}))
    assert partition_model(many).attentions[1].heads == tuple(f"layer1.head{h}" for h in range(4))


@given(heads=st.integers(1, 4), width=st.integers(1, 4), neurons=st.integers(1, 4), groups=st.integers(1, 3))
def test_bert_of_any_size(heads, width, neurons, groups):
    d, f = heads * width, neurons * groups
    config = {**BERT, "hidden_size": d, "num_attention_heads": heads, "intermediate_size": f}
    model = hf.BertModel(hf.BertConfig(**{**config, "num_hidden_layers": 1}))
    partition = partition_model(model, ffn_groups=groups)
    assert_disjoint_and_complete(model, partition)
    ffns = ["layer0.ffn"] if groups == 1 else [f"layer0.ffn{g}" for g in range(groups)]
    assert partition.names == (*(f"layer0.head{h}" for h in range(heads)), *ffns)
    sizes = {row["module"]: row["parameters"] for row in partition.table()}
    assert all(sizes[f"layer0.head{h}"] == 4 * d * width + 3 * width for h in range(heads))
    assert all(sizes[name] == neurons * (2 * d + 1) for name in ffns)
    last = slices(partition, f"layer0.head{heads - 1}")
    assert ("encoder.layer.0.attention.output.dense.weight", 1, d - width, d) in last


@given(
    shared=st.integers(1, 3),
    groups=st.integers(1, 3),
    half=st.integers(1, 3),
    neurons=st.integers(1, 4),
    cut=st.integers(1, 3),
    d=st.integers(1, 3),
)
def test_llama_of_any_size(shared, groups, half, neurons, cut, d):
    width, heads = 2 * half, shared * groups
    config = {
        **LLAMA,
        "hidden_size": d * heads,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "head_dim": width,
        "intermediate_size": neurons * cut,
        "num_hidden_layers": 1,
    }
    model = hf.LlamaModel(hf.LlamaConfig(**config))
    d *= heads
    partition = partition_model(model, ffn_groups=cut)
    assert_disjoint_and_complete(model, partition)
    sizes = {row["module"]: row["parameters"] for row in partition.table()}
    assert [n for n in sizes if "head" in n] == [f"layer0.head{g}" for g in range(groups)]
    assert all(sizes[f"layer0.head{g}"] == 2 * d * width * (shared + 1) for g in range(groups))
    assert [sizes[n] for n in sizes if "ffn" in n] == [3 * d * neurons] * cut
    last = slices(partition, f"layer0.head{groups - 1}")
    span = shared * width
    assert ("layers.0.self_attn.o_proj.weight", 1, (groups - 1) * span, groups * span) in last
    assert [a.heads for a in partition.attentions] == [tuple(f"layer0.head{g}" for g in range(groups))]


def test_two_towers_are_numbered_one_after_the_other():
    model = nn.ModuleDict({name: hf.BertModel(hf.BertConfig(**BERT)) for name in ("query", "passage")})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        names = [m.name for m in partition_model(model).modules if m.kind == "ffn"]
    assert names == [f"layer{i}.ffn" for i in range(4)]
