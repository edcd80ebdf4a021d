"""Families at their real sizes, without memory: widths that coincide must not turn a feed-forward block round."""

from __future__ import annotations

import pytest
import torch
import torchvision
import transformers as hf

from tests.zoo import quietly

FULL = {
    "swin_t": (torchvision.models.swin_t, ("mlp.0",), "mlp.3"),
    "swin_v2_b": (torchvision.models.swin_v2_b, ("mlp.0",), "mlp.3"),
    "vit_b_16": (torchvision.models.vit_b_16, ("mlp.0",), "mlp.3"),
    "bert": (lambda: hf.BertModel(hf.BertConfig()), ("intermediate.dense",), "output.dense"),
    "distilbert": (lambda: hf.DistilBertModel(hf.DistilBertConfig()), ("ffn.lin1",), "ffn.lin2"),
    "gpt2": (lambda: hf.GPT2Model(hf.GPT2Config()), ("mlp.c_fc",), "mlp.c_proj"),
    "t5": (lambda: hf.T5Model(hf.T5Config()), ("DenseReluDense.wi",), "DenseReluDense.wo"),
    "llama": (lambda: hf.LlamaModel(hf.LlamaConfig()), ("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj"),
}


@pytest.mark.parametrize("name", FULL)
def test_every_ffn_owns_the_rows_of_its_ups_and_the_columns_of_its_down(name):
    build, ups, down = FULL[name]
    with torch.device("meta"):
        model = build()
    turned = name == "gpt2"  # (in, out) weights
    found = [module for module in quietly(model).modules if module.kind == "ffn"]
    assert found
    for module in found:
        for piece in module.slices:
            path, _, part = piece.parameter.rpartition(".")
            into = path.endswith(ups)
            assert into or (path.endswith(down) and part == "weight"), piece
            assert piece.dim == (0 if part == "bias" else int(into == turned)), piece


def test_convolutions_and_blocks_of_a_hybrid_are_numbered_in_one_order():
    with torch.device("meta"):
        model = hf.MobileViTForImageClassification(hf.MobileViTConfig())
    order = {path: i for i, (path, _) in enumerate(model.named_modules())}
    modules = quietly(model).modules
    depths = [module.layer for module in modules]
    assert depths == sorted(depths) and depths[0] == 0
    firsts = {module.layer: order[module.slices[0].parameter.rpartition(".")[0]] for module in reversed(modules)}
    assert [firsts[depth] for depth in sorted(firsts)] == sorted(firsts.values())
    assert len({(module.layer, module.name.split(".")[0]) for module in modules}) == len(firsts)


@pytest.mark.parametrize("layers", [False, True])
def test_an_output_convolution_is_no_module(layers):
    with torch.device("meta"):
        model = torchvision.models.squeezenet1_1(num_classes=10)
    partition = quietly(model, layers=layers)
    assert {piece.parameter for piece in partition.remainder} == {"classifier.1.weight", "classifier.1.bias"}
