"""The handwritten digits that come with scikit-learn: real 8x8 images, nothing to download."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mat.tasks.base import check_whole, fixed_order
from mat.tasks.images import ImageTask


@dataclass(frozen=True)
class Settings:
    """``shift``: training images move by up to this many pixels each way (0 = no augmentation)."""

    shift: int = 1

    def __post_init__(self) -> None:
        check_whole("digits setting 'shift'", self.shift, 0, 7)


def load(settings: Settings, data: Path | None, cache: Path) -> ImageTask:
    """1797 images [1, 8, 8] in a fixed split of 1197 / 300 / 300, each class spread evenly over it.

    ``data`` and ``cache`` are not used: the images are part of scikit-learn (UCI ML hand-written digits,
    test set; pixel values 0 … 16).
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = bunch.images.astype(np.uint8)[:, None]
    labels = bunch.target.astype(np.int64)
    index = stratified_sixths(labels)
    return ImageTask(
        "digits",
        {split: images[i] for split, i in index.items()},
        {split: labels[i] for split, i in index.items()},
        classes=10,
        shift=settings.shift,
        flip=False,
    )


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
