"""Tiny-ImageNet: 64x64 colour images of 200 of ImageNet's classes, from the hub or a mirror of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from mat.experiments.tasks.base import Count, Outline
from mat.experiments.tasks.images.augment import AUGMENTATIONS, augmentation
from mat.experiments.tasks.images.classification import ImageTask
from mat.experiments.tasks.images.hub import HubImages, hub_image_outline, hub_image_task
from mat.experiments.tasks.storage.mirror import Origin, Source
from mat.limits import Range, check_limits

ORIGIN = Origin(
    "zh-plus/tiny-imagenet", "data", "5a77092c28e51558c5586e9c5eb71a7e17a5e43f", {"train": 100_000, "valid": 10_000}
)
SIDE = 64
IMAGES = HubImages("tiny_imagenet", ORIGIN, "image", "label", side=SIDE, classes=200, test="valid", fewer=True)


@dataclass(frozen=True)
class Settings:
    """Which classes, how the official training split is divided, and how training images are augmented.

    The published test labels are secret, so the official validation split is the test, read once at the end.
    """

    classes: Annotated[int, Range(ge=2, le=IMAGES.classes)] | None = None
    """The first so many classes; none: all that there are."""
    train_examples: Count | None = None
    """Images trained on: the first so many in a fixed random order; none: all."""
    validation_examples: Count | None = None
    """Images of the official training split that are held out, always the same ones; none: one in twenty."""
    augment: Literal[AUGMENTATIONS] = "crop"
    """Of training images: crop (after padding by 8 pixels) or resized_crop, both with flips, or none."""

    def __post_init__(self) -> None:
        check_limits(self)


def load(settings: Settings, data: Path | None, cache: Path) -> ImageTask:
    """The task; images are decoded once and kept in ``cache``, grey ones as RGB.

    A mirror may hold the first few classes only; the task then has as many. Raises InputError: files, columns, images
    or labels are not as on the hub, or too few training images or classes.
    """
    augment = augmentation(settings.augment, SIDE)
    return hub_image_task(IMAGES, settings, settings.classes, augment, data, cache)


def outline(settings: Settings) -> Outline:
    """The task's signature and sizes, by the published counts: of each class 500 images for training, 50 as test."""
    return hub_image_outline(IMAGES, settings, settings.classes)


def sources(settings: Settings) -> tuple[Source, ...]:
    """What has to be fetched."""
    return (ORIGIN,)
