"""VGG (torchvision's class) for small images: its features, global pooling, one linear layer (ambiguity A10)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mat.errors import InputError
from mat.partition import Partition
from mat.structure import partition_model


@dataclass(frozen=True)
class Settings:
    """``plan``: widths of the 3×3 convolutions, 'M' for 2×2 max pooling, as in torchvision;
    ``filter_groups``: modules per convolution."""

    plan: tuple[int | str, ...] = (16, 16, "M", 32, 32, "M", 64, 64, "M")
    batch_norm: bool = True
    filter_groups: int = 4

    def __post_init__(self) -> None:
        object.__setattr__(self, "plan", tuple(self.plan))
        bad = [entry for entry in self.plan if entry != "M" and not (isinstance(entry, int) and entry > 0)]
        if bad or all(entry == "M" for entry in self.plan):
            raise InputError(f"plan must hold widths > 0 and 'M', with one width at least, got {self.plan}")
        if self.filter_groups < 1:
            raise InputError(f"filter_groups must be ≥ 1, got {self.filter_groups}")
        uneven = [w for w in self.plan if w != "M" and w % self.filter_groups]
        if uneven:
            raise InputError(f"filter_groups={self.filter_groups} does not divide the width {uneven[0]}")


def build(settings: Settings, example: Mapping[str, Tensor], outputs: int) -> nn.Module:
    """A ``torchvision.models.VGG`` for images of the shape (1, C, H, W) of ``example['x']``."""
    from torchvision.models.vgg import VGG

    if set(example) != {"x"} or example["x"].dim() != 4:
        raise InputError("model vgg needs an image task (inputs x of shape (1, C, H, W))")
    _, channels, height, _ = example["x"].shape
    if height >> settings.plan.count("M") < 1:
        raise InputError(
            f"plan has {settings.plan.count('M')} poolings, too many for images of {height} pixels"
        )
    layers: list[nn.Module] = []
    for entry in settings.plan:
        if entry == "M":
            layers.append(nn.MaxPool2d(2))
            continue
        layers.append(nn.Conv2d(channels, entry, 3, padding=1))
        layers += [nn.BatchNorm2d(entry)] if settings.batch_norm else []
        layers.append(nn.ReLU(inplace=True))
        channels = entry
    with torch.device("meta"):  # its ImageNet classifier of 120 million weights is replaced, so never made
        model = VGG(nn.Sequential(), num_classes=outputs, init_weights=False)
    model.features = nn.Sequential(*layers)
    model.avgpool, model.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(channels, outputs)
    model.apply(_initialise)
    return model


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


def closed_form(
    settings: Settings,
    example: Mapping[str, Tensor],
    outputs: int,
    batch: int,
    active: Collection[str],
    mode: str,
) -> int:
    """Multiply-adds of one training step (forward and backward) of ``batch`` images.

    A 3×3 convolution costs 9·C_in·C_out·H·W forward, the same for its input's gradient and for its weight's,
    the latter by the share of active filters; in ``detach`` so is the former. Normalisation, activation and
    pooling are not products and count nothing. The gradient of the images is never computed; a layer gets
    gradients only while every layer above it sends some down, and computes its input's only while something
    below it trains.
    """
    _, channels, height, width = example["x"].shape
    layers: list[tuple[int, float]] = []
    for entry in settings.plan:
        if entry == "M":
            height, width = height // 2, width // 2
            continue
        groups = [f"conv{len(layers)}.filters{g}" for g in range(settings.filter_groups)]
        share = sum(name in active for name in groups) / settings.filter_groups
        layers.append((batch * 9 * channels * entry * height * width, share))
        channels = entry
    trains_below, below = [], False
    for _, share in layers:
        trains_below.append(below)
        below = share > 0 or (mode == "exact" and below)
    classifier = batch * channels * outputs
    total = sum(macs for macs, _ in layers) + 2 * classifier + (classifier if below else 0)
    for (macs, share), input_needed in reversed(list(zip(layers, trains_below, strict=True))):
        total += round(macs * share)
        if input_needed:
            total += macs if mode == "exact" else round(macs * share)
        if not input_needed or (mode == "detach" and share == 0):
            break
    return total
