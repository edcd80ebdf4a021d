"""Small data in the hub's layout, made here, and a slice of a real mirror where there is one."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest

from tests.tasks.made_text import real_text, text_mirror  # noqa: F401

REAL = Path(os.environ.get("MAT_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
LINES = 240
CIFAR10 = "uoft-cs/cifar10/plain_text"
WIKITEXT = "Salesforce/wikitext/wikitext-2-raw-v1"


def write_images(folder: Path, split: str, count: int, seed: int, labels: list[int] | None = None) -> None:
    """A Parquet file of random PNG images with the hub's columns and features."""
    from datasets import ClassLabel, Dataset, Features, Image
    from PIL import Image as Picture

    pixels = np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    encoded = []
    for array in pixels:
        buffer = io.BytesIO()
        Picture.fromarray(array).save(buffer, "PNG")
        encoded.append({"bytes": buffer.getvalue(), "path": None})
    labels = labels or [i % 10 for i in range(count)]
    features = Features({"img": Image(), "label": ClassLabel(num_classes=10)})
    folder.mkdir(parents=True, exist_ok=True)
    rows = Dataset.from_dict({"img": encoded, "label": labels}, features=features)
    rows.to_parquet(folder / f"{split}-00000-of-00001.parquet")


def write_text(folder: Path, split: str, count: int, seed: int) -> None:
    """A Parquet file of random lines with the hub's column: blank lines, titles and <unk> included."""
    import pandas as pd

    draws = np.random.default_rng(seed)
    words = ["the", "river", "ran", "<unk>", "north", "of", "a", "town", ",", "in", "1923", "."]
    lines = [" " + " ".join(draws.choice(words, size=draws.integers(5, 20))) + " \n" for _ in range(count)]
    lines[0], lines[1] = "", " = A title = \n"
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame({"text": lines}).to_parquet(folder / f"{split}-00000-of-00001.parquet", index=False)


@pytest.fixture
def image_writer():
    """`write_images`, for tests that need files of their own."""
    return write_images


@pytest.fixture
def text_writer():
    """`write_text`, for tests that need files of their own."""
    return write_text


@pytest.fixture(scope="session")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a made mirror: CIFAR-10 with 80 + 20 images, WikiText with a few hundred lines."""
    root = tmp_path_factory.mktemp("mirror")
    write_images(root / CIFAR10, "train", 80, 0)
    write_images(root / CIFAR10, "test", 20, 1)
    for seed, (split, count) in enumerate((("train", LINES), ("validation", 60), ("test", 60))):
        write_text(root / WIKITEXT, split, count, seed)
    return root


@pytest.fixture(scope="session")
def real_mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a mirror holding the first rows of the real files."""
    from pyarrow import Table, parquet

    root = tmp_path_factory.mktemp("real")
    wanted = {CIFAR10: {"train": 300, "test": 60}}
    wanted[WIKITEXT] = {"train": 1000, "validation": 200, "test": 200}
    for folder, splits in wanted.items():
        for split, count in splits.items():
            source = REAL / folder / f"{split}-00000-of-00001.parquet"
            if not source.exists():
                pytest.skip(f"no real data: {source} is missing; MAT_DATA can name the root of a mirror")
            first = next(parquet.ParquetFile(source).iter_batches(batch_size=count))
            (root / folder).mkdir(parents=True, exist_ok=True)
            parquet.write_table(Table.from_batches([first]), root / folder / source.name)
    return root
