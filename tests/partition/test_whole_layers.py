"""Partitions into whole layers."""

from __future__ import annotations

import pytest
import transformers as hf

from mat.backward.sparse import SparseBackward
from mat.partition.discovery import partition_model
from tests.partition.families import BERT, BOTH, T5, WAVES, module, swin
from tests.partition.test_convolutions import densenet, narrow_vgg, resnet
from tests.partition.test_partition import assert_disjoint_and_complete
from tests.zoo import quietly

LAYERS = {
    "bert": (
        lambda: hf.BertForMaskedLM(hf.BertConfig(**BERT)),
        {f"layer{i}": f"bert.encoder.layer.{i}" for i in (0, 1)},
    ),
    "t5": (
        lambda: hf.T5ForConditionalGeneration(hf.T5Config(**T5)),
        {f"{s}{i}": f"{s}.block.{i}" for s in ("encoder", "decoder") for i in (0, 1)},
    ),
    "swin": (swin, {f"layer{i}": f"features.{p}" for i, p in enumerate(("1.0", "1.1", "3.0"))}),
    "resnet": (
        resnet,
        {f"layer{i}": p for i, p in enumerate(("", "layer1.0", "layer1.1", "layer2.0", "layer3.0", "layer4.0"))},
    ),
    "densenet": (densenet, {f"layer{2 * b - 1}": f"features.denseblock{b}" for b in (1, 2, 3)}),
}


@pytest.mark.parametrize("name", LAYERS)
def test_whole_layers_hold_all_their_parameters(name):
    build, expected = LAYERS[name]
    model = build()
    partition = quietly(model, layers=True)
    assert_disjoint_and_complete(model, partition)
    assert {m.kind for m in partition.modules} == {"layer"}
    for layer, path in expected.items():
        names = {s.parameter for s in module(partition, layer).slices}
        wanted = {n for n, _ in model.named_parameters() if n.startswith(f"{path}.")}
        assert names == (wanted if path else {"conv1.weight", "bn1.weight", "bn1.bias"})
    assert all(partition.is_whole(s) for m in partition.modules for s in m.slices)


def test_a_vgg_layer_is_a_convolution_with_its_norm():
    partition = partition_model(narrow_vgg(), layers=True)
    assert partition.names == ("layer0", "layer1", "layer2")
    assert {s.parameter for s in partition.modules[1].slices} == {
        f"features.{i}.{part}" for i in (4, 5) for part in BOTH
    }


def test_a_stage_that_holds_transformer_blocks_is_no_layer_itself():
    config = hf.SegformerConfig(
        num_encoder_blocks=2, depths=[1, 2], hidden_sizes=[4, 8], num_attention_heads=[1, 2], sr_ratios=[2, 1]
    )
    model = hf.SegformerModel(config)
    partition = partition_model(model, layers=True)
    assert_disjoint_and_complete(model, partition)
    held = [{".".join(s.parameter.split(".")[:4]) for s in m.slices} for m in partition.modules]
    blocks = [{f"stages.{i}.blocks.{j}"} for i, j in ((0, 0), (1, 0), (1, 1))]
    assert [h for h in held if h in blocks] == blocks


def test_whole_layers_of_swin_train_as_selected():
    model = swin()
    partition = quietly(model, layers=True)
    sparse = SparseBackward(model, partition, "exact")
    sparse.set_active({"layer1"})
    model(WAVES.float()).square().sum().backward()
    moved = {name for name, leaf in sparse.named_parameters() if leaf.grad is not None}
    owned = {piece.parameter for module in partition.modules for piece in module.slices}
    assert moved & owned == {piece.parameter for piece in module(partition, "layer1").slices}
