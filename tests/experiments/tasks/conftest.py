"""Small data in the hub's layout, made here, and slices of a real mirror where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.task_cases import case, task  # noqa: F401
from tests.experiments.tasks.made_images import write_folders, write_images
from tests.experiments.tasks.made_text import REAL, real_text, text_mirror, write_text  # noqa: F401

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
