"""Maps of low rank beside frozen ones, as LoRA has them: a head or neuron owns what leads to it and away from it."""

from __future__ import annotations

import warnings

import pytest
import torch
import transformers as hf
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mat.backward.sparse import SparseBackward
from mat.errors import InputError
from mat.forward import forward
from mat.partition.discovery import partition_model
from tests.partition.families import BERT, LLAMA, TEXT, module
from tests.zoo import kernel_of, mean_logit, modular_ntk, naive_rows, of_slices, randomise

EVERY = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Adapted(nn.Module):
    """A layer with a map of low rank beside it, laid out as peft does it."""

    def __init__(self, layer: nn.Linear, rank: int = 2) -> None:
        super().__init__()
        self.base_layer = layer
        self.lora_A = nn.ModuleDict({"default": nn.Linear(layer.in_features, rank, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(rank, layer.out_features, bias=False)})

    def forward(self, x):
        return self.base_layer(x) + 0.5 * self.lora_B["default"](self.lora_A["default"](x))


def adapted(model: nn.Module, names, trained: bool = False) -> nn.Module:
    model.requires_grad_(trained)
    for path, layer in list(model.named_modules()):
        above, _, name = path.rpartition(".")
        if name in names and isinstance(layer, nn.Linear):
            setattr(model.get_submodule(above), name, Adapted(layer))
    return randomise(model)


def llama(names=EVERY, trained: bool = False) -> nn.Module:
    return adapted(hf.LlamaForCausalLM(hf.LlamaConfig(**LLAMA)), names, trained)


def quietly(model, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return partition_model(model, **options)


def owned(partition, name):
    return {(s.parameter.split(".", 3)[3], s.dim, s.start, s.stop) for s in module(partition, name).slices}


def test_what_a_head_and_a_neuron_group_own():
    partition = quietly(llama(), ffn_groups=2)
    assert owned(partition, "layer0.head1") == {
        ("self_attn.q_proj.lora_B.default.weight", 0, 8, 16),
        ("self_attn.k_proj.lora_B.default.weight", 0, 4, 8),
        ("self_attn.v_proj.lora_B.default.weight", 0, 4, 8),
        ("self_attn.o_proj.lora_A.default.weight", 1, 8, 16),
    }
    assert owned(partition, "layer1.ffn1") == {
        ("mlp.gate_proj.lora_B.default.weight", 0, 10, 20),
        ("mlp.up_proj.lora_B.default.weight", 0, 10, 20),
        ("mlp.down_proj.lora_A.default.weight", 1, 10, 20),
    }
    both = owned(quietly(llama(trained=True)), "layer0.head1")
    assert owned(partition, "layer0.head1") < both
    assert ("self_attn.o_proj.base_layer.weight", 1, 8, 16) in both and len(both) == 8


@settings(max_examples=8)
@given(names=st.sets(st.sampled_from(EVERY), min_size=1), trained=st.booleans(), data=st.data())
def test_adapted_maps_are_confirmed_exact_and_trained(names, trained, data):
    model = llama(names, trained)
    partition = quietly(model)
    assert quietly(model, example=TEXT).modules == partition.modules
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what has no rule
        warnings.filterwarnings("error", message=".*could confirm|.*comparison with plain")
        kernels = modular_ntk(model, partition, TEXT)
    flags = {name: p.requires_grad for name, p in model.named_parameters()}
    model.requires_grad_(True)
    found = naive_rows(model, TEXT, mean_logit)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(flags[name])
    for part in partition.modules:
        rows = of_slices(found, part.slices)[:, 0]
        torch.testing.assert_close(kernels[part.name], kernel_of(rows), rtol=1e-5, atol=1e-8)  # norms in float32
    forward(model, TEXT).square().sum().backward()
    dense = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    active = data.draw(st.sets(st.sampled_from(partition.names)))
    sparse = SparseBackward(model, partition, "exact")
    sparse.set_active(active)
    output = forward(model, TEXT).square().sum()
    if output.requires_grad:
        output.backward()
    for part in partition.modules:
        for piece in part.slices:
            gradient = sparse.leaves[piece].grad
            if part.name in active:
                torch.testing.assert_close(gradient, piece.of(dense[piece.parameter]), rtol=1e-9, atol=1e-11)
            else:
                assert gradient is None
    sparse.close()


def test_other_frozen_parts_are_refused_as_ever():
    model = llama()
    model.model.layers[0].mlp.gate_proj.lora_B.requires_grad_(False)
    assert ("mlp.up_proj.lora_B.default.weight", 0, 0, 20) in owned(quietly(model), "layer0.ffn")
    plain = hf.LlamaForCausalLM(hf.LlamaConfig(**LLAMA))
    plain.model.layers[0].mlp.gate_proj.requires_grad_(False)
    with pytest.raises(InputError, match="frozen in part"):
        partition_model(plain)


def test_three_maps_that_are_no_adapter_are_none():
    """A feed-forward block with a gate of low rank has three maps, too; none is frozen and none called so."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.attn = nn.MultiheadAttention(8, 2)
            self.mlp = nn.ModuleDict({"up": nn.Linear(8, 8), "a": nn.Linear(8, 2), "b": nn.Linear(2, 8)})

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        partition = partition_model(nn.Sequential(Block(), Block()))
    assert {m.kind for m in partition.modules} == {"head"}


def test_bert_too():
    model = adapted(hf.BertForSequenceClassification(hf.BertConfig(**BERT)), ("query", "value", "dense"))
    partition = quietly(model, example=TEXT)
    assert [sum(m.kind == kind for m in partition.modules) for kind in ("head", "ffn")] == [6, 2]
