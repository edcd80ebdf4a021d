"""ResNet of basic blocks (torchvision's class): ResNet-18 unless told otherwise, for large and for small images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from mat.errors import InputError
from mat.experiments.models.checks import LayerCount, Width
from mat.experiments.models.closed_form import REMAINDER, Work, product
from mat.experiments.models.closed_form_convolutions import Chain, Conv, Network, Part, Sum
from mat.experiments.task_signature import Signature, check_signature
from mat.limits import check_limits
from mat.partition.discovery import partition_model
from mat.partition.partition import Partition


@dataclass(frozen=True)
class Settings:
    """Stages of basic blocks."""

    blocks: tuple[LayerCount, ...] = (2, 2, 2, 2)
    """Basic blocks of each of the four stages: [2, 2, 2, 2] is ResNet-18, [3, 4, 6, 3] ResNet-34."""
    stem: Literal["imagenet", "small"] = "imagenet"
    """imagenet (7×7 with stride 2, and max pooling) or small (3×3 with stride 1, for images of 32 or 64 pixels)."""
    width: Width = 64
    """Filters of the first stage, doubled by each that follows."""
    filter_groups: Width = 4
    """Modules per convolution."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", tuple(self.blocks))
        check_limits(self)
        if len(self.blocks) != 4:
            raise InputError(f"blocks must be four whole numbers ≥ 1, one per stage, got {self.blocks}")
        if self.width % self.filter_groups:
            raise InputError(
                f"a width that filter_groups divides is expected, got width={self.width}, "
                f"filter_groups={self.filter_groups}"
            )


def build(settings: Settings, signature: Signature) -> nn.Module:
    """A ``torchvision.models.ResNet`` for images of the example's shape (1, C, H, W)."""
    from torchvision.models.resnet import BasicBlock, ResNet

    check_signature("resnet", signature, "image_classification")
    channels, width = signature.example["x"].shape[1], settings.width
    with torch.device("meta"):  # torchvision's constructor knows one width only; its method makes any stage
        model = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=signature.outputs)
    if settings.stem == "small":
        model.conv1, model.maxpool = nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.Identity()
    else:
        model.conv1 = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
    model.bn1, model.inplanes = nn.BatchNorm2d(width), width
    for stage, count in enumerate(settings.blocks):
        made = model._make_layer(BasicBlock, width << stage, count, stride=2 if stage else 1)
        setattr(model, f"layer{stage + 1}", made)
    model.fc = nn.Linear(width << 3, signature.outputs)
    for module in model.modules():  # as torchvision does
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


def partition(settings: Settings, model: nn.Module) -> Partition:
    return partition_model(model, filter_groups=settings.filter_groups)


def work(settings: Settings, signature: Signature, batch: int) -> Network:
    """Multiply-adds of one training step of ``batch`` images, per module and for the remainder.

    A k×k convolution costs k²·C_in·C_out·H·W forward, H·W its output's pixels, and as much for either gradient; a
    stride of 2 halves H and W, rounded up. Filter groups share evenly. Of a stage's first block but the first
    stage's the shortcut is a 1×1 convolution, elsewhere an identity. The rest is as in ``vgg.work``.
    """
    check_signature("resnet", signature, "image_classification")
    _, channels, height, width = signature.example["x"].shape
    found: dict[str, Work] = {}
    depth = 0

    def conv(kernel: int, inputs: int, outputs: int) -> Conv:
        """The next convolution in the model's order, onto the current ``height`` and ``width``."""
        nonlocal depth
        made = Conv.of(depth, settings.filter_groups)
        macs = batch * kernel**2 * inputs * outputs * height * width
        found.update(made.work(macs, images=depth == 0))
        depth += 1
        return made

    parts: list[Part] = []
    if settings.stem == "small":
        parts.append(conv(3, channels, settings.width))
    else:
        height, width = -(-height // 2), -(-width // 2)
        parts.append(conv(7, channels, settings.width))
        height, width = -(-height // 2), -(-width // 2)  # the pooling
    channels = settings.width
    for stage, count in enumerate(settings.blocks):
        outputs = settings.width << stage
        for block in range(count):
            halved = stage > 0 and block == 0
            if halved:
                height, width = -(-height // 2), -(-width // 2)
            body = Chain((conv(3, channels, outputs), conv(3, outputs, outputs)))
            parts.append(Sum((body, conv(1, channels, outputs) if halved else Chain())))
            channels = outputs
    return Network(Chain(tuple(parts)), found | {REMAINDER: product(batch * channels * signature.outputs)})
