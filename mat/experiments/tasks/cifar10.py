"""CIFAR-10 (Krizhevsky 2009): 32x32 colour images of ten classes, from the hub or a mirror of it."""

from __future__ import annotations

from functools import partial

from mat.experiments.tasks import cifar
from mat.experiments.tasks.images.hub import HubImages
from mat.experiments.tasks.storage.mirror import Origin

ORIGIN = Origin(
    "uoft-cs/cifar10", "plain_text", "0b2714987fa478483af9968de7c934580d0bb9a2", {"train": 50_000, "test": 10_000}
)
IMAGES = HubImages("cifar10", ORIGIN, "img", "label", side=32, classes=10, test="test")


class Settings(cifar.Settings):
    __doc__ = cifar.Settings.__doc__


load, outline, sources = (partial(call, IMAGES) for call in (cifar.load, cifar.outline, cifar.sources))
