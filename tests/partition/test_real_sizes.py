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
    "phi3": (lambda: hf.Phi3Model(hf.Phi3Config()), ("mlp.gate_up_proj",), "mlp.down_proj"),
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


DBRX = {"d_model": 6144, "n_heads": 48, "n_layers": 4, "vocab_size": 100352}
DBRX |= {"attn_config": {"kv_n_heads": 8, "rope_theta": 5e5, "clip_qkv": 8.0}}
DBRX |= {"ffn_config": {"ffn_hidden_size": 10752, "moe_num_experts": 16, "moe_top_k": 4, "hidden_size": 6144}}
LAYERS = {"num_hidden_layers": 4}
MIXTURES = {  # a model of four layers, key/value heads, experts: of each layer that has them, and these layers
    "dbrx": (lambda: hf.DbrxModel(hf.DbrxConfig(**DBRX)), 8, 16, 4),
    "mixtral": (lambda: hf.MixtralModel(hf.MixtralConfig(**LAYERS)), 8, 8, 4),
    "gpt_oss": (lambda: hf.GptOssModel(hf.GptOssConfig(**LAYERS)), 8, 128, 4),
    "olmoe": (lambda: hf.OlmoeModel(hf.OlmoeConfig(**LAYERS)), 16, 64, 4),
    "qwen3_moe": (lambda: hf.Qwen3MoeModel(hf.Qwen3MoeConfig(**LAYERS)), 4, 128, 4),
    "llama4": (lambda: hf.Llama4TextModel(hf.Llama4TextConfig(**LAYERS)), 8, 16, 4),
    "deepseek_v3": (lambda: hf.DeepseekV3Model(hf.DeepseekV3Config(**LAYERS)), 128, 256, 1),
    "jamba": (lambda: hf.JambaModel(hf.JambaConfig(num_hidden_layers=8)), 8, 16, 4),
}


@pytest.mark.parametrize("name", MIXTURES)
def test_every_expert_owns_its_share_of_all_expert_tensors(name):
    build, heads, experts, layers = MIXTURES[name]
    with torch.device("meta"):
        model = build()
    partition = quietly(model)
    of = {kind: [m for m in partition.modules if m.kind == kind] for kind in ("head", "expert")}
    attentions = 1 if name == "jamba" else 4  # of eight layers, seven scan
    assert (len(of["head"]), len(of["expert"])) == (heads * attentions, experts * layers)
    for module in of["expert"]:
        number = int(module.name.rpartition("expert")[2])
        for piece in module.slices:
            rows = partition.shapes[piece.parameter][0] // experts
            assert piece.dim == 0 and (piece.start, piece.stop) == (number * rows, number * rows + rows)
    assert not [piece for piece in partition.remainder if ".experts." in piece.parameter]
