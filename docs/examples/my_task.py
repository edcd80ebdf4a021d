"""Is the bright bar upright or level? Made images, nothing to download."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from mat.experiments.tasks.base import Outline
from mat.experiments.tasks.images.classification import ImageTask, image_outline
from mat.experiments.tasks.images.decoded import Part, pictures_of
from mat.limits import Range, check_limits

SIZES = {"train": 160, "validation": 40, "test": 40}
SIDE = 8


@dataclass(frozen=True)
class Settings:
    """How hard it is."""

    noise: Annotated[int, Range(ge=1, le=200)] = 60
    """Grey levels of noise, of 255."""

    def __post_init__(self) -> None:
        check_limits(self)


def load(settings: Settings, data: Path | None, cache: Path) -> ImageTask:
    """Images [1, 8, 8] of noise with one bright column (class 0) or row (class 1), the same for every seed."""
    draws = np.random.Generator(np.random.PCG64(0))
    count = sum(SIZES.values())
    labels = np.arange(count) % 2
    images = draws.integers(0, settings.noise, (count, 1, SIDE, SIDE), dtype=np.uint8)
    for image, label, place in zip(images, labels, draws.integers(0, SIDE, count), strict=True):
        bar = image[0, place] if label else image[0, :, place]
        bar += 50
    pictures, parts, start = pictures_of(images, labels), {}, 0
    for split, size in SIZES.items():
        parts[split] = Part(pictures, np.arange(start, start + size))
        start += size
    return ImageTask("my_task", parts, classes=2, augment=None)


def outline(settings: Settings) -> Outline:
    """What is known before any data is read."""
    return image_outline((1, SIDE, SIDE), 2, dict(SIZES))


def sources(settings: Settings) -> tuple:
    """What has to be fetched: nothing."""
    return ()
