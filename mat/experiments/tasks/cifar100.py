"""CIFAR-100 (Krizhevsky 2009): 32x32 colour images of a hundred (fine) classes, from the hub or a mirror of it."""

from __future__ import annotations

from functools import partial

from mat.experiments.tasks import cifar
from mat.experiments.tasks.images.hub import HubImages
from mat.experiments.tasks.storage.mirror import Origin

ORIGIN = Origin(
    "uoft-cs/cifar100", "cifar100", "aadb3af77e9048adbea6b47c21a81e47dd092ae5", {"train": 50_000, "test": 10_000}
)
IMAGES = HubImages("cifar100", ORIGIN, "img", "fine_label", side=32, classes=100, test="test")


class Settings(cifar.Settings):
    __doc__ = cifar.Settings.__doc__


load, outline, sources = (partial(call, IMAGES) for call in (cifar.load, cifar.outline, cifar.sources))
