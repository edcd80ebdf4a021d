"""What is not recognised is named, and what does not fit is refused."""

from __future__ import annotations

import warnings

import pytest
import torch
import transformers as hf
from torch import nn

from mat.backward.sparse import SparseBackward
from mat.errors import InputError
from mat.partition.discovery import partition_model
from mat.partition.unrecognised import unrecognised
from tests.partition.families import BERT, FAMILIES, built, columns, module, rows, slices, swin


def test_without_head_outputs_the_output_projection_is_remainder():
    model = built(FAMILIES["llama"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        partition = partition_model(model, head_outputs=False)
    owned = {s.parameter.split(".")[-2] for s in module(partition, "layer0.head0").slices}
    assert owned == {"q_proj", "k_proj", "v_proj"}
    left = [f"model.layers.{i}.self_attn.o_proj.weight" for i in (0, 1)]
    assert unrecognised(model, partition) == left


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("switch", {"experts": False}),
        ("mixtral", {"heads": False}),
        ("bert", {"ffn_groups": 0}),
        ("vit_torchvision", {"filter_groups": 0}),
        ("bert_wrapped", {"heads": False}),
    ],
)
def test_what_a_keyword_leaves_out_is_listed_but_does_not_warn(name, choices):
    model = built(FAMILIES[name])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        full, partition = partition_model(model), partition_model(model, **choices)
    assert set(partition.names) < set(full.names) or name == "vit_torchvision"
    gone = {s.parameter for m in full.modules for s in m.slices} - {
        s.parameter for m in partition.modules for s in m.slices
    }
    assert set(unrecognised(model, partition)) == {n for n in gone if model.get_parameter(n).dim() > 1}


class Strange(nn.Module):
    """A block whose feed-forward part is a recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        self.attn, self.mix = nn.MultiheadAttention(8, 2, batch_first=True), nn.GRU(8, 8, batch_first=True)


def test_what_is_not_recognised_is_named_in_one_warning():
    with pytest.warns(UserWarning) as caught:
        partition = partition_model(swin())
    assert len(caught) == 1
    assert "features.2.reduction.weight" in str(caught[0].message)
    assert caught[0].filename == __file__
    for count in (1, 3):
        model = nn.Module()
        model.blocks = nn.ModuleList(Strange() for _ in range(count))
        model.head = nn.Linear(8, 2)
        with pytest.warns(UserWarning, match=r"blocks\.0\.mix\.weight_ih_l0, blocks\.0\.mix\.weight_hh_l0"):
            partition = partition_model(model)
        assert partition.names == tuple(f"layer{i}.head{h}" for i in range(count) for h in (0, 1))
        assert len(unrecognised(model, partition)) == 2 * count


def test_a_transformer_of_unknown_attention_beside_a_known_one_is_named():
    model = nn.Module()
    model.known = hf.BertModel(hf.BertConfig(**BERT), add_pooling_layer=False)
    model.unknown = hf.GPTNeoXModel(
        hf.GPTNeoXConfig(vocab_size=20, hidden_size=8, num_attention_heads=2, num_hidden_layers=2, intermediate_size=16)
    )
    with pytest.warns(UserWarning, match="4 weight"):
        partition = partition_model(model)
    assert {n.split(".")[:4:3] == ["unknown", "attention"] for n in unrecognised(model, partition)} == {True}


def test_an_unknown_model_is_refused_with_what_was_looked_for():
    with pytest.raises(InputError, match=r"at least one module.*LSTM.*query, key, value.*nn\.Conv2d"):
        partition_model(nn.LSTM(4, 4))
    with pytest.raises(InputError, match="at least one module"):
        partition_model(built(FAMILIES["bert"]), heads=False, ffn_groups=0)


def bert_attention(model: nn.Module) -> nn.Module:
    return model.bert.encoder.layer[0].attention


def test_heads_that_do_not_fit_their_projections_are_refused():
    model = built(FAMILIES["bert"])
    bert_attention(model).self.num_attention_heads = 5
    with pytest.raises(InputError, match=r"layer\.0\.attention\.self: 5 heads.*12 query rows"):
        partition_model(model)
    model = built(FAMILIES["bert"])
    for name in ("query", "key", "value"):  # one head pruned, the head count not told
        setattr(bert_attention(model).self, name, nn.Linear(12, 8))
    bert_attention(model).output.dense = nn.Linear(8, 12)
    with pytest.raises(InputError, match=r"3 heads of width 4 do not fit 8 query rows"):
        partition_model(model)
    bert_attention(model).self.num_attention_heads = 2
    assert sum(m.kind == "head" for m in partition_model(model).modules) == 5
    model = built(FAMILIES["llama"])
    model.model.layers[1].self_attn.k_proj = nn.Linear(12, 12, bias=False)
    model.model.layers[1].self_attn.v_proj = nn.Linear(12, 12, bias=False)
    with pytest.raises(InputError, match=r"layers\.1\.self_attn: 4 query heads of width 4 cannot share 12 key rows"):
        partition_model(model)


@pytest.mark.parametrize(("name", "groups"), [("bert", 3), ("gpt2", 7), ("t5", 5), ("llama", 8)])
def test_neuron_groups_must_divide(name, groups):
    with pytest.raises(InputError, match="do not divide"):
        partition_model(built(FAMILIES[name]), ffn_groups=groups)


def test_a_square_ffn_without_names_or_order_is_not_guessed():
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attn, self.a, self.b = nn.MultiheadAttention(8, 2), nn.Linear(8, 8), nn.Linear(8, 8)

    class Ordered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attn = nn.MultiheadAttention(8, 2)
            self.mlp = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))

    with pytest.warns(UserWarning, match=r"0\.a\.weight, 0\.b\.weight"):
        assert {m.kind for m in partition_model(nn.Sequential(Block(), Block())).modules} == {"head"}
    partition = partition_model(nn.Sequential(Ordered(), Ordered()))
    assert slices(partition, "layer1.ffn") == {*rows("1.mlp.0", 0, 8), *columns("1.mlp.2", 0, 8)}


def test_frozen_modules_are_no_part_of_a_partition():
    model = built(FAMILIES["gpt2"])
    model.transformer.h[0].requires_grad_(False)
    model.transformer.h[1].attn.requires_grad_(False)
    partition = partition_model(model)
    assert {module.name for module in partition.modules} == {"layer1.ffn"} and not partition.attentions
    model.transformer.h[1].mlp.c_fc.bias.requires_grad_(False)
    with pytest.raises(InputError, match=r"'layer1.ffn' is frozen in part: 'transformer.h.1.mlp.c_fc.bias'"):
        partition_model(model)
    with pytest.raises(InputError, match="at least one module"):
        partition_model(model.requires_grad_(False))


def test_a_scripted_part_is_left_to_the_remainder():
    scripted = torch.jit.script(nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU()))
    model = nn.Sequential(nn.Conv2d(3, 8, 3), scripted, nn.Flatten(), nn.Linear(128, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        partition = partition_model(model)
    assert {piece.parameter for found in partition.modules for piece in found.slices} == {"0.weight", "0.bias"}
    sparse = SparseBackward(model, partition)
    sparse.set_active(partition.names[:1])
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    assert [leaf.grad is not None for leaf in sparse.module_parameters(partition.names[0])] == [True, True]
    assert not any(leaf.grad is not None for name in partition.names[1:] for leaf in sparse.module_parameters(name))
    assert model[1][0].weight.grad is not None
