"""VGG (torchvision's class) for small images: its features, global pooling, one linear layer (ambiguity A10)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import nn

from mat.errors import InputError
from mat.form import Form, check_form
from mat.models.work import REMAINDER, Work, Works, check, product
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


def build(settings: Settings, form: Form) -> nn.Module:
    """A ``torchvision.models.VGG`` for images of the example's shape (1, C, H, W)."""
    from torchvision.models.vgg import VGG

    channels, _, _ = _image(settings, form)
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
        model = VGG(nn.Sequential(), num_classes=form.outputs, init_weights=False)
    model.features = nn.Sequential(*layers)
    model.avgpool, model.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(channels, form.outputs)
    model.apply(_initialise)
    return model


def _image(settings: Settings, form: Form) -> tuple[int, int, int]:
    """(C, H, W) of the example. Raises InputError for inputs that are no images or too small to be pooled."""
    check_form("vgg", form, "image_classification")
    _, channels, height, width = form.example["x"].shape
    if min(height, width) >> settings.plan.count("M") < 1:
        raise InputError(
            f"plan has {settings.plan.count('M')} poolings, too many for images of {min(height, width)} pixels"
        )
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


def work(settings: Settings, form: Form, batch: int) -> dict[str, Work]:
    """Multiply-adds of one training step of ``batch`` images, per module and for the remainder.

    A 3×3 convolution costs 9·C_in·C_out·H·W forward, the same for its input's gradient and for its weight's;
    its filter groups share evenly. The remainder's products are the classifier. Normalisation, activation and
    pooling are not products and count nothing. The gradient of the images is never computed. Raises InputError for
    inputs that are no images or too small.
    """
    channels, height, width = _image(settings, form)
    found: dict[str, Work] = {}
    depth = 0
    for entry in settings.plan:
        if entry == "M":
            height, width = height // 2, width // 2
            continue
        macs = batch * 9 * channels * entry * height * width // settings.filter_groups
        for g in range(settings.filter_groups):
            found[f"conv{depth}.filters{g}"] = Work(macs, macs, macs if depth else 0)
        channels, depth = entry, depth + 1
    return found | {REMAINDER: product(batch * channels * form.outputs)}


def step(work: Works, active: Collection[str], mode: str) -> int:
    """Multiply-adds of a step with these modules active; ``work`` in the order of depth, as ``work`` gives it.

    A layer gets gradients only while every layer above it sends some down (in ``detach`` one that is wholly
    inactive sends none), and computes its input's only while something below it trains; in ``detach`` only for
    the channels of active filters below. Raises InputError for an unknown mode or module.
    """
    active = check(work, active, mode)
    layers = [(group, [name in active for name in group]) for group in _layers(work)]
    shares, below = [], 0.0  # of the channels of a layer's input, those whose gradient somebody reads
    for _, on in layers:
        shares.append(below)
        below = sum(on) / len(on) if mode == "detach" else float(any(on) or below > 0)
    rest = work[REMAINDER]
    total = sum(one.forward for one in work.values()) + rest.weight + (rest.input if below else 0)
    for (group, on), share in reversed(list(zip(layers, shares, strict=True))):
        trained = [work[name] for name, is_on in zip(group, on, strict=True) if is_on]
        total += sum(one.weight for one in trained)
        total += round(
            share * sum(one.input for one in (trained if mode == "detach" else map(work.get, group)))
        )
        if not share or (mode == "detach" and not trained):
            break
    return total


def extremes(work: Works, count: int, mode: str) -> tuple[int, int]:
    """Least and most multiply-adds of ``step`` over all active sets of ``count`` modules.

    By dynamic programming from the lowest layer up over the number of active modules so far, how many of them
    are in the layer just below, and whether anything trains there or further down. Raises InputError for an
    unknown mode or an impossible count.
    """
    check(work, (), mode)
    if not 0 <= count < len(work):
        raise InputError(f"there are {len(work) - 1} modules, so {count} of them cannot be active")
    states = {(0, 0, False): (0, 0)}
    layers = _layers(work)
    size = len(layers[0])
    for group in layers:
        one, found = work[group[0]], {}
        for (used, last, below), costs in states.items():
            for on in range(min(size, count - used) + 1):
                key = (used + on, on, on > 0 or (mode == "exact" and below))
                share = last / size if mode == "detach" else float(below)
                through = round(share * (on if mode == "detach" else size) * one.input)
                # in detach a wholly inactive layer lets nothing through, whatever is active below it
                here = [cost + on * one.weight + through if key[2] else 0 for cost in costs]
                known = found.get(key, here)
                found[key] = (min(known[0], here[0]), max(known[1], here[1]))
        states = found
    rest = work[REMAINDER]
    base = sum(each.forward for each in work.values()) + rest.weight
    ends = [
        [base + cost + (rest.input if below else 0) for cost in costs]
        for (used, _, below), costs in states.items()
        if used == count
    ]
    return min(low for low, _ in ends), max(high for _, high in ends)


def _layers(work: Works) -> list[list[str]]:
    """Names of the filter groups, layer by layer from the images up."""
    names = (name for name in work if name != REMAINDER)
    return [list(group) for _, group in groupby(names, key=lambda name: name.partition(".")[0])]


def closed_form(settings: Settings, form: Form, batch: int, active: Collection[str], mode: str) -> int:
    """Multiply-adds of one training step (forward and backward) of ``batch`` images: ``step`` of ``work``."""
    return step(work(settings, form, batch), active, mode)
