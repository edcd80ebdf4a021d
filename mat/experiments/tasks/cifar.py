"""What CIFAR-10 and CIFAR-100 (Krizhevsky 2009) share: how their training split is divided, and how it is augmented."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mat.experiments.tasks.base import Count, Outline
from mat.experiments.tasks.images.augment import augmentation
from mat.experiments.tasks.images.classification import ImageTask
from mat.experiments.tasks.images.hub import HubImages, hub_image_outline, hub_image_task
from mat.experiments.tasks.label_noise import NoiseShare
from mat.experiments.tasks.storage.mirror import Origin
from mat.limits import check_limits


@dataclass(frozen=True)
class Settings:
    """How the official training split is divided; the official test split is the test, read once at the end."""

    train_examples: Count | None = None
    """Images trained on: the first so many in a fixed random order; none: all."""
    validation_examples: Count = 5000
    """Images of the official training split that are held out, always the same ones."""
    label_noise: NoiseShare = 0.0
    """Share of the training labels that is replaced by another class, always the same ones."""

    def __post_init__(self) -> None:
        check_limits(self)


def load(images: HubImages, settings: Settings, data: Path | None, cache: Path) -> ImageTask:
    """The task, with crops (padding 4) and flips in training; images are decoded once and kept in ``cache``.

    Raises InputError: files, columns, images or labels are not as on the hub, or too few training images.
    """
    augment = augmentation("crop", images.side)
    return hub_image_task(images, settings, None, augment, data, cache, settings.label_noise)


def outline(images: HubImages, settings: Settings) -> Outline:
    """The task's signature and sizes, by the published counts."""
    return hub_image_outline(images, settings, None)


def sources(images: HubImages, settings: Settings) -> tuple[Origin, ...]:
    """What has to be fetched."""
    return (images.origin,)
