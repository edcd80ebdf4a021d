"""The handwritten digits that come with scikit-learn: real 8x8 images, nothing to download."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np

from mat.experiments.tasks.base import Outline, fixed_order
from mat.experiments.tasks.images.augment import random_shift
from mat.experiments.tasks.images.classification import ImageTask, image_outline
from mat.experiments.tasks.images.decoded import Part, pictures_of
from mat.experiments.tasks.label_noise import NoiseShare
from mat.experiments.tasks.storage.mirror import Source
from mat.limits import Range, check_limits

CLASSES = 10
SIZES = {"train": 1197, "validation": 300, "test": 300}


@dataclass(frozen=True)
class Settings:
    """How training images and labels are changed."""

    shift: Annotated[int, Range(ge=0, le=7)] = 1
    """Training images move by up to this many pixels each way; 0: no augmentation."""
    label_noise: NoiseShare = 0.0
    """Share of the training labels that is replaced by another class, always the same ones."""

    def __post_init__(self) -> None:
        check_limits(self)


def load(settings: Settings, data: Path | None, cache: Path) -> ImageTask:
    """1797 images [1, 8, 8] in a fixed split of 1197 / 300 / 300, each class spread evenly over it.

    ``data`` and ``cache`` are not used: the images are part of scikit-learn (UCI ML hand-written digits,
    test set; pixel values 0 … 16).
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    labels = bunch.target.astype(np.int64)
    pictures = pictures_of(bunch.images.astype(np.uint8)[:, None], labels)
    parts = {split: Part(pictures, rows) for split, rows in stratified_sixths(labels).items()}
    augment = partial(random_shift, shift=settings.shift) if settings.shift else None
    return ImageTask("digits", parts, CLASSES, augment, settings.label_noise)


def outline(settings: Settings) -> Outline:
    """The task's signature and sizes."""
    return image_outline((1, 8, 8), CLASSES, dict(SIZES))


def sources(settings: Settings) -> tuple[Source, ...]:
    """Nothing: the images are part of scikit-learn."""
    return ()


def stratified_sixths(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Indices of a fixed split: of each run of six samples of one class, one each to validation and test.

    ``labels`` [N] -> "train" about 4N/6, "validation" and "test" about N/6 each, no run seed involved.
    """
    order = fixed_order(len(labels), "digits", "split")
    by_class = order[np.argsort(labels[order], kind="stable")]
    place = np.arange(len(labels)) % 6
    return {
        "train": np.sort(by_class[place > 1]),
        "validation": np.sort(by_class[place == 0]),
        "test": np.sort(by_class[place == 1]),
    }
