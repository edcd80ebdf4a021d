"""CIFAR-10 (Krizhevsky 2009): 32x32 colour images of ten classes, from the hub or a mirror of it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mat.errors import InputError
from mat.tasks.base import check_whole, fixed_order
from mat.tasks.hub import Origin, cached_arrays, check_columns, content_key, load_split
from mat.tasks.images import ImageTask

ORIGIN = Origin("uoft-cs/cifar10", "plain_text", "0b2714987fa478483af9968de7c934580d0bb9a2")
CLASSES = 10
SIDE = 32
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
        if self.train_examples is not None:
            check_whole("cifar10 setting 'train_examples'", self.train_examples, 1)
        check_whole("cifar10 setting 'validation_examples'", self.validation_examples, 1)


def load(settings: Settings, data: Path | None, cache: Path) -> ImageTask:
    """The task, with crops (padding 4) and flips in training; images are decoded once and kept in ``cache``.

    Raises:
        InputError: files, columns or labels are not as on the hub, or too few training images.
    """
    official = {split: _decoded(split, data, cache) for split in ("train", "test")}
    images, labels = official["train"]["images"], official["train"]["labels"]
    left = len(labels) - settings.validation_examples
    if left < (settings.train_examples or 1):
        raise InputError(
            f"Expected at least {settings.train_examples or 1} training images beside the "
            f"{settings.validation_examples} held out for validation, got {left} of {len(labels)} in "
            f"{ORIGIN.repo}; lower the cifar10 settings 'train_examples' or 'validation_examples'."
        )
    order = fixed_order(len(labels), "cifar10", "split")
    held_out = np.sort(order[: settings.validation_examples])
    trained = np.sort(order[settings.validation_examples :][: settings.train_examples])
    return ImageTask(
        "cifar10",
        {"train": images[trained], "validation": images[held_out], "test": official["test"]["images"]},
        {"train": labels[trained], "validation": labels[held_out], "test": official["test"]["labels"]},
        classes=CLASSES,
        shift=CROP_PADDING,
        flip=True,
    )


def _decoded(split: str, data: Path | None, cache: Path) -> dict[str, np.ndarray]:
    """ "images" uint8 [N, 3, 32, 32] and "labels" int64 [N] of an official split, in file order."""
    path = cache / "cifar10" / f"{split}-{content_key(ORIGIN, split, data)[:16]}.npz"
    return cached_arrays(path, lambda: _decode(split, data, cache))


def _decode(split: str, data: Path | None, cache: Path) -> dict[str, np.ndarray]:
    from datasets import Image as ImageFeature

    rows = load_split(ORIGIN, split, data, cache)
    check_columns(rows, ORIGIN, split, ("img", "label"))
    labels = np.array(rows["label"], dtype=np.int64)
    if labels.min() < 0 or labels.max() >= CLASSES or (split == "train" and len(set(labels)) < CLASSES):
        raise InputError(
            f"Expected labels 0 to {CLASSES - 1} in split '{split}' of {ORIGIN.repo} (all of them in train), "
            f"got {sorted(set(labels.tolist()))}; check the files under the setting 'data' (MAT_DATA)."
        )
    encoded = rows.cast_column("img", ImageFeature(decode=False))["img"]
    images = np.stack([_pixels(entry["bytes"]) for entry in encoded])
    return {"images": images, "labels": labels}


def _pixels(encoded: bytes) -> np.ndarray:
    """uint8 [3, 32, 32] of an encoded image."""
    from PIL import Image

    with Image.open(io.BytesIO(encoded)) as image:
        width, height = image.size
        if (width, height) != (SIDE, SIDE):
            raise InputError(
                f"Expected images of {SIDE}x{SIDE} pixels in {ORIGIN.repo}, got {width}x{height}; "
                "check the files under the setting 'data' (MAT_DATA)."
            )
        return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
