"""VGG (torchvision's class) for small images: its features, global pooling, one linear layer (ambiguity A10)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from mat.errors import InputError
from mat.experiments.checks import check_most
from mat.experiments.models.checks import MOST_LAYERS, MOST_WIDTH, Factor, Width
from mat.experiments.models.closed_form import REMAINDER, product
from mat.experiments.models.closed_form_convolutions import Chain, Conv, Network
from mat.experiments.task_signature import Signature, check_signature
from mat.limits import check_limits
from mat.partition.discovery import partition_model
from mat.partition.partition import Partition

WIDTHS = (64, 128, 256, 512, 512)  # of the stages, each ended by a pooling (Simonyan and Zisserman 2015, table 1)
NAMED = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2,) * 5, "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}  # layers


@dataclass(frozen=True)
class Settings:
    """Convolutions, as in torchvision, and one linear layer."""

    plan: tuple[Width | Literal["M"], ...] | Literal[tuple(NAMED)] = (16, 16, "M", 32, 32, "M", 64, 64, "M")
    """Widths of the 3×3 convolutions with M for 2×2 max pooling, or vgg11, vgg13, vgg16 or vgg19."""
    batch_norm: bool = True
    """Whether every convolution is followed by batch norm."""
    filter_groups: Width = 4
    """Modules per convolution."""
    width: Factor = 1
    """Factor on every width."""

    def __post_init__(self) -> None:
        if not isinstance(self.plan, str):
            object.__setattr__(self, "plan", tuple(self.plan))
            check_most("the number of entries of plan", len(self.plan), MOST_LAYERS)
        check_limits(self)
        entries = _entries(self)
        if all(entry == "M" for entry in entries):
            raise InputError(f"plan must hold widths > 0 and 'M', with one width at least, got {self.plan}")
        for entry in entries:
            if entry != "M" and abs(entry * self.width - round(entry * self.width)) > 1e-6:
                raise InputError(f"width={self.width} makes {entry} filters {entry * self.width:g}, no whole number")
        check_most("the widest convolution", max(w for w in layers(self) if w != "M"), MOST_WIDTH)
        uneven = [w for w in layers(self) if w != "M" and (w < 1 or w % self.filter_groups)]
        if uneven:
            raise InputError(f"filter_groups={self.filter_groups} does not divide the width {uneven[0]}")


def layers(settings: Settings) -> tuple[int | str, ...]:
    """The plan as it is built: widths and 'M'."""
    return tuple(entry if entry == "M" else round(entry * settings.width) for entry in _entries(settings))


def _entries(settings: Settings) -> tuple[int | str, ...]:
    if not isinstance(settings.plan, str):
        return settings.plan
    stages = zip(WIDTHS, NAMED[settings.plan], strict=True)
    return tuple(entry for width, count in stages for entry in (*[width] * count, "M"))


def build(settings: Settings, signature: Signature) -> nn.Module:
    """A ``torchvision.models.VGG`` for images of the example's shape (1, C, H, W)."""
    from torchvision.models.vgg import VGG

    channels, _, _ = _image(settings, signature)
    features: list[nn.Module] = []
    for entry in layers(settings):
        if entry == "M":
            features.append(nn.MaxPool2d(2))
            continue
        features.append(nn.Conv2d(channels, entry, 3, padding=1))
        features += [nn.BatchNorm2d(entry)] if settings.batch_norm else []
        features.append(nn.ReLU(inplace=True))
        channels = entry
    with torch.device("meta"):  # its ImageNet classifier of 120 million weights is replaced, so never made
        model = VGG(nn.Sequential(), num_classes=signature.outputs, init_weights=False)
    model.features = nn.Sequential(*features)
    model.avgpool, model.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(channels, signature.outputs)
    model.apply(_initialise)
    return model


def _image(settings: Settings, signature: Signature) -> tuple[int, int, int]:
    """(C, H, W) of the example. Raises InputError for inputs that are no images or too small to be pooled."""
    check_signature("vgg", signature, "image_classification")
    _, channels, height, width = signature.example["x"].shape
    poolings = layers(settings).count("M")
    if min(height, width) >> poolings < 1:
        raise InputError(f"plan has {poolings} poolings, too many for images of {min(height, width)} pixels")
    return channels, height, width


def _initialise(module: nn.Module) -> None:
    """VGG's own initialisation in torchvision: Kaiming for convolutions, N(0, 0.01²) for linear layers."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0, 0.01)
        nn.init.zeros_(module.bias)


def partition(settings: Settings, model: nn.Module) -> Partition:
    return partition_model(model, filter_groups=settings.filter_groups)


def work(settings: Settings, signature: Signature, batch: int) -> Network:
    """Multiply-adds of one training step of ``batch`` images, per module and for the remainder.

    A 3×3 convolution costs 9·C_in·C_out·H·W forward, the same for its input's gradient and for its weight's;
    its filter groups share evenly. The remainder's products are the classifier. Normalisation, activation and
    pooling are not products and count nothing. The gradient of the images is never computed. Raises InputError for
    inputs that are no images or too small.
    """
    channels, height, width = _image(settings, signature)
    found, convs = {}, []
    for entry in layers(settings):
        if entry == "M":
            height, width = height // 2, width // 2
            continue
        conv = Conv.of(len(convs), settings.filter_groups)
        found |= conv.work(batch * 9 * channels * entry * height * width, images=not convs)
        convs.append(conv)
        channels = entry
    return Network(Chain(tuple(convs)), found | {REMAINDER: product(batch * channels * signature.outputs)})
