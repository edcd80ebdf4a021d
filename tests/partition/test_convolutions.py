"""What filter groups own: convolutions with the norm of their own output, and nothing that reads others'."""

from __future__ import annotations

import warnings

import pytest
import torch
import torchvision
import transformers as hf
from torch import nn
from torchvision.models.densenet import DenseNet
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.models.vgg import VGG, make_layers

from mat.partition.convolutions import normalised_by
from mat.partition.discovery import partition_model
from mat.partition.unrecognised import unrecognised
from tests.partition.families import TOLERANCE, Family, built, exchange, exchange_entries, module, output, slices


def resnet(block=BasicBlock) -> ResNet:
    class Narrow(ResNet):
        """ResNet at an eighth of its width, otherwise torchvision's own code."""

        def _make_layer(self, block, planes, blocks, stride=1, dilate=False):
            self.inplanes = 8 if planes == 64 else self.inplanes
            return super()._make_layer(block, planes // 8, blocks, stride, dilate)

    model = Narrow(block, [2, 1, 1, 1], num_classes=3)
    model.conv1, model.bn1 = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)
    model.fc = nn.Linear(64 * block.expansion, 3)
    return model


def densenet() -> DenseNet:
    return DenseNet(4, (2, 2, 1), 8, bn_size=2, num_classes=3)


def narrow_vgg() -> VGG:
    features = make_layers([8, "M", 8, 12, "M"], batch_norm=True)
    with torch.device("meta"):
        model = VGG(features.cpu(), num_classes=2, init_weights=False)
    model.avgpool, model.classifier = nn.AdaptiveAvgPool2d(1), nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    return model


IMAGES = {"x": torch.linspace(-20, 20, 2 * 3 * 16 * 16, dtype=torch.float64).reshape(2, 3, 16, 16).sin()}


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_every_resnet_convolution_has_the_norm_of_its_own_output(block):
    model = resnet(block)
    last = "3" if block is Bottleneck else "2"
    norms = {conv: norm for conv, (norm, _) in normalised_by(model).items()}
    expected = {"conv1": "bn1"}
    for path, m in model.named_modules():
        if isinstance(m, nn.Conv2d) and path != "conv1":
            expected[path] = path.replace("conv", "bn") if "conv" in path else path[:-1] + "1"
    assert norms == expected
    assert norms["layer2.0.downsample.0"] == "layer2.0.downsample.1"
    assert norms[f"layer2.0.conv{last}"] == f"layer2.0.bn{last}"


def test_densenet_norms_ahead_of_a_convolution_belong_to_none():
    partition = partition_model(densenet(), filter_groups=2)
    norms = {conv: norm for conv, (norm, _) in normalised_by(densenet()).items()}
    blocks = [f"features.denseblock{b}.denselayer{i}" for b, i in ((1, 1), (1, 2), (2, 1), (2, 2), (3, 1))]
    assert norms == {"features.conv0": "features.norm0"} | {f"{p}.conv1": f"{p}.norm2" for p in blocks}
    order = [path for path, m in densenet().named_modules() if isinstance(m, nn.Conv2d)]
    where = {path: f"conv{d}.filters1" for d, path in enumerate(order)}
    layer = "features.denseblock1.denselayer2"
    assert slices(partition, where[f"{layer}.conv2"]) == {(f"{layer}.conv2.weight", 0, 2, 4)}
    assert slices(partition, where["features.transition1.conv"]) == {("features.transition1.conv.weight", 0, 4, 8)}
    assert slices(partition, where[f"{layer}.conv1"]) == {
        (f"{layer}.conv1.weight", 0, 4, 8),
        (f"{layer}.norm2.weight", 0, 4, 8),
        (f"{layer}.norm2.bias", 0, 4, 8),
    }


@pytest.mark.parametrize(
    ("build", "conv", "norm", "consumer"),
    [
        (resnet, "layer2.0.conv1", "layer2.0.bn1", "layer2.0.conv2"),
        (densenet, *(f"features.denseblock2.denselayer1.{name}" for name in ("conv1", "norm2", "conv2"))),
        (narrow_vgg, "features.4", "features.5", "features.7"),
    ],
)
def test_filter_groups_can_change_places_with_what_reads_them(build, conv, norm, consumer):
    family = Family(build, IMAGES, 0, {}, [])
    model = built(family)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.running_mean, -0.5, 0.5)
            nn.init.uniform_(m.running_var, 0.5, 2.0)
            nn.init.uniform_(m.weight, 0.5, 2.0)
    partition = partition_model(model, filter_groups=2)
    depth = [p for p, m in model.named_modules() if isinstance(m, nn.Conv2d)].index(conv)
    pair = [module(partition, f"conv{depth}.filters{g}") for g in range(2)]
    assert f"{norm}.bias" in {s.parameter for s in pair[0].slices}
    before = output(model, IMAGES)
    exchange(model, *pair)
    assert not torch.allclose(output(model, IMAGES), before, **TOLERANCE)
    half = model.get_submodule(conv).out_channels // 2
    runs = slice(0, half), slice(half, 2 * half)
    exchange_entries(model.get_parameter(f"{consumer}.weight").data, 1, *runs)
    for buffer in ("running_mean", "running_var"):
        exchange_entries(model.get_buffer(f"{norm}.{buffer}"), 0, *runs)
    torch.testing.assert_close(output(model, IMAGES), before, **TOLERANCE)


def test_depthwise_convolutions_are_cut_along_their_outputs():
    model = nn.Sequential(nn.Conv2d(4, 8, 3, groups=4), nn.BatchNorm2d(8, affine=False), nn.Conv2d(8, 4, 1))
    partition = partition_model(model)
    assert slices(partition, "conv0.filters3") == {("0.weight", 0, 6, 8), ("0.bias", 0, 6, 8)}


class Untraceable(nn.Module):
    """Its norm has as many channels as the convolution ahead of it, and normalises something else."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.tail = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))

    def forward(self, x):
        if x.sum() > 0:
            return self.tail(self.conv(self.norm(x)))
        return x


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.norm = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.calls = 0

    def forward(self, x):
        self.calls = x
        return self.norm(self.two(self.norm(self.one(x))))


class Ahead(Untraceable):
    def forward(self, x):
        return self.tail(self.conv(self.norm(x)))


@pytest.mark.parametrize("build", [Untraceable, Ahead])
def test_a_norm_is_attached_only_where_the_data_flow_shows_it(build):
    assert {k: v for k, (v, _) in normalised_by(build()).items()} == {"tail.0": "tail.1"}


def test_a_norm_used_twice_belongs_to_no_convolution_and_tracing_leaves_the_model_alone():
    model = Shared()
    assert normalised_by(model) == {}
    assert model.calls == 0


def test_patch_embeddings_of_every_tower_are_remainder():
    small = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 16}
    vision = {**small, "image_size": 8, "patch_size": 4}
    config = hf.CLIPConfig(text_config={**small, "vocab_size": 20}, vision_config=vision, projection_dim=6)
    model = hf.CLIPModel(config)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        partition = partition_model(model)
    assert {m.kind for m in partition.modules} == {"head", "ffn"}
    assert "vision_model.embeddings.patch_embedding.weight" in {s.parameter for s in partition.remainder}
    assert unrecognised(model, partition) == []


def test_a_convolutional_stem_is_no_patch_embedding():
    stem = torchvision.models.vision_transformer.ConvStemConfig(4, 3, 2)
    model = torchvision.models.VisionTransformer(8, 4, 1, 2, 8, 16, num_classes=5, conv_stem_configs=[stem, stem])
    partition = partition_model(model, filter_groups=2)
    first = {s.parameter.removeprefix("conv_proj.conv_bn_relu_0.") for s in module(partition, "conv0.filters0").slices}
    assert first == {"0.weight", "1.weight", "1.bias"}
    layers = partition_model(model, layers=True)
    assert layers.names == tuple(f"layer{i}" for i in range(4))
    assert {s.parameter.split(".")[0] for s in layers.modules[0].slices} == {"conv_proj"}
