"""Small image data in the layouts of the hub and of torchvision's ImageFolder."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    """An image file of ``pixels`` uint8 [H, W, 3] or, grey, [H, W]."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def write_images(
    folder: Path,
    split: str,
    count: int,
    seed: int,
    labels: list[int] | None = None,
    *,
    side: int = 32,
    columns: tuple[str, str] = ("img", "label"),
    classes: int = 10,
    part: str = "00000-of-00001",
) -> None:
    """A Parquet file of random PNG images with the hub's features; where the columns are Tiny-ImageNet's, every fifth
    is grey."""
    from datasets import ClassLabel, Dataset, Features, Image

    image, label = columns
    pixels = np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    files = [encoded(p[..., 0] if image == "image" and i % 5 == 0 else p) for i, p in enumerate(pixels)]
    rows = {
        image: [{"bytes": file, "path": None} for file in files],
        label: labels or [i % classes for i in range(count)],
    }
    features = Features({image: Image(), label: ClassLabel(num_classes=classes)})
    folder.mkdir(parents=True, exist_ok=True)
    Dataset.from_dict(rows, features=features).to_parquet(folder / f"{split}-{part}.parquet")


def write_folders(root: Path, split: str, count: int, seed: int, classes: tuple[str, ...]) -> None:
    """``count`` random JPEG files of each class, of different sizes, in torchvision's ImageFolder layout."""
    draws = np.random.default_rng(seed)
    for name in classes:
        folder = root / "imagenet" / split / name
        folder.mkdir(parents=True)
        for i in range(count):
            height, width = draws.integers(20, 60, 2)
            pixels = draws.integers(0, 256, (height, width, 3), dtype=np.uint8)
            (folder / f"{name}_{i}.JPEG").write_bytes(encoded(pixels, "JPEG"))
