"""CIFAR-10 (Krizhevsky 2009): 32x32 colour images of ten classes, from the hub or a mirror of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mat.tasks.augment import shift_and_flip
from mat.tasks.base import Outline
from mat.tasks.hub import Origin, Source
from mat.tasks.hub_images import HubImages, hub_image_outline, hub_image_task
from mat.tasks.images import ImageTask, check_division

ORIGIN = Origin(
    "uoft-cs/cifar10",
    "plain_text",
    "0b2714987fa478483af9968de7c934580d0bb9a2",
    {"train": 50_000, "test": 10_000},
)
IMAGES = HubImages("cifar10", ORIGIN, "img", "label", side=32, classes=10, test="test")
CROP_PADDING = 4


@dataclass(frozen=True)
class Settings:
    """How the official training split is divided; the official test split is the test, read once at the end.

    ``validation_examples`` of it are held out, always the same ones; of the others the first
    ``train_examples`` in a fixed random order are trained on (None = all).
    """

    train_examples: int | None = None
    validation_examples: int = 5000

    def __post_init__(self) -> None:
        check_division("cifar10", self.train_examples, self.validation_examples)


def load(settings: Settings, data: Path | None, cache: Path) -> ImageTask:
    """The task, with crops (padding 4) and flips in training; images are decoded once and kept in ``cache``.

    Raises:
        InputError: files, columns, images or labels are not as on the hub, or too few training images.
    """
    augment = partial(shift_and_flip, shift=CROP_PADDING)
    return hub_image_task(IMAGES, _examples(settings), None, augment, data, cache)


def outline(settings: Settings) -> Outline:
    """The task's form and sizes, by the published counts."""
    return hub_image_outline(IMAGES, _examples(settings), None)


def sources(settings: Settings) -> tuple[Source, ...]:
    """What has to be fetched."""
    return (ORIGIN,)


def _examples(settings: Settings) -> tuple[int | None, int | None]:
    return settings.train_examples, settings.validation_examples
