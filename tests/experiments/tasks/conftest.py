"""Small data in the hub's layout, made here, and slices of a real mirror where there is one."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.contract.task_cases import case, task  # noqa: F401
from tests.experiments.tasks.made_text import real_text, text_mirror  # noqa: F401

REAL = Path(os.environ.get("MAT_DATA") or Path(__file__).resolve().parents[4] / "shared" / "data")
LINES = 240
CIFAR10 = "uoft-cs/cifar10/plain_text"
CIFAR100 = "uoft-cs/cifar100/cifar100"
TINY = "zh-plus/tiny-imagenet/data"
WIKITEXT = "Salesforce/wikitext/wikitext-2-raw-v1"
# rows of each split that are used of a real mirror; enough for every class to occur
SLICES = {
    CIFAR10: {"train": 300, "test": 60},
    CIFAR100: {"train": 1000, "test": 60},
    TINY: {"train": 600, "valid": 60},
    WIKITEXT: {"train": 1000, "validation": 200, "test": 200},
}


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


def write_text(folder: Path, split: str, count: int, seed: int) -> None:
    """A Parquet file of random lines with the hub's column: blank lines, titles and <unk> included."""
    import pandas as pd

    draws = np.random.default_rng(seed)
    words = ["the", "river", "ran", "<unk>", "north", "of", "a", "town", ",", "in", "1923", "."]
    lines = [" " + " ".join(draws.choice(words, size=draws.integers(5, 20))) + " \n" for _ in range(count)]
    lines[0], lines[1] = "", " = A title = \n"
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame({"text": lines}).to_parquet(folder / f"{split}-00000-of-00001.parquet", index=False)


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


@pytest.fixture
def image_writer() -> Callable[..., None]:
    """`write_images`, for tests that need files of their own."""
    return write_images


@pytest.fixture
def text_writer() -> Callable[..., None]:
    """`write_text`, for tests that need files of their own."""
    return write_text


@pytest.fixture
def folder_writer() -> Callable[..., None]:
    """`write_folders`, for tests that need files of their own."""
    return write_folders


@pytest.fixture(scope="session")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a made mirror: each image set with about a hundred images, WikiText with a few hundred lines."""
    root = tmp_path_factory.mktemp("mirror")
    fine = {"columns": ("img", "fine_label"), "classes": 100}
    tiny = {"columns": ("image", "label"), "classes": 7, "side": 64}
    for seed, (folder, split, count, options) in enumerate(
        (
            (CIFAR10, "train", 80, {}),
            (CIFAR10, "test", 20, {}),
            (CIFAR100, "train", 130, fine),
            (CIFAR100, "test", 20, fine),
            (TINY, "train", 90, tiny),
            (TINY, "valid", 20, tiny),
        )
    ):
        write_images(root / folder, split, count, seed, **options)
    for seed, (split, count) in enumerate((("train", 30), ("val", 8))):
        write_folders(root, split, count, seed, ("n01", "n02", "n03"))
    for seed, (split, count) in enumerate((("train", LINES), ("validation", 60), ("test", 60))):
        write_text(root / WIKITEXT, split, count, seed)
    return root


@pytest.fixture(scope="session")
def real_mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a mirror holding the first rows of the real files, of those data sets that are there."""
    from pyarrow import Table, parquet

    root = tmp_path_factory.mktemp("real")
    for folder, splits in SLICES.items():
        for split, count in splits.items():
            for source in (REAL / folder).glob(f"{split}-*.parquet"):
                first = next(parquet.ParquetFile(source).iter_batches(batch_size=count))
                (root / folder).mkdir(parents=True, exist_ok=True)
                parquet.write_table(Table.from_batches([first]), root / folder / source.name)
    return root
